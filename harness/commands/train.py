"""The command `train`."""

import argparse
from pathlib import Path

from harness.command import Subparsers
from harness.commands.lines import print_warm_start, step_printer
from harness.commands.settings import add_with_settings, default_folder, resolved
from harness.say import say


def add(subparsers: Subparsers) -> None:
    """The command `train`."""
    add_with_settings(subparsers, "train", "train a model under one loss and record the run", run)


def run(options: argparse.Namespace) -> None:
    """Train, a line per step."""
    config = resolved(options)
    from harness.loop import train

    given = config.run.output_dir
    path = Path(given) if given else default_folder(f"{config.loss.loss_type}-seed{config.run.seed}")
    folder = train(config, path, step_printer(config.run.steps), print_warm_start)
    say(f"finished: {folder.path}")
