"""Study folders as docs/run_folder.md has them, with made-up numbers."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness import resolve, tree_of

KEYS = [f"loss/number_{index}" for index in range(40)]


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


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


def write_search(study: Path, trials: Sequence[Mapping[str, Any]], seeds: int, steps: int) -> None:
    """A search for fipo; each trial says what is not the usual of it."""
    described = {
        "schema_version": 1,
        "kind": "search",
        "name": "fipo-search",
        "preset": "demo",
        "storage": None,
        "losses": ["fipo"],
        "spaces": {"fipo": {"fipo_decay_rate": {"kind": "log", "low": 2.0, "high": 512.0}}},
        "space": "fipo",
        "sampler": {"name": "TPESampler", "arguments": {"seed": 0}},
        "value": "mean final accuracy",
        "trials": len(trials),
        "seeds": list(range(seeds)),
        "report_seeds": [0],
    }
    write(study / "study.json", described)
    rows = [trial_row(number, seeds) | dict(trial) for number, trial in enumerate(trials)]
    pq.write_table(pa.Table.from_pylist(rows), study / "trials.parquet")
    for row in rows:
        for seed in range(seeds) if row["state"] != "waiting" else ():
            write_run(study / "runs" / f"fipo-trial{row['trial']:04d}-seed{seed}", "fipo", steps)


def trial_row(number: int, seeds: int) -> dict[str, Any]:
    return {
        "loss": "fipo",
        "trial": number,
        "state": "finished",
        "reason": None,
        "value": 0.1 * number,
        "feasible": True,
        "seeds": list(range(seeds)),
        "values": [0.1 * number] * seeds,
        "param.lr": 1e-4 * (number + 1),
        "param.fipo_clip_high_only": "true",
        "param.delta": None,
        "constraint.collapse": -0.5,
        "generated_tokens": 1000,
        "seconds": 12.5,
        "attempts": 0,
        "host": "here",
        "ended": number,
    }
