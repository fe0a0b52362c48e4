"""The command `resume`."""

import argparse
from pathlib import Path

from harness.command import OneLineParser, Subparsers
from harness.commands.lines import step_printer
from harness.history import read_history
from harness.say import say


def add(subparsers: Subparsers) -> None:
    """The command `resume`."""
    parser: OneLineParser = subparsers.add_parser(
        "resume",
        allow_abbrev=False,
        help="go on with a run that was stopped, as if it had not been",
    )
    parser.add_argument("run", metavar="RUN", help="folder of an unfinished run")
    parser.set_defaults(start=run)


def run(options: argparse.Namespace) -> None:
    """Resume, a line per step."""
    path = Path(options.run)
    steps = read_history(path).config.run.steps
    from harness.resume import resume

    folder = resume(path, step_printer(steps), say)
    say(f"finished: {folder.path}")
