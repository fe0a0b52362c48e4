"""The command `diff`."""

import argparse
from pathlib import Path

from harness.cli.parser import OneLineParser, Subparsers
from harness.config.differences import settings_that_differ
from harness.console import say
from harness.run.history import read_history


def add(subparsers: Subparsers) -> None:
    """The command `diff`."""
    parser: OneLineParser = subparsers.add_parser(
        "diff",
        allow_abbrev=False,
        help="say what differs between two runs: settings, surroundings, and the first step and quantity",
    )
    parser.add_argument("runs", metavar="RUN", nargs=2, help="folder of a run")
    parser.set_defaults(start=run)


def run(options: argparse.Namespace) -> None:
    """Compare the two folders."""
    ours, theirs = (read_history(Path(path)) for path in options.runs)
    from harness.compare.divergence import agreement, first_divergence
    from harness.compare.explanation import explained
    from harness.compare.rows import shown
    from harness.run.environment import differing

    for history in (ours, theirs):
        history.check_records()
    for kind, differences in (
        ("settings", settings_that_differ(ours.config, theirs.config)),
        ("surroundings", differing(ours.environment, theirs.environment)),
    ):
        say(f"{kind}: {'the same' if not differences else ''}".rstrip(" "))
        for name, (mine, other) in differences.items():
            say(f"  {name}: {shown(mine)} | {shown(other)}")
    divergence = first_divergence(ours, theirs)
    if divergence:
        say("\n".join(explained(ours, theirs, divergence)))
    else:
        steps = min(ours.steps_done, theirs.steps_done)
        compared, gaps = agreement(ours, theirs, steps)
        if gaps:
            say(f"not compared, since they are not in both: {'; '.join(gaps)}")
        say(f"the same over {steps} steps: {', '.join(compared)}")
