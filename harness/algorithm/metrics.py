"""The metrics of a training step, under the names in docs/run_folder.md."""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from harness.algorithm.correction import SamplerGap
from harness.algorithm.loss_metrics import LossRecord
from harness.backends.phases import enter
from harness.rollouts.collect import Rollouts, informative
from harness.tasks.task import Task

Metrics = dict[str, float | int | None]
QUANTILES = "min", "q25", "median", "q75", "max"
PHASES = "rollout", "logprobs", "update", "sync", "evaluation", "record"  # of a step, each timed


def rollout_metrics(rollouts: Rollouts, task: Task) -> Metrics:
    """Metrics of the first sampling round, before any filter: all arms have the same prompts and noise there."""
    groups = rollouts.rounds[0]
    responses = [response for group in groups for response in group]
    tokens = np.array([len(response.tokens) for response in responses])
    quantiles = zip(QUANTILES, np.percentile(tokens, [0, 25, 50, 75, 100]), strict=True)
    return {
        "rollout/accuracy": float(np.mean([response.correct for response in responses])),
        "rollout/lenient_accuracy": float(np.mean([response.grade.is_right_leniently for response in responses])),
        "rollout/reward_mean": float(np.mean([response.reward for response in responses])),
        **{f"rollout/response_tokens_{name}": value for name, value in quantiles},
        "rollout/response_tokens_mean": float(tokens.mean()),
        "rollout/truncated_share": float(np.mean([response.truncated for response in responses])),
        "rollout/unchecked_share": float(np.mean([response.grade.outcome == "unchecked" for response in responses])),
        "rollout/entropy": float(sum(response.entropy_sum for response in responses) / tokens.sum()),
        "rollout/informative_groups_share": float(np.mean([informative(group) for group in groups])),
        "rollout/sampling_rounds": len(rollouts.rounds),
        "rollout/unfilled_groups": rollouts.missing,
        **{f"reward/{name}": float(np.mean([one.rewards[name] for one in responses])) for name in responses[0].rewards},
        **{
            f"task/{name}": value
            for name, value in task.behaviour([(one.problem, one.text) for one in responses]).items()
        },
    }


def training_metrics(gap: SamplerGap, record: LossRecord, grad_clip: float) -> Metrics:
    """Metrics of the optimizer steps; None if the step had no group to learn from."""
    norms = record.gradient_norms
    return {
        "rollout/length_weighted_advantage": gap.advantages / gap.tokens if gap.tokens else None,
        **gap.metrics(),
        **{f"loss/{name}": value for name, value in record.means().items()},
        **record.weights.metrics(),
        "optimizer/grad_norm": float(np.mean(norms)) if norms else None,
        "optimizer/clipped_share": float(np.mean(np.array(norms) > grad_clip)) if norms else None,
        "optimizer/step_norm": float(np.mean(record.step_norms)) if record.step_norms else None,
        "optimizer/lr": record.learning_rate,
    }


CONSTANTS = ("parameters", "epochs", "forwards", "backward_flops")  # determined by the config, so not reported


@dataclass
class Ledger:
    """The cost of training so far, without evaluations."""

    parameters: int
    epochs: int
    forwards: int  # passes without gradient over the trained responses (Config.forwards_per_token)
    backward_flops: float = 4.0  # per parameter and token; less if most weights are frozen
    prompts: int = 0
    responses: int = 0
    generated_tokens: int = 0
    discarded_tokens: int = 0
    trained_tokens: int = 0
    updates: int = 0
    skipped_updates: int = 0
    flops: float = 0.0

    def add(self, rollouts: Rollouts, record: LossRecord) -> None:
        """Add a step. Per token and parameter the forward pass costs 2 FLOPs, the backward pass 4 if all are trained.

        Not counted: attention, and the output head's logits, which the backward pass recomputes.
        """
        responses = rollouts.responses
        kept = sum(len(response.tokens) for group in rollouts.kept for response in group)
        generated = sum(len(response.tokens) for response in responses)
        prompt_tokens = sum(len(group[0].prompt_tokens) for groups in rollouts.rounds for group in groups)
        trained_rows = sum(len(r.prompt_tokens) + len(r.tokens) for group in rollouts.kept for r in group)
        self.prompts += sum(len(groups) for groups in rollouts.rounds)
        self.responses += len(responses)
        self.generated_tokens += generated
        self.discarded_tokens += generated - kept
        self.trained_tokens += record.trained_tokens
        self.updates += len(record.gradient_norms)
        self.skipped_updates += record.skipped
        forward = prompt_tokens + generated + self.forwards * trained_rows
        update = (2.0 + self.backward_flops) * trained_rows * self.epochs
        self.flops += self.parameters * (2.0 * forward + update)

    def metrics(self) -> Metrics:
        totals = dataclasses.asdict(self)
        return {f"ledger/{name}": totals[name] for name in totals if name not in CONSTANTS}


@dataclass
class Stopwatch:
    """Seconds per phase within a step."""

    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        self.started = self.clock()
        self.seconds = defaultdict[str, float](float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begin = self.clock()
        enter(name)
        yield
        self.seconds[name] += self.clock() - begin

    def elapsed_s(self) -> float:
        """Seconds of training since the run began, without the time between a stop and its resumption."""
        return self.clock() - self.started

    def resume(self, elapsed_s: float) -> None:
        self.started = self.clock() - elapsed_s

    def lap(self) -> Metrics:
        """The step's seconds by phase and the run's elapsed seconds; resets the phases for the next step."""
        lap: Metrics = {f"time/{name}_s": round(self.seconds[name], 4) for name in PHASES}
        lap["time/elapsed_s"] = round(self.elapsed_s(), 4)
        self.seconds.clear()
        return lap
