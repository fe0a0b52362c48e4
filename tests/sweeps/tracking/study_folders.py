"""Study folders as docs/run_folder.md has them, with made-up numbers."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness import resolve, tree_of
from tests.analysis import search_folders
from tests.analysis.folders import write_json as write
from tests.analysis.search_folders import SearchTruth

KEYS = [f"loss/number_{index}" for index in range(40)]


def write_run(folder: Path, loss: str, steps: int, state: str = "finished") -> None:
    """A run; the steps that it has already keep their lines."""
    config = tree_of(resolve({"loss_type": loss}, preset="demo"))
    write(folder / "config.json", {"schema_version": 1, "sha256": "ab" * 32, "config": config})
    write(folder / "environment.json", {"started_at": "2026-11-22T09:00:00+00:00"})
    write(folder / "status.json", {"state": state, "reason": None, "exit_code": 0, "steps_done": steps})
    lines = [line(step) for step in range(steps)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines) + '{"step": 99, "ro')
    for step in range(0, steps + 1, 2):  # before the line of the step in which it is made
        write_evaluation(folder / "evals" / f"step_{step:06d}.parquet", [step < 2, True, False, False])


def line(step: int) -> dict[str, Any]:
    made_up: dict[str, Any] = {key: math.sin(step + index) for index, key in enumerate(KEYS)}
    return made_up | {
        "step": step,
        "rollout/accuracy": step / 100,
        "rollout/avg@32": step / 50,
        "loss/future_kl": None,
        "loss/kl_to_old": math.inf if step == 1 else 0.5,
        "optimizer/grad_norm": math.nan if step == 1 else 1.5,
        "time/elapsed_s": 2.0 * step,
    }


def write_evaluation(path: Path, correct: Sequence[bool]) -> None:
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        tokens, truncated = [4] * len(correct), [False] * len(correct)
        pq.write_table(pa.table({"correct": correct, "response_tokens": tokens, "truncated": truncated}), path)


def write_comparison(study: Path, losses: Sequence[str], seeds: int, steps: int) -> None:
    arms = [
        {"name": loss, "loss_type": loss, "control": "none", "seeds": list(range(seeds)), "settings": {"lr": 1e-4}}
        for loss in losses
    ]
    study_json = {"schema_version": 1, "family": "controlled", "family_description": "one scaffold for all"}
    write(study / "study.json", study_json | {"preset": "demo", "arms": arms, "differences": [], "confounds": []})
    for loss in losses:
        for seed in range(seeds):
            write_run(study / "runs" / f"{loss}-seed{seed}", loss, steps)
    (study / "report" / "figures").mkdir(parents=True, exist_ok=True)
    (study / "report" / "figures" / "curves.png").write_bytes(b"\x89PNG made up")


def write_search(study: Path, truth: SearchTruth, steps: int) -> None:
    """A search for fipo, with the runs of each trial that does not wait."""
    search_folders.write_search(study, truth)
    for trial in range(truth.trials):
        for seed in range(truth.seeds) if truth.ends.get(("fipo", trial), ("",))[0] != "waiting" else ():
            write_run(study / "runs" / f"fipo-trial{trial:04d}-seed{100 + seed}", "fipo", steps)
