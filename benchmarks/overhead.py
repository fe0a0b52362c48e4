"""What the harness itself takes of a step: all CPU time that is not sampling, log-probabilities or an update."""

import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import harness.loop
import harness.rollouts.engine
from benchmarks.models import LARGER, random_policy
from benchmarks.table import Row
from benchmarks.timing import one_thread
from harness.algorithm.metrics import Metrics
from harness.algorithm.update import Updater
from harness.config.resolve import resolve
from harness.config.schema import Config
from harness.loop import Beginning, train
from harness.model.policy import Policy

# What computes: everything else of a step records, scores, seeds, batches, counts.
COMPUTES: tuple[tuple[Any, str], ...] = (
    (harness.rollouts.engine, "sample"),
    (harness.loop, "known_logprobs"),
    (harness.loop, "checked_noise"),
    (Updater, "step"),
)
WARM = 1  # steps that are not counted: the first measures noise and touches everything for the first time
# Every group is trained on: responses of random weights are all wrong, and none would be informative.
STEPS, FLAGS = 13, {"loss_type": "fipo", "epsilon_high": 0.28, "dynamic_sampling": False}


def rows() -> Iterator[Row]:
    """The share of both models, at the sizes and with the evaluations of the demo."""
    for name, policy, most in (
        ("tiny model", random_policy(), 5.0),
        ("1.06 M parameters", random_policy(**LARGER), 1.0),
    ):
        print(f"the harness's own share, {name}, {STEPS} steps of the demo ...", flush=True)
        config = resolve(FLAGS | {"steps": STEPS}, preset="demo")
        with one_thread():
            own, whole = measured(config, policy)
        yield Row(f"the harness itself, of a step, {name}", 100 * own / whole, "%", at_most=most)
        yield Row(f"the harness itself, in each step, {name}", 1e3 * own / (STEPS - WARM), "ms")


def measured(config: Config, policy: Policy) -> tuple[float, float]:
    """CPU seconds of the steps after the first that were not computing, and all of them."""
    gc.freeze()  # as the commands do
    marks: list[tuple[float, float]] = []
    with computing() as computed, tempfile.TemporaryDirectory() as folder:

        def mark(_: Metrics) -> None:
            marks.append((time.process_time(), computed[0]))

        train(config, Path(folder) / "run", mark, beginning=Beginning(policy))
    (start, before), (end, after) = marks[WARM - 1], marks[-1]
    return end - start - (after - before), end - start


@contextmanager
def computing() -> Iterator[list[float]]:
    """Adds up the CPU seconds of what computes, in the one number of the list."""
    total = [0.0]

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            begin = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                total[0] += time.process_time() - begin

        return run

    patches = [patch.object(owner, name, timed(getattr(owner, name))) for owner, name in COMPUTES]
    for one in patches:
        one.start()
    try:
        yield total
    finally:
        for one in patches:
            one.stop()
