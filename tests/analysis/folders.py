"""Synthetic run and study folders after docs/run_folder.md, with a truth that is known."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LIMIT = 72
WEIGHTS = {  # shares of tokens, of a run with influence weights
    "loss/influence_weight_moved": 0.4,
    "loss/influence_weight_at_low": 0.3,
    "loss/influence_weight_at_high": 0.1,
    "loss/safety_fraction": 0.01,
}


@dataclass(frozen=True)
class ArmTruth:
    """What an arm does: where accuracy goes, how fast, and how much seeds differ."""

    name: str
    loss_type: str = "dapo"
    control: str = "none"
    seeds: int = 5
    end: float = 0.88
    pace: float = 4.0
    spread: float = 0.01
    key: str = ""  # arms of the same key draw the same random numbers
    first_seed: int = 0
    diverged: tuple[int, ...] = ()  # seeds that ended by a number that was not finite, after half of the steps


@dataclass(frozen=True)
class StudyTruth:
    """A study's arms and size."""

    arms: tuple[ArmTruth, ...]
    steps: int = 20
    prompts: int = 256
    final_samples: int = 8
    start: float = 0.26
    fields: dict[str, Any] = field(default_factory=dict)
    tokens: bool = False  # whether runs with influence weights kept tokens one by one
    claims: str = ""  # the text of a claims file that was fixed before the runs


DEMO = StudyTruth(
    (
        ArmTruth("grpo", "grpo", end=0.883, pace=4.6),
        ArmTruth("dapo", "dapo", end=0.873, pace=4.2),
        ArmTruth("fipo", "fipo", end=0.882, pace=4.0),
        ArmTruth("blame", "dapo", "blame", end=0.911, pace=2.7),
        ArmTruth("random_reward", "dapo", "random_reward", seeds=3, end=0.22, pace=4.0),
    )
)


def smaller(truth: StudyTruth, **changes: Any) -> StudyTruth:
    """The same study with fewer steps and prompts, for tests."""
    return replace(truth, **{"steps": 6, "prompts": 24, "final_samples": 4} | changes)


def write_small_study(folder: Path) -> Path:
    """A study of two losses, five seeds, little data."""
    truth = StudyTruth((ArmTruth("dapo"), ArmTruth("fipo", "fipo")))
    return write_study(folder, smaller(truth, steps=2, prompts=4, final_samples=2))


def write_study(folder: Path, truth: StudyTruth) -> Path:
    """A study folder with all of its runs finished."""
    arms = [
        {
            "name": arm.name,
            "loss_type": arm.loss_type,
            "control": arm.control,
            "seeds": list(range(arm.first_seed, arm.first_seed + arm.seeds)),
            "settings": {"loss_type": arm.loss_type},
        }
        for arm in truth.arms
    ]
    differences = [{"field": "loss_type", "values": {a.name: a.loss_type for a in truth.arms}, "allowed": True}]
    description = {
        "schema_version": 1,
        "family": "controlled",
        "primary_outcome": "auc",
        "preset": "demo",
        "arms": arms,
        "roles": {arm.name: {"planted": True} for arm in truth.arms if arm.control != "none"},
        "differences": differences,
        "confounds": [],
    }
    if truth.claims:
        (folder / "claims.toml").parent.mkdir(parents=True, exist_ok=True)
        (folder / "claims.toml").write_text(truth.claims)
        sha256 = hashlib.sha256(truth.claims.encode()).hexdigest()
        description["claims"] = {"name": "ours", "sha256": sha256, "fixed_at": "2026-11-22T11:00:00+00:00"}
    write_json(folder / "study.json", description | truth.fields)
    for arm in truth.arms:
        for seed in range(arm.first_seed, arm.first_seed + arm.seeds):
            run = write_run(folder / "runs" / f"{arm.name}-seed{seed}", arm, seed, truth)
            if seed in arm.diverged:
                let_diverge(run, truth.steps // 2)
    return folder


def let_diverge(run: Path, step: int) -> None:
    """Cut the run off before the step, as a NaN would have ended it."""
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:step]))
    for path in (run / "evals").iterdir():
        if int(path.stem.removeprefix("step_")) > step:
            path.unlink()
    reason = "expected finite numbers, got nan in the loss"
    about = {"state": "failed", "reason_code": "diverged", "reason": reason, "exit_code": 1, "steps_done": step}
    write_json(run / "status.json", about)


def write_run(run: Path, arm: ArmTruth, seed: int, truth: StudyTruth) -> Path:
    """One finished run folder."""
    rng = np.random.default_rng([seed, crc32((arm.key or arm.name).encode())])
    level = rng.normal(0.0, arm.spread)
    config = {
        "run": {"seed": seed, "steps": truth.steps},
        "task": {"control": arm.control},
        "loss": {"loss_type": arm.loss_type},
    }
    write_json(run / "config.json", {"schema_version": 1, "sha256": "0" * 64, "config": config})
    write_json(run / "environment.json", environment())
    lines = metric_lines(arm, truth, level, rng)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_evals(run, arm, truth, level)
    if truth.tokens and arm.loss_type == "fipo":
        write_tokens(run, truth.steps, rng)
    write_json(run / "status.json", {"state": "finished", "reason": None, "exit_code": 0, "steps_done": truth.steps})
    return run


