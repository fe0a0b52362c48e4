"""`resume`: continue a stopped run."""

import argparse
import gc
from pathlib import Path

from harness.cli.output import step_printer
from harness.cli.parser import OneLineParser, Subparsers
from harness.cli.ranks import by_ranks
from harness.config.schema import Config
from harness.console import say
from harness.errors import UsageError
from harness.run.history import unfinished


def add(subparsers: Subparsers) -> None:
    parser: OneLineParser = subparsers.add_parser(
        "resume",
        allow_abbrev=False,
        help="continue a stopped run as if it had never stopped",
    )
    parser.add_argument("run", metavar="RUN", help="folder of an unfinished run")
    parser.add_argument(
        "--nproc", type=int, metavar="int", help="ranks to start on this host (default: as recorded in the run)"
    )
    parser.set_defaults(start=run)


def run(options: argparse.Namespace) -> None:
    path = Path(options.run)
    config = with_nproc(unfinished(path).config, options.nproc)
    if by_ranks(config, options.arguments, path, is_new=False):
        return
    from harness.resume import resume

    gc.freeze()  # imports never become garbage; without this every full collection would scan them
    folder = resume(path, step_printer(config.run.steps), say)
    say(f"finished: {folder.path}")


def with_nproc(config: Config, nproc: int | None) -> Config:
    """The config with another number of ranks. Raises UsageError for several ranks under --backend torch."""
    if nproc is None:
        return config
    if nproc < 1 or (nproc > 1 and config.backend.backend == "torch"):
        expected = "1 or more" if nproc < 1 else "1 for a run with --backend torch, which is one process"
        raise UsageError(f"--nproc: expected {expected}, got {nproc}")
    return config.model_copy(update={"backend": config.backend.model_copy(update={"nproc": nproc})})
