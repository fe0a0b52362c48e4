"""`reproduce` and `diff`: repeat a run and compare it, compare two runs."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.cli.parser import Subparsers, add_command, default_folder
from harness.cli.ranks import by_ranks
from harness.cli.run_lines import step_printer
from harness.config.differences import differences
from harness.console import say
from harness.errors import HarnessError
from harness.run.history import read_history


def add(subparsers: Subparsers) -> None:
    purpose = "run a recorded run again and check that it is identical; exit code 1 if it is not"
    parser = add_command(subparsers, "reproduce", purpose, run_reproduce)
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--steps", type=int, help="compare only the first N steps (default: all)")
    parser.add_argument("--output_dir", metavar="DIR", help="new folder (default: runs/<time>-reproduced-<RUN>)")

    purpose = "show what differs between two runs: settings, environment, and the first step and quantity that diverge"
    parser = add_command(subparsers, "diff", purpose, run_diff)
    parser.add_argument("runs", metavar="RUN", nargs=2, help="folder of a run")


def run_reproduce(options: argparse.Namespace) -> None:
    history = read_history(Path(options.run))
    from harness.compare.divergence import agreement
    from harness.compare.repeat import comparable_steps, reproduce
    from harness.loop import ranks_of
    from harness.run.environment import differing, explanation

    steps = comparable_steps(history, options.steps)
    history.check_records()
    out = Path(options.output_dir or default_folder(f"reproduced-{Path(options.run).absolute().name}"))
    if by_ranks(history.config, [*options.arguments, "--output_dir", str(out)], out, is_new=True):
        return
    divergence = reproduce(history, out, steps, step_printer(history.config, steps))
    if not ranks_of(history.config).is_first:
        return
    if divergence:
        say(f"first difference: {divergence}")
        cause = explanation(differing(history.environment, read_history(out).environment))
        raise HarnessError(f"{options.run} was not reproduced: {out}{cause}")
    compared, gaps = agreement(history, read_history(out), steps)
    say(f"{gaps}identical: {compared} of {steps} steps: {out}")


def run_diff(options: argparse.Namespace) -> None:
    ours, theirs = (read_history(Path(path)) for path in options.runs)
    from harness.compare.divergence import agreement, first_divergence, shown
    from harness.run.environment import differing

    for history in (ours, theirs):
        history.check_records()
    found_in = differences({"ours": ours.config, "theirs": theirs.config})
    kinds: dict[str, Mapping[str, Iterable[Any]]] = {
        "settings": {one.field: one.values.values() for one in found_in},
        "environment": differing(ours.environment, theirs.environment),
    }
    for kind, found in kinds.items():
        say(f"{kind}:" if found else f"{kind}: the same")
        for name, values in found.items():
            say(f"  {name}: {' | '.join(map(shown, values))}")
    if divergence := first_divergence(ours, theirs):
        say(f"first difference: {divergence}")
    else:
        steps = min(ours.steps_done, theirs.steps_done)
        compared, gaps = agreement(ours, theirs, steps)
        say(f"{gaps}the same over {steps} steps: {compared}")
