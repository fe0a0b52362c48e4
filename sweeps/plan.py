"""What a comparison will do and about how long it will take, said before it starts."""

from collections.abc import Sequence

from harness import Config
from sweeps.study.folder import PlannedRun

# Measured with the demo preset on 2 cores of an AMD EPYC, one thread a run (see CHANGELOG). Only a first guess: as soon
# as runs report steps, the time left is computed from them.
TINY_SECONDS_PER_1000_RESPONSES = 1.9
SECONDS_TO_START = 6.0
WARM_START_SECONDS = 45.0


def run_seconds(config: Config) -> float | None:
    """About how long a run takes, or None where nothing is known of its model's speed."""
    if config.model.model != "tiny":
        return None
    rounds = (1 + config.rollout.max_sampling_rounds) / 2 if config.rollout.dynamic_sampling else 1
    responses = config.run.steps * config.responses_per_step * rounds
    evaluation = config.evaluation
    evaluations = config.run.steps / evaluation.eval_every
    responses += evaluation.eval_prompts * 0.4 * evaluations * evaluation.eval_samples
    responses += evaluation.eval_prompts * 0.4 * evaluation.final_evaluations * evaluation.final_eval_samples
    return SECONDS_TO_START + TINY_SECONDS_PER_1000_RESPONSES * responses / 1000


def plan_lines(runs: Sequence[PlannedRun], finished: int, slots: int) -> list[str]:
    """The phases, each with its size and minutes."""
    estimates = [run_seconds(run.config) for run in runs]
    known = [seconds for seconds in estimates if seconds is not None]
    training = (
        f"about {minutes(sum(known) / slots)}" if len(known) == len(runs) else "time unknown until the first steps"
    )
    steps = runs[0].config.run.steps if runs else 0
    skipped = f" ({finished} finished before and skipped)" if finished else ""
    return [
        f"1. warm start of the model: about {minutes(WARM_START_SECONDS)}, or nothing where it is cached",
        f"2. training: {len(runs)} runs of {steps} steps{skipped}, {slots} at a time: {training}",
    ]


def minutes(seconds: float) -> str:
    """A duration in words a person plans by."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