def write_tokens(run: Path, steps: int, rng: np.random.Generator) -> None:
    """Per step two right and two wrong responses of one prompt, of 8 tokens each, and their rollouts."""
    for step in range(steps):
        heads = [{"prompt_id": "p0001", "sample": sample, "correct": sample < 2} for sample in range(4)]
        rollouts = [
            {"step": step, **head, "prompt": "a1b2:", "target": "3", "advantage": 1.0 if head["correct"] else -1.0}
            | {"trained": True}
            for head in heads
        ]
        rows = [
            {"step": step, "prompt_id": "p0001", "sample": sample, "position": place, "token": 1, "text": text}
            | {"log_ratio": float(ratio), "future_kl": float(kl), "influence_weight": float(np.exp(kl))}
            for sample in range(4)
            for place, (text, ratio, kl) in enumerate(zip("a1b2=3#3", *rng.normal(0, 0.1, (2, 8)), strict=True))
        ]
        for kind, table in (("tokens", rows), ("rollouts", rollouts)):
            (run / kind).mkdir(exist_ok=True)
            pd.DataFrame(table).to_parquet(run / kind / f"step_{step:06d}.parquet")


def environment() -> dict[str, Any]:
    return {
        "commit": COMMIT,
        "dirty_diff_sha256": None,
        "python": "3.11.2",
        "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
        "platform": "Linux-6.1-x86_64",
        "cpu": "a processor",
        "cpu_capability": "AVX512",
        "threads": 1,
        "model_sha256": "a" * 64,
        "eval_prompts_sha256": "b" * 64,
        "command_line": "python -m harness train",
        "started_at": "2026-11-22T12:00:00+00:00",
    }


def accuracy(arm: ArmTruth, truth: StudyTruth, step: int, level: float) -> float:
    """Where the truth stands after so many steps; every seed starts at the same place, as they share a warm start."""
    risen = 1.0 - np.exp(-step / arm.pace)
    reached = truth.start + (arm.end - truth.start) * risen + level * min(1.0, step / 3)
    return float(np.clip(reached, 0.02, 0.98))


def metric_lines(arm: ArmTruth, truth: StudyTruth, level: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    lines, generated, discarded = [], 0, 0
    for step in range(truth.steps):
        risen = 1.0 - np.exp(-step / 3)
        tokens = 23 + (14 if arm.control != "random_reward" else -6) * risen + rng.normal(0, 0.5)
        rounds = int(rng.integers(1, 3))
        generated += int(256 * tokens * rounds)
        discarded += int(256 * tokens * (rounds - 0.8))
        lines.append(
            {
                "step": step,
                "rollout/accuracy": accuracy(arm, truth, step, level) + rng.normal(0, 0.02),
                "rollout/response_tokens_mean": tokens,
                "rollout/response_tokens_max": tokens + 5,
                "rollout/entropy": 0.75 - 0.45 * risen + rng.normal(0, 0.01),
                "rollout/informative_groups_share": 0.98 - 0.5 * risen + rng.normal(0, 0.03),
                "rollout/sampling_rounds": rounds,
                "rollout/truncated_share": max(0.0, 0.01 + rng.normal(0, 0.004)),
                "loss/kl_to_old": abs(0.004 + rng.normal(0, 0.001)),
                "loss/clip_fraction_low": abs(0.002 + rng.normal(0, 0.0006)),
                "loss/clip_fraction_high": abs(0.004 + rng.normal(0, 0.001)),
                "loss/clip_fraction_dual": abs(0.00005 + rng.normal(0, 0.00002)),
                "weights/effective_share": 0.99 + rng.normal(0, 0.001),
                "weights/gini": 0.01 + rng.normal(0, 0.001),
                "weights/zero_share": 0.006,
                "weights/moved_share": 0.4,
                "optimizer/grad_norm": 0.8 + rng.normal(0, 0.1),
                "ledger/generated_tokens": generated,
                "ledger/discarded_tokens": discarded,
                "time/evaluation_s": 0.1,
                "time/elapsed_s": 1.1 * (step + 1) + rng.normal(0, 0.02),
            }
            | (WEIGHTS | {"loss/influence_weight": 1.02 + rng.normal(0, 0.003)} if arm.loss_type == "fipo" else {})
        )
    return lines


def write_evals(run: Path, arm: ArmTruth, truth: StudyTruth, level: float) -> None:
    rng = np.random.default_rng([11, crc32(run.name.encode()) if not arm.key else crc32(arm.key.encode())])
    steps = list(range(0, truth.steps + 1, 2))
    (run / "evals").mkdir(parents=True, exist_ok=True)
    for step in steps:
        samples = truth.final_samples if step in steps[-3:] else 1
        answers_of(truth, accuracy(arm, truth, step, level), samples, rng).assign(step=step).to_parquet(
            run / "evals" / f"step_{step:06d}.parquet"
        )


def answers_of(truth: StudyTruth, level: float, samples: int, rng: np.random.Generator) -> pd.DataFrame:
    """Hard prompts have longer answers; among answers to one prompt the longer are right more often."""
    difficulty = np.random.default_rng(7).normal(0, 1, truth.prompts)
    hard, deviation = np.repeat(difficulty, samples), rng.normal(0, 1, truth.prompts * samples)
    tokens = np.clip(np.rint(23 + 14 * level + 5 * hard + 5 * deviation), 2, LIMIT + 8).astype(int)
    odds = np.log(level / (1 - level)) * 1.25 + 0.35 * deviation - 1.2 * hard
    truncated = (tokens > LIMIT) | (rng.random(tokens.size) < 0.012)
    correct = (rng.random(tokens.size) < 1 / (1 + np.exp(-odds))) & ~truncated
    return pd.DataFrame(
        {
            "prompt_id": np.repeat([f"p{i:04d}" for i in range(truth.prompts)], samples),
            "sample": np.tile(np.arange(samples), truth.prompts),
            "text": "",
            "answer": "",
            "correct": correct,
            "response_tokens": np.where(truncated, LIMIT, tokens),
            "truncated": truncated,
        }
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
