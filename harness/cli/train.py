"""`train`: train a model and record the run."""

import argparse
import gc
from pathlib import Path

from harness.cli.flags import add_with_settings, default_folder, resolved
from harness.cli.output import print_warm_start, step_printer
from harness.cli.parser import Subparsers
from harness.cli.ranks import by_ranks, print_start
from harness.console import say


def add(subparsers: Subparsers) -> None:
    parser = add_with_settings(subparsers, "train", "train a model under one loss and record the run", run)
    parser.add_argument("--dry_run", action="store_true", help="print the command that would be run, and exit")


def run(options: argparse.Namespace) -> None:
    config = resolved(options)
    given = config.run.output_dir
    path = Path(given) if given else default_folder(f"{config.loss.loss_type}-seed{config.run.seed}")
    arguments = [*options.arguments, "--output_dir", str(path)]
    if options.dry_run:
        print_start(config, [word for word in arguments if word != "--dry_run"])
        return
    if by_ranks(config, arguments, path, is_new=True):
        return
    from harness.loop import train

    gc.freeze()  # imports never become garbage; without this every full collection would scan them
    folder = train(config, path, step_printer(config.run.steps), print_warm_start)
    say(f"finished: {folder.path}")
