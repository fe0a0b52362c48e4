"""A recorded run made again, from its folder alone."""

from pathlib import Path

from harness.algorithm.metrics import Metrics
from harness.backends.torch_setup import set_up_torch
from harness.compare.divergence import Divergence, first_divergence, shown
from harness.console import Say
from harness.errors import GaveUp, Stopped, UsageError
from harness.loop import Beginning, OnStep, ranks_of, train
from harness.run.environment import FINGERPRINT, differences_here
from harness.run.history import History, read_history
from harness.run.initial_model import recorded_initial_policy


class FarEnough(Stopped):
    """The run made again has as many steps as are compared."""


def reproduce(run: History, out: Path, until: int, on_step: OnStep, say: Say) -> Divergence | None:
    """The first difference between the run and the same run made again in `out`, over its first `until` steps.

    Raises UsageError where the run's initial weights cannot be had. What differs here from its surroundings goes to
    `say` first.
    """
    differences = differences_here(run.environment, run.config.run.threads)
    for name, (then, now) in differences.items():
        say(f"{name}: {shown(then)} in the run, {shown(now)} here")
    if any(name in differences for name in FINGERPRINT):
        say("so the last bits of its arithmetic need not be the same here, and one flipped token changes all after it")
    set_up_torch(run.config.run.threads)
    policy = recorded_initial_policy(run, say)

    def stop_there(metrics: Metrics) -> None:
        on_step(metrics)
        if metrics["step"] == until - 1 and until < run.config.run.steps:
            raise FarEnough(f"stopped after {until} steps, which is as far as it is compared")

    try:
        train(run.config, out, stop_there, beginning=Beginning(policy, run.environment))
    except (FarEnough, GaveUp) as stop:
        say(str(stop))
    return first_divergence(run, read_history(out)) if ranks_of(run.config).is_first else None


def comparable_steps(run: History, asked: int | None) -> int:
    """How many steps can be compared. Raises UsageError where that is none, or fewer than asked for."""
    if run.steps_done == 0 or (asked is not None and not 0 < asked <= run.steps_done):
        raise UsageError(
            f"--steps: expected 1 to the {run.steps_done} steps that {run.path} has done, got {asked}: "
            "name a run that has made a step, or fewer steps"
        )
    return asked or run.steps_done
