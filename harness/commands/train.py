"""The command `train`."""

import argparse
from datetime import datetime
from pathlib import Path

from harness.command import OneLineParser, Subparsers
from harness.commands.lines import print_warm_start, step_printer
from harness.commands.settings import add_settings, given_flags, say_what_is_idle
from harness.config import Config
from harness.settings import resolve


def add(subparsers: Subparsers) -> None:
    """The command `train`."""
    parser: OneLineParser = subparsers.add_parser(
        "train",
        allow_abbrev=False,
        usage="%(prog)s [--setting value ...]",
        help="train a model under one loss and record the run",
    )
    add_settings(parser)
    parser.set_defaults(start=run)


def run(options: argparse.Namespace) -> None:
    """Train, a line per step."""
    flags = given_flags(options)
    config = resolve(flags, options.preset, options.config)
    say_what_is_idle(flags, config)
    from harness.loop import train

    path = Path(config.run.output_dir or default_folder(config))
    folder = train(config, path, step_printer(config.run.steps), print_warm_start)
    print(f"finished: {folder.path}")


def default_folder(config: Config) -> str:
    """runs/<time>-<loss>-seed<seed>."""
    return f"runs/{datetime.now():%Y%m%d-%H%M%S}-{config.loss.loss_type}-seed{config.run.seed}"
