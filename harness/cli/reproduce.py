"""`reproduce`: repeat a recorded run and compare the results."""

import argparse
from pathlib import Path

from harness.cli.flags import default_folder
from harness.cli.output import step_printer
from harness.cli.parser import OneLineParser, Subparsers
from harness.cli.ranks import by_ranks
from harness.console import say
from harness.errors import HarnessError
from harness.run.history import read_history


def add(subparsers: Subparsers) -> None:
    parser: OneLineParser = subparsers.add_parser(
        "reproduce",
        allow_abbrev=False,
        help="run a recorded run again and check that it is identical; exit code 1 if it is not",
    )
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--steps", type=int, help="compare only the first N steps (default: all)")
    parser.add_argument("--output_dir", metavar="DIR", help="new folder (default: runs/<time>-reproduced-<RUN>)")
    parser.set_defaults(start=run)


def run(options: argparse.Namespace) -> None:
    history = read_history(Path(options.run))
    from harness.compare.divergence import agreement, explained
    from harness.compare.reproduce import comparable_steps, reproduce
    from harness.loop import ranks_of

    steps = comparable_steps(history, options.steps)
    history.check_records()
    name = Path(options.run).absolute().name
    out = Path(options.output_dir) if options.output_dir else default_folder(f"reproduced-{name}")
    if by_ranks(history.config, [*options.arguments, "--output_dir", str(out)], out, is_new=True):
        return
    divergence = reproduce(history, out, steps, step_printer(steps), say)
    if not ranks_of(history.config).is_first:
        return
    if divergence:
        say("\n".join(explained(history, read_history(out), divergence)))
        raise HarnessError(f"{options.run} was not reproduced: {out}")
    *gaps, compared = agreement(history, read_history(out), steps)
    say("\n".join([*gaps, f"identical: {compared} of {steps} steps: {out}"]))
