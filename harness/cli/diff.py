"""`diff`: compare two runs."""

import argparse
from pathlib import Path

from harness.cli.parser import OneLineParser, Subparsers
from harness.config.differences import settings_that_differ
from harness.console import say
from harness.run.history import read_history


def add(subparsers: Subparsers) -> None:
    parser: OneLineParser = subparsers.add_parser(
        "diff",
        allow_abbrev=False,
        help="show what differs between two runs: settings, environment, and the first step and quantity that diverge",
    )
    parser.add_argument("runs", metavar="RUN", nargs=2, help="folder of a run")
    parser.set_defaults(start=run)


def run(options: argparse.Namespace) -> None:
    ours, theirs = (read_history(Path(path)) for path in options.runs)
    from harness.compare.divergence import agreement, explained, first_divergence, shown
    from harness.run.environment import differing

    for history in (ours, theirs):
        history.check_records()
    for kind, differences in (
        ("settings", settings_that_differ(ours.config, theirs.config)),
        ("environment", differing(ours.environment, theirs.environment)),
    ):
        say(f"{kind}:" if differences else f"{kind}: the same")
        for name, (mine, other) in differences.items():
            say(f"  {name}: {shown(mine)} | {shown(other)}")
    if divergence := first_divergence(ours, theirs):
        say("\n".join(explained(ours, theirs, divergence)))
    else:
        steps = min(ours.steps_done, theirs.steps_done)
        *gaps, compared = agreement(ours, theirs, steps)
        say("\n".join([*gaps, f"the same over {steps} steps: {compared}"]))
