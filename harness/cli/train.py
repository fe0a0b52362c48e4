"""`train`, `resume`, `prepare`, `checkpoint`: begin a run, continue one, and make what runs start from."""

import argparse
import gc
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from harness.cli.parser import Subparsers, add_command, add_with_settings, default_folder, resolved
from harness.cli.ranks import by_ranks
from harness.cli.run_lines import end_lines, start_lines, step_printer
from harness.config.resolve import build, flatten, resolve, tree_of
from harness.config.schema import Config
from harness.console import say
from harness.run.history import read_history, unfinished


def add(subparsers: Subparsers) -> None:
    parser = add_with_settings(subparsers, "train", "train a model under one loss and record the run", run_train)
    parser.add_argument("--dry_run", action="store_true", help="print the command that would be run, and exit")
    parser = add_command(subparsers, "resume", "continue a stopped run as if it had never stopped", run_resume)
    parser.add_argument("run", metavar="RUN", help="folder of an unfinished run")
    parser.add_argument(
        "--nproc", type=int, metavar="int", help="ranks to start on this host (default: as recorded in the run)"
    )
    parser = add_command(subparsers, "prepare", "build and cache the tiny model for a config", run_prepare)
    parser.add_argument("--config", metavar="FILE", required=True, help="settings from TOML or JSON")
    purpose = "write a run's state after some step as a folder for --start_from"
    parser = add_command(subparsers, "checkpoint", purpose, run_checkpoint)
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--step", type=int, required=True, help="training steps done")
    parser.add_argument("--output_dir", metavar="DIR", required=True, help="new folder")


def run_train(options: argparse.Namespace) -> None:
    config = resolved(options)
    path = Path(config.run.output_dir or default_folder(f"{config.loss.loss_type}-seed{config.run.seed}"))
    arguments = [*options.arguments, "--output_dir", str(path)]
    if options.dry_run:
        nproc = config.backend.nproc
        ranks = "one process" if config.backend.backend == "torch" else f"{nproc} rank{'s' * (nproc > 1)}"
        words = [word for word in arguments if word != "--dry_run"]
        say(f"{ranks} on this host: {shlex.join([sys.executable, '-m', 'harness', *words])}")
        return
    if by_ranks(config, arguments, path, is_new=True):
        return
    from harness.loop import train

    gc.freeze()  # imports never become garbage; without this every full collection would scan them
    train(config, path, step_printer(config), start_printer(config, path))
    say("\n".join(end_lines(path)))


def run_resume(options: argparse.Namespace) -> None:
    path = Path(options.run)
    config = unfinished(path).config
    if options.nproc is not None:
        config = build(flatten(tree_of(config)) | {"nproc": options.nproc})
    if by_ranks(config, options.arguments, path, is_new=False):
        return
    from harness.resume import resume

    gc.freeze()
    resume(path, step_printer(config))
    say("\n".join(end_lines(path)))


def run_prepare(options: argparse.Namespace) -> None:
    """Build and cache the config's tiny model, so that many runs can start at the same time without waiting for it."""
    config = resolve({}, config_file=options.config)
    from harness.backends.torch_setup import set_up_torch
    from harness.run.initial_model import initial_policy

    set_up_torch(config.run.threads)
    initial_policy(config, print_warm_start)
    print("ready")


def run_checkpoint(options: argparse.Namespace) -> None:
    history, out = read_history(Path(options.run)), Path(options.output_dir)
    history.check_records()
    from harness.backends.torch_setup import set_up_torch
    from harness.compare.repeat import write_checkpoint
    from harness.tasks.own_files import recorded_code

    set_up_torch(history.config.run.threads)
    with recorded_code(history.path):
        say(f"{out}: {write_checkpoint(history, options.step, out)}")


def start_printer(config: Config, path: Path) -> Callable[[int, int], None]:
    """A function that prints the warm start, and then what the run is."""

    def show(done: int, total: int) -> None:
        if total:
            print_warm_start(done, total)
        else:
            say("\n".join(start_lines(config, path)))

    return show


def print_warm_start(done: int, total: int) -> None:
    if done == 1 or done % max(1, total // 10) == 0:
        say(f"warm start: step {done}/{total}")
