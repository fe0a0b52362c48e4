"""`microscope`: where a loss's gradient points, and where credit truly lies, at chosen steps of a recorded run."""

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.cli.parser import Subparsers, add_command
from harness.console import expect, say
from harness.errors import UsageError
from harness.run.history import History, read_history


def add(subparsers: Subparsers) -> None:
    purpose = "compare losses' gradients and token weights with the true gradient and credit, on a run's own batches"
    parser = add_command(subparsers, "microscope", purpose, run)
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--steps", default="1,4,8", metavar="A,B", help="steps to look at (default: 1,4,8)")
    parser.add_argument(
        "--losses",
        default="all",
        metavar="A,B",
        help="names in harness/microscope/candidates.toml, or FILE.py:CLASS, a loss of your own (default: all)",
    )
    parser.add_argument("--updates", type=int, default=4, metavar="N", help="updates in each step (default: 4)")
    parser.add_argument(
        "--responses",
        type=int,
        default=2048,
        metavar="N",
        help="drawn for each true gradient (default: 2048)",
    )
    parser.add_argument("--group", type=int, default=16, metavar="N", help="of these to a prompt (default: 16)")
    parser.add_argument(
        "--prefixes", type=int, default=64, metavar="N", help="of a response, at most, to value (default: 64)"
    )
    parser.add_argument(
        "--continuations", type=int, default=24, metavar="K", help="from each prefix, half by half (default: 24)"
    )
    parser.add_argument("--output_dir", metavar="DIR", help="folder of the results (default: RUN/microscope)")


def run(options: argparse.Namespace) -> None:
    history = read_history(Path(options.run))
    steps = chosen_steps(options.steps, history)
    check_numbers(options)
    history.check_records()
    from harness.backends.torch_setup import set_up_torch
    from harness.microscope.measure import Plan, run_microscope

    set_up_torch(history.config.run.threads)
    plan = Plan(steps, options.updates, options.responses, options.group, options.prefixes, options.continuations)
    out = Path(options.output_dir or history.path / "microscope")
    began = time.monotonic()
    for done, lines in enumerate(run_microscope(history, plan, options.losses, out), start=1):
        expect((time.monotonic() - began) / done * (len(steps) - done))
        say("\n".join(summary(lines)))
    say(f"microscope: {out}")


def summary(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A step's mean cosine of each candidate to the true gradient, and the cosine of two estimates of that."""
    ceiling = mean(ratio(line["product"], line["first_norm"] * line["second_norm"]) for line in lines)
    yield f"step {lines[0]['step']}: cosine to the true gradient; two estimates of it: {ceiling:.3f}"
    found = defaultdict[str, list[float]](list)
    for line in lines:
        whole = math.sqrt(max(0.0, line["first_norm"] ** 2 + line["second_norm"] ** 2 + 2 * line["product"]))
        found[line["candidate"]].append(ratio(line["along_first"] + line["along_second"], line["norm"] * whole))
    dapo = mean(found["dapo"])
    yield from (f"  {name:20} {mean(of):+.3f}  DAPO {mean(of) - dapo:+.3f}" for name, of in found.items())


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def mean(values: Iterable[float]) -> float:
    """The mean of those that are known: a gradient of 0 has no direction."""
    known = [value for value in values if math.isfinite(value)]
    return fmean(known) if known else math.nan


def chosen_steps(text: str, history: History) -> tuple[int, ...]:
    """The steps, in order. Raises UsageError unless the run has done them all."""
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
