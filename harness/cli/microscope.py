"""`microscope`: where a loss's gradient points, and where credit truly lies, at chosen steps of a recorded run."""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.cli.parser import Subparsers, add_command
from harness.console import expect, say
from harness.errors import UsageError
from harness.run.history import History, read_history

DEFAULT_STEPS = 1, 4, 8


def add(subparsers: Subparsers) -> None:
    purpose = "compare losses' gradients and token weights with the true gradient and credit, on a run's own batches"
    parser = add_command(subparsers, "microscope", purpose, run)
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--steps", metavar="A,B", help="steps to look at (default: of 1, 4, 8 those that are done)")
    parser.add_argument(
        "--losses",
        default="all",
        metavar="A,B",
        help="names in harness/microscope/candidates.toml (default: all of these), losses, or your own FILE.py:CLASS",
    )
    numbers = {
        "updates": (4, "N", "updates measured in each step"),
        "responses": (2048, "N", "fresh responses for the true gradient at each update"),
        "group": (16, "N", "of these, responses per prompt"),
        "prefixes": (64, "N", "prefixes valued per response, at most"),
        "continuations": (24, "K", "continuations per prefix, split into two halves"),
    }
    for name, (default, kind, words) in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, metavar=kind, help=f"{words} (default: {default})")
    parser.add_argument("--output_dir", metavar="DIR", help="folder of the results (default: RUN/microscope)")


def run(options: argparse.Namespace) -> None:
    history = read_history(Path(options.run))
    steps = chosen_steps(options.steps, history)
    check_numbers(options)
    history.check_records()
    from harness.backends.torch_setup import set_up_torch
    from harness.microscope.measure import Plan, missing_steps, run_microscope
    from harness.tasks.own_files import recorded_code

    set_up_torch(history.config.run.threads)
    plan = Plan(steps, options.updates, options.responses, options.group, options.prefixes, options.continuations)
    out = Path(options.output_dir or history.path / "microscope")
    missing, began = missing_steps(plan, out), time.monotonic()
    with recorded_code(history.path):
        for done, lines in enumerate(run_microscope(history, plan, options.losses, out), start=1):
            expect((time.monotonic() - began) / done * (len(missing) - done))
            say("\n".join(summary(lines)) if lines else "a step without updates")
    say(f"one run has no interval: analysis report gives them over several; microscope: {out}")


def summary(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A step's mean cosine of each candidate to the true gradient."""
    found = defaultdict[str, list[float]](list)
    for line in lines:
        if line["cosine"] is not None:
            found[line["candidate"]].append(line["cosine"])
    agreed = [line["halves_cosine"] for line in lines if line["halves_cosine"] is not None]
    noise = f"two estimates of which agree with {fmean(agreed):+.2f}" if agreed else "too few responses to estimate it"
    yield f"step {lines[0]['step']}: cosine to the true gradient ({noise}), and the difference from DAPO's"
    for name, cosines in found.items():
        difference = f"{fmean(cosines) - fmean(found['dapo']):+.3f}" if found["dapo"] else "-"
        yield f"  {name:20} {fmean(cosines):+.3f}  {difference}"


def chosen_steps(text: str | None, history: History) -> tuple[int, ...]:
    """The steps, in order. Raises UsageError unless the run has done them all."""
    if text is None:
        return tuple(step for step in DEFAULT_STEPS if step < history.steps_done) or (0,)
    try:
        steps = sorted({int(part) for part in text.split(",")})
    except ValueError:
        steps = []
    if not steps or steps[0] < 0 or steps[-1] >= history.steps_done:
        raise UsageError(
            f"--steps: expected numbers of steps, 0 to {history.steps_done - 1} in {history.path}, got {text!r}"
        )
    return tuple(steps)


def check_numbers(options: argparse.Namespace) -> None:
    """Raise UsageError for a budget that cannot be spent evenly."""
    for name in ("updates", "prefixes"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name}: expected 1 or more, got {getattr(options, name)}")
    if options.continuations < 2 or options.continuations % 2:
        raise UsageError(f"--continuations: expected an even number of them, got {options.continuations}")
    if options.group < 2 or options.responses < 2 * options.group or options.responses % (2 * options.group):
        raise UsageError(
            f"--responses {options.responses} and --group {options.group}: expected two halves of whole groups of two "
            f"or more: choose a multiple of {2 * max(2, options.group)}"
        )
