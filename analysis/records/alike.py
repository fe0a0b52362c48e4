"""Whether runs may be compared at all: same model, same questions, same way of answering, same arithmetic."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.errors import RecordsError

MUST_AGREE = {
    "model_sha256": "initial weights",
    "start_from_sha256": "states",
    "eval_prompts_sha256": "evaluation prompts",
    "threads": "numbers of threads",
    "train_prompts_sha256": "training prompts",
    "task_code_sha256": "contents of the file of --task",
    "reward_code_sha256": "contents of the file of --reward",
}
TASK = "task", "task_settings", "reward", "answer_format"  # settings that must agree


def check_alike(environments: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise RecordsError naming two runs that differ in what would be taken for a difference between losses.

    environments: a row per run with the fields of environment.json. configs: settings by run and section.
    """
    by_run = environments.set_index("run").astype(object)
    alike = {what: by_run[field].where(by_run[field].notna(), None) for field, what in MUST_AGREE.items()}
    evaluation = {run: json.dumps(config.get("evaluation", {}), sort_keys=True) for run, config in configs.items()}
    task = {run: json.dumps([_setting(config, name) for name in TASK]) for run, config in configs.items()}
    alike |= {"evaluation settings": pd.Series(evaluation), "task or rewards": pd.Series(task)}
    for what, values in alike.items():
        first, wanted = values.index[0], values.iloc[0]
        for run, value in values.items():
            if value != wanted:
                raise RecordsError(
                    f"expected runs that can be compared, got other {what} in {run} ({_short(value)}) than in "
                    f"{first} ({_short(wanted)}): report them apart"
                )


def _setting(config: Mapping[str, Any], name: str) -> str | None:
    """A setting of task or data; of a file its name alone, since its hash is compared."""
    value = config.get("data" if name == "answer_format" else "task", {}).get(name)
    return value.rpartition("/")[2] if isinstance(value, str) and ".py:" in value else value


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
