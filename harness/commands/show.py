"""The command `show`."""

import argparse

from harness.command import OneLineParser, Subparsers
from harness.commands.settings import add_settings, given_flags, say_what_is_idle
from harness.settings import resolve
from harness.show import loss_text


def add(subparsers: Subparsers) -> None:
    """The command `show`."""
    parser: OneLineParser = subparsers.add_parser(
        "show",
        allow_abbrev=False,
        usage="%(prog)s [--setting value ...]",
        help="print what the resolved loss does, and what other implementations do differently",
    )
    add_settings(parser)
    parser.set_defaults(start=run)


def run(options: argparse.Namespace) -> None:
    """Print the resolved loss."""
    flags = given_flags(options)
    config = resolve(flags, options.preset, options.config)
    say_what_is_idle(flags, config)
    print(loss_text(config))
