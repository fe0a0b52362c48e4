"""python -m harness train | resume | evaluate | show | ..."""

import argparse
import sys

from harness.cli import compare, evaluate, microscope, show, train
from harness.cli.parser import OneLineParser, run_command


def main(arguments: list[str], prog: str = "python -m harness") -> None:
    """Hand the arguments to the command they name."""
    parser = OneLineParser(allow_abbrev=False, prog=prog, description="One training run.")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for module in (train, compare, microscope, evaluate, show):
        module.add(subparsers)
    subparsers.metavar = " | ".join(subparsers.choices)
    options = parser.parse_args(arguments, argparse.Namespace(arguments=arguments))
    options.start(options)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("losses", "harness")))
