"""python -m harness train | resume | evaluate | show | ..."""

import argparse
import sys

from harness.cli.commands import COMMANDS
from harness.cli.parser import OneLineParser, run_command


def main(arguments: list[str]) -> None:
    """Hand the arguments to the command they name."""
    names = " | ".join(module.__name__.rpartition(".")[2] for module in COMMANDS)
    parser = OneLineParser(allow_abbrev=False, prog="python -m harness", description="One training run.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar=names)
    for command in COMMANDS:
        command.add(subparsers)
    options = parser.parse_args(arguments, argparse.Namespace(arguments=arguments))
    options.start(options)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("losses", "harness")))
