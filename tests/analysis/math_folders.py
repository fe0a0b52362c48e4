"""Small run folders of task math after docs/run_folder.md, every answer given by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tests.analysis.folders import environment, write_json

# What a run of the FIPO paper on Qwen2.5-32B is set to.
FIPO_32B: dict[str, dict[str, Any]] = {
    "run": {"seed": 0, "steps": 575},
    "model": {"model": "Qwen/Qwen2.5-32B", "lora_rank": None},
    "task": {"task": "math", "control": "none", "overlong_buffer": 4096},
    "data": {
        "train_data": "dapo-math-17k",
        "eval_data": "aime24,aime25",
        "answer_format": "answer_line",
        "prompt_template": "chat",
    },
    "rollout": {"max_response_tokens": 20480, "prompts_per_step": 512, "group_size": 16, "dynamic_sampling": True},
    "loss": {
        "loss_type": "fipo",
        "epsilon_high": 0.28,
        "delta": 10.0,
        "fipo_decay_rate": 32.0,
        "fipo_clip_range": 0.2,
        "fipo_clip_high_only": True,
        "fipo_safety_threshold": 10.0,
    },
    "optimizer": {"lr": 1e-6, "minibatches": 8},
    "evaluation": {"eval_temperature": 1.0, "eval_top_p": 0.7, "eval_split": "report"},
}

Answers = Mapping[str, Sequence[str | None]]  # by prompt; one that begins with ! is wrong


def config_with(**changes: Any) -> dict[str, dict[str, Any]]:
    """These settings with `changes` in place of some."""
    return {
        section: {name: changes.get(name, value) for name, value in settings.items()}
        for section, settings in FIPO_32B.items()
    }


def write_math_run(run: Path, config: dict[str, dict[str, Any]], evals: Mapping[int, Answers]) -> Path:
    """One finished run; its suites are the prompts by their first letters, a of aime24 and b of aime25."""
    seed = int(run.name.partition("-seed")[2] or 0)
    config = config | {"run": config["run"] | {"seed": seed}}
    write_json(run / "config.json", {"schema_version": 1, "sha256": "0" * 64, "config": config})
    prompts = sorted({prompt for answers in evals.values() for prompt in answers})
    evaluation = {
        name: {"source": name, "prompt_ids": [prompt for prompt in prompts if prompt.startswith(letter)]}
        for name, letter in (("aime24", "a"), ("aime25", "b"))
    }
    write_json(run / "environment.json", environment() | {"data": {"training": None, "evaluation": evaluation}})
    line = {"step": 0, "rollout/accuracy": 0.5, "ledger/generated_tokens": 100, "time/elapsed_s": 1.0}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (run / "evals").mkdir()
    for step, answers in evals.items():
        rows_of(answers, step).to_parquet(run / "evals" / f"step_{step:06d}.parquet")
    write_json(run / "status.json", {"state": "finished", "reason": None, "exit_code": 0, "steps_done": 1})
    return run


def rows_of(answers: Answers, step: int) -> pd.DataFrame:
    """A row per answer."""
    return pd.DataFrame(
        [
            {
                "step": step,
                "prompt_id": prompt,
                "sample": sample,
                "answer": answer,
                "correct": answer is not None and not answer.startswith("!"),
                "response_tokens": 9 + sample,
                "truncated": False,
            }
            for prompt, given in answers.items()
            for sample, answer in enumerate(given)
        ]
    )
