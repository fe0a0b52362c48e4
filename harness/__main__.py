"""python -m harness train | evaluate | show | prepare"""

import sys

from harness import commands
from harness.command import OneLineParser, run_command


def main(arguments: list[str]) -> None:
    """Hand the arguments to the command they name."""
    parser = OneLineParser(allow_abbrev=False, prog="python -m harness", description="One training run.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="train | evaluate | show | prepare")
    commands.add_train(subparsers)
    commands.add_evaluate(subparsers)
    commands.add_show(subparsers)
    commands.add_prepare(subparsers)
    options = parser.parse_args(arguments)
    options.start(options)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("losses", "harness")))
