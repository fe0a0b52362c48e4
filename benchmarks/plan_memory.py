"""python -m benchmarks.plan_memory [--save]: what `harness plan` says a run on one GPU takes, beside what it took.

The preset one-gpu/fipo-0.5b with a model of that shape and random weights, so that nothing is downloaded; its problems
are chain sums with random rewards. The steps are the loop's own, with the peak read after each phase. Other flags go to
the run: --micro_batch_size 4, --gradient_checkpointing false, --lora_rank 16 --dtype bfloat16.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmarks.scale import QWEN_0_5B, write_model
from benchmarks.table import Row, printed, saved
from harness.algorithm.state import begin
from harness.backends.torch_setup import set_up_torch
from harness.cli.flags import given_flags
from harness.cli.parser import OneLineParser, add_setting_flags, run_command
from harness.config.resolve import resolve
from harness.config.schema import Config
from harness.errors import UsageError
from harness.loop import train_on
from harness.model.policy import Policy
from harness.plan.job import find_gpu, make_job
from harness.plan.memory import CONTEXT, Moment, held, largest, rollout, trainer
from harness.plan.shapes import shape_of
from harness.rollouts.collect import collect
from harness.run.initial_model import initial_policy
from harness.run.record import Onlooker

PRESET = "one-gpu/fipo-0.5b"
FLAGS: dict[str, Any] = {
    "task": "graded_chain_sum",
    "control": "random_reward",
    "train_data": None,
    "eval_data": None,
    "dynamic_sampling": False,
    "prompts_per_step": 32,
    "max_response_tokens": 1024,
    "eval_top_p": 1.0,  # nothing is evaluated here
    "steps": 10,
}
WITHIN = 0.15  # of the measured bytes


class Meter(Protocol):
    """Bytes of tensors on the device."""

    def now(self) -> int:
        """Held now."""

    def peak(self) -> int:
        """Held at most since the last call; begins the next stretch."""


class GpuMeter:
    """By torch's allocator."""

    def now(self) -> int:
        """Held now."""
        return torch.cuda.memory_allocated()

    def peak(self) -> int:
        """Held at most since the last call; begins the next stretch."""
        peak = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return peak


@dataclass(frozen=True)
class Measured:
    """Bytes of a run."""

    weights: int
    at_rest: int  # between two steps: gradients and moments too
    rollout: int  # peaks
    trainer: int


def main(arguments: list[str]) -> None:
    """Print the table, and keep it where asked."""
    parser = OneLineParser(prog="python -m benchmarks.plan_memory", allow_abbrev=False, description="Plan and peak.")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    add_setting_flags(parser)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise UsageError("expected a CUDA device to measure peaks on, found none: python -m harness plan needs none")
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "model", QWEN_0_5B)
        flags = FLAGS | {"model": str(Path(folder) / "model")} | given_flags(options)
        found = list(rows(resolve(flags, preset=PRESET), GpuMeter()))
    print(printed(found))
    if options.save:
        print(f"saved: {saved(found, 'cuda', 'plan-memory')}")


def rows(config: Config, meter: Meter, policy: Policy | None = None) -> Iterator[Row]:
    """Planned and measured, and the ratio, whose target is the plan's promise."""
    job = make_job(config, shape_of(config.model), 1, find_gpu("h100"))
    parts = held(job)
    at_rest = sum(parts.values())
    weights = CONTEXT + parts["weights"] + parts["reference policy"]
    planned = (weights, at_rest, bytes_of(rollout(job)), bytes_of(trainer(job)))
    measured = measure(config, meter, policy or initial_policy(config))
    names = (
        "weights, a reference's too",
        "the same, gradients and optimizer",
        "drawing responses, peak",
        "training, peak",
    )
    found = (measured.weights, measured.at_rest, measured.rollout, measured.trainer)
    for name, plan, took in zip(names, planned, found, strict=True):
        yield Row(f"{name}: planned", (plan - CONTEXT) / 2**20, "MiB")
        yield Row(f"{name}: measured", took / 2**20, "MiB")
        yield Row(f"{name}: planned / measured", (plan - CONTEXT) / took, "", at_most=1 + WITHIN, at_least=1 - WITHIN)


def bytes_of(moments: list[Moment]) -> int:
    """Of the largest."""
    return largest(moments).total


def measure(config: Config, meter: Meter, policy: Policy) -> Measured:
    """Train the config's steps with the loop's own functions; the first, which has no moments yet, is left out."""
    set_up_torch(config.run.threads)
    training = begin(config, policy, policy.copy() if config.loss.needs_reference else None)
    weights = meter.now()
    rollouts, trainers = [], []
    with tempfile.TemporaryDirectory() as folder:
        for step in range(config.run.steps):
            meter.peak()
            drawn = collect(training.asking(config), step)
            rollouts.append(meter.peak())
            work = train_on(drawn.kept, config, training, Onlooker(Path(folder)))
            trainers.append(meter.peak())
            training.steps_done += 1
            print(f"step {step + 1} of {config.run.steps}: {len(work.record.gradient_norms)} updates", flush=True)
            del drawn, work
            at_rest = meter.now()
    return Measured(weights, at_rest, max(rollouts[1:]), max(trainers[1:]))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("harness",)))
