"""Repeats a recorded run from its folder and compares the records."""

from pathlib import Path

from harness.algorithm.metrics import Metrics
from harness.backends.torch_setup import set_up_torch
from harness.compare.divergence import Divergence, first_divergence, shown
from harness.console import say
from harness.errors import GaveUp, Stopped, UsageError
from harness.loop import Beginning, OnStep, ranks_of, train
from harness.run.environment import FINGERPRINT, differences_here
from harness.run.history import History, read_history
from harness.run.initial_model import recorded_initial_policy
from harness.tasks.own_files import recorded_code


class FarEnough(Stopped):
    """All steps to be compared are done."""


def reproduce(run: History, out: Path, until: int, on_step: OnStep) -> Divergence | None:
    """Repeat the run's first `until` steps in `out`; returns the first difference from the recorded ones, or None.

    Prints differences of the environment first. Raises UsageError if the initial weights are not available.
    """
    ranks = ranks_of(run.config)
    differences = differences_here(run.environment, run.config, ranks.world)
    for name, (then, now) in differences.items():
        say(f"{name}: {shown(then)} in the run, {shown(now)} here")
    if any(name in differences for name in FINGERPRINT):
        say("so results may differ here in the last bits, and a single flipped token changes everything after it")
    set_up_torch(run.config.run.threads)
    policy = recorded_initial_policy(run)

    def stop_there(metrics: Metrics) -> None:
        on_step(metrics)
        if metrics["step"] == until - 1 and until < run.config.run.steps:
            raise FarEnough(f"stopped after the {until} steps that are compared")

    try:
        with recorded_code(run.path):
            train(run.config, out, stop_there, beginning=Beginning(policy, run.environment))
    except (FarEnough, GaveUp) as stop:
        say(str(stop))
    return first_divergence(run, read_history(out)) if ranks.is_first else None


def comparable_steps(run: History, asked: int | None) -> int:
    """How many steps to compare. Raises UsageError if the run has done none, or fewer than asked for."""
    if run.steps_done == 0 or (asked is not None and not 0 < asked <= run.steps_done):
        raise UsageError(
            f"--steps: expected 1 to the {run.steps_done} steps that {run.path} has done, got {asked}: "
            "name a run with at least one step, or fewer steps"
        )
    return asked or run.steps_done
