"""python -m harness train | evaluate | prepare"""

import sys

from harness.checkout import check_checkout
from harness.command import OneLineParser, run_command
from harness.errors import HarnessError


def main(arguments: list[str]) -> None:
    """Hand the arguments to the command they name."""
    from harness import commands

    parser = OneLineParser(allow_abbrev=False, prog="python -m harness", description="One training run.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="train | evaluate | prepare")
    commands.add_train(subparsers)
    commands.add_evaluate(subparsers)
    commands.add_prepare(subparsers)
    options = parser.parse_args(arguments)
    options.start(options)


def start() -> int:
    """Check that the packages are this checkout's, then run the command."""
    try:
        check_checkout("losses", "harness")
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return run_command(lambda given: main(list(given)), sys.argv[1:])


if __name__ == "__main__":
    sys.exit(start())
