"""Study folders as docs/run_folder.md has them, with made-up numbers."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness import resolve, tree_of
from tests.analysis.folders import write_json as write

KEYS = [f"loss/number_{index}" for index in range(40)]


def write_run(folder: Path, loss: str, steps: int, state: str = "finished") -> None:
    """A run; the steps that it has already keep their lines."""
    config = tree_of(resolve({"loss_type": loss.partition("-")[0]}, preset="demo"))
    write(folder / "config.json", {"schema_version": 1, "sha256": "ab" * 32, "config": config})
    write(folder / "environment.json", {"started_at": "2026-11-22T09:00:00+00:00"})
    write(folder / "status.json", {"state": state, "reason": None, "exit_code": 0, "steps_done": steps})
    lines = [line(step) for step in range(steps)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines) + '{"step": 99, "ro')
    answers = {"response_tokens": [4] * 4, "truncated": [False] * 4}
    for step in range(0, steps + 1, 2):  # before the line of the step in which it is made
        table = pa.table({"correct": [step < 2, True, False, False], **answers})
        (folder / "evals").mkdir(exist_ok=True)
        pq.write_table(table, folder / "evals" / f"step_{step:06d}.parquet")


def line(step: int) -> dict[str, Any]:
    made_up: dict[str, Any] = {key: math.sin(step + index) for index, key in enumerate(KEYS)}
    return made_up | {
        "step": step,
        "rollout/accuracy": step / 100,
        "rollout/avg@32": step / 50,
        "loss/future_kl": None,
        "optimizer/grad_norm": math.nan if step == 1 else 1.5,
        "time/elapsed_s": 2.0 * step,
    }


def write_comparison(study: Path, losses: Sequence[str], seeds: int, steps: int) -> None:
    write(study / "study.json", {"schema_version": 1, "family": "controlled"})
    for loss in losses:
        for seed in range(seeds):
            write_run(study / "runs" / f"{loss}-seed{seed}", loss, steps)
    (study / "report" / "figures").mkdir(parents=True, exist_ok=True)
    (study / "report" / "figures" / "curves.png").write_bytes(b"\x89PNG made up")
