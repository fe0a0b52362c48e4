"""`prepare`: build and cache the tiny model."""

import argparse

from harness.cli.output import print_warm_start
from harness.cli.parser import OneLineParser, Subparsers
from harness.config.resolve import resolve


def add(subparsers: Subparsers) -> None:
    parser: OneLineParser = subparsers.add_parser(
        "prepare", allow_abbrev=False, help="build and cache the tiny model for a config"
    )
    parser.add_argument("--config", metavar="FILE", required=True, help="settings from TOML or JSON")
    parser.set_defaults(start=run)


def run(options: argparse.Namespace) -> None:
    """Build and cache the config's tiny model, so that many runs can start at the same time without waiting for it."""
    config = resolve({}, config_file=options.config)
    from harness.backends.torch_setup import set_up_torch
    from harness.run.initial_model import initial_policy

    set_up_torch(config.run.threads)
    initial_policy(config, print_warm_start)
    print("ready")
