"""`preflight`: what a launch of verl, TRL or ms-swift will really train, and what is wrong with it."""

import argparse
from pathlib import Path

from harness.cli.parser import Subparsers, add_command
from harness.console import say
from harness.errors import HarnessError, UsageError


def add(subparsers: Subparsers) -> None:
    purpose = (
        "read a launch of verl, TRL or ms-swift, or compare two: the loss that will run, and what is wrong with it"
    )
    parser = add_command(subparsers, "preflight", purpose, run_preflight)
    parser.add_argument("launch", metavar="FILE", help="shell script, YAML, or Python with GRPOConfig(...)")
    parser.add_argument("other", metavar="FILE", nargs="?", help="another launch, to compare")
    parser.add_argument("--accuracy", type=float, metavar="P", help="share of right answers: forecasts lost groups")
    parser.add_argument("--processes", type=int, metavar="N", help="training processes, where the launch says none")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run_preflight(options: argparse.Namespace) -> None:
    if options.accuracy is not None and not 0 <= options.accuracy <= 1:
        raise UsageError(f"--accuracy: expected a share from 0 to 1, got {options.accuracy:g}")
    if options.processes is not None and options.processes < 1:
        raise UsageError(f"--processes: expected 1 or more, got {options.processes}")
    from harness.preflight.comparing import differences
    from harness.preflight.reading import read_launch
    from harness.preflight.rules import findings
    from harness.preflight.terms import terms_of
    from harness.preflight.text import as_json, page

    names = filter(None, (options.launch, options.other))
    read = [terms_of(read_launch(Path(name), options.processes)) for name in names]
    launches = [(terms, findings(terms, options.accuracy)) for terms in read]
    between = differences(*read) if len(read) == 2 else []
    say(as_json(launches, between) if options.json else "\n".join(page(launches, between)))
    kinds = {one.severity for _, found in launches for one in found} | {one.kind for one in between}
    if kinds & {"error", "warning", "confound"}:
        raise HarnessError("")  # exit code 1, as a linter's
