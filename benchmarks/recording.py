"""What it costs a run to write everything down, and whether its memory grows."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.table import Row
from harness.algorithm.metrics import Metrics
from harness.config.resolve import resolve
from harness.config.schema import Config
from harness.loop import train

STEPS, SETTLED = 2000, 50
SMALL = {
    "steps": STEPS,
    "prompts_per_step": 4,
    "group_size": 4,
    "minibatches": 2,
    "max_response_tokens": 24,
    "eval_every": 100,
    "eval_prompts": 16,
    "final_eval_samples": 1,
}


def rows() -> Iterator[Row]:
    """Time of recording in the demo's own steps, and resident memory over many small ones."""
    print("recording, 21 steps of the demo ...", flush=True)
    lines, _ = observed(resolve({"loss_type": "fipo", "epsilon_high": 0.28, "steps": 21}, preset="demo"))
    seconds = sum(float(line["time/record_s"] or 0) for line in lines)
    share = 100 * seconds / float(lines[-1]["time/elapsed_s"] or 0)
    yield Row("share of recording in a step of the demo, checkpoints included", share, "%", at_most=3.0)
    print(f"resident memory, {STEPS:,} steps ...", flush=True)
    _, memory = observed(resolve(SMALL))
    early, late = max(memory[:SETTLED]), max(memory[SETTLED:])
    yield Row(f"resident memory up to step {SETTLED}", early, "MiB")
    yield Row(f"resident memory, largest after it, up to step {STEPS:,}", late, "MiB")
    yield Row(f"growth of resident memory after step {SETTLED}", 100 * (late / early - 1), "%", at_most=2.0)


def observed(config: Config) -> tuple[list[Metrics], list[float]]:
    """A run's lines of metrics, and the process's resident memory (MiB) after each step."""
    lines: list[Metrics] = []
    memory: list[float] = []

    def observe(metrics: Metrics) -> None:
        lines.append(metrics)
        memory.append(resident_mib())

    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder) / "run", observe)
    return lines, memory


def resident_mib() -> float:
    """Resident memory of this process, on Linux."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
