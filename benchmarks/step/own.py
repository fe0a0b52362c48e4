"""This project taking whole training steps on request, one thread: the real loop, and where its time goes.

python -m benchmarks.step.own SPEC: a line of JSON for each line of input, the SPEC of `benchmarks.step.report`.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.arithmetic import FORWARD_AND_BACKWARD, Group, forward_flops
from benchmarks.models import endless
from harness.algorithm.metrics import Stopwatch
from harness.algorithm.state import Training, begin
from harness.backends.torch_setup import set_up_torch
from harness.config.resolve import resolve
from harness.config.schema import Config
from harness.loop import run_step
from harness.model.policy import load_policy
from harness.rollouts.engine import Key, TorchEngine
from harness.rollouts.sampler import Sample, Sampling
from harness.run.record import RunFolder


@dataclass
class WatchedEngine(TorchEngine):
    """Says what its last call took, and of what lengths prompts and responses were."""

    cpu_s: float = 0.0
    groups: list[Group] = field(default_factory=list)

    def generate(self, prompts: Sequence[list[int]], keys: Sequence[Key], sampling: Sampling) -> list[Sample]:
        """As it is."""
        started = time.process_time()
        samples = super().generate(prompts, keys, sampling)
        self.cpu_s = time.process_time() - started
        size = len(samples) // len(prompts)
        lengths = [len(one.tokens) for one in samples]
        self.groups = [Group(len(p), lengths[i * size : (i + 1) * size]) for i, p in enumerate(prompts)]
        return samples


@dataclass
class Stepper:
    """A run of which one step is taken at a time."""

    config: Config
    training: Training
    engine: WatchedEngine
    folder: RunFolder
    trained_tokens: int = 0

    def step(self) -> dict[str, Any]:
        """CPU seconds of a whole step and of its phases, and the arithmetic that these needed, in FLOPs."""
        began = time.process_time()
        metrics = run_step(self.config, self.training, self.folder)
        self.folder.add_metrics(metrics)
        self.training.steps_done += 1
        cpu = time.process_time() - began
        before, self.trained_tokens = self.trained_tokens, int(metrics["ledger/trained_tokens"] or 0)
        phases = {
            "generation": self.engine.cpu_s,
            "log-probabilities": float(metrics["time/logprobs_s"] or 0),
            "update": float(metrics["time/update_s"] or 0),
        }
        model, groups = self.training.policy.model, self.engine.groups
        forward = forward_flops(model, groups)
        # the first update gives the old log-probabilities of its own groups
        later = forward_flops(model, groups[len(groups) // self.config.optimizer.minibatches :])
        flops = {"generation": forward, "log-probabilities": later, "update": FORWARD_AND_BACKWARD * forward}
        tokens = self.trained_tokens - before
        phases |= {"everything else": cpu - sum(phases.values())}
        prompts = sum(group.prompt * len(group.responses) for group in groups)
        told = {"cpu_s": cpu, "trained_tokens": tokens, "prompt_tokens": prompts}
        return told | {"phases": phases, "flops": flops}


def begun(spec: dict[str, Any], path: Path) -> Stepper:
    """The run before its first step, recorded in a new folder."""
    set_up_torch(threads=1)
    config = resolve(spec["settings"])
    policy = load_policy(config.model.model)
    policy = policy if spec["is_free"] else endless(policy)
    training = begin(config, policy, None)
    engine = WatchedEngine(policy)
    # CPU seconds in place of the wall's, which others on the machine lengthen
    training.engine, training.watch = engine, Stopwatch(time.process_time)
    return Stepper(config, training, engine, RunFolder.create(path, config, {}, None))


def main(path: Path) -> None:
    """One step for each line of input."""
    spec = json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        stepper = begun(spec, Path(folder) / "run")
        for _ in iter(sys.stdin.readline, ""):
            print(json.dumps(stepper.step()), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
