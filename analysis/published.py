"""Published numbers, and which of them a run may be set beside."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

FILE = Path(__file__).with_name("published.toml")
COLUMNS = ["source", "model", "benchmark", "metric", "arm", "parameter", "at", "value", "note"]


@cache
def published() -> pd.DataFrame:
    """A row per published number: COLUMNS; `value` is a share, `parameter` and `at` say of which setting it is."""
    sets = tomllib.loads(FILE.read_text(encoding="utf-8"))["set"]
    rows = [
        {"parameter": None, "at": None} | {name: value for name, value in one.items() if name != "rows"} | row
        for one in sets
        for row in one["rows"]
    ]
    table = pd.DataFrame(rows)[COLUMNS]
    return table.assign(value=table["value"] / 100, at=pd.to_numeric(table["at"]))


@cache
def published_settings() -> pd.DataFrame:
    """The settings that the papers used: parameter, at, label, source."""
    return pd.DataFrame(tomllib.loads(FILE.read_text(encoding="utf-8"))["setting"])


def comparable(configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The published rows that runs of these settings may be set beside: same base model, evaluated on the benchmark."""
    table, models = published(), {_name(config["model"]["model"]) for config in configs.values() if "model" in config}
    tasks = {_squeezed(str(config.get("task", {}).get("task"))) for config in configs.values()}
    same_model = table["model"].map(_name).isin(models) if len(models) == 1 else pd.Series(False, index=table.index)
    same_task = table["benchmark"].map(lambda name: any(_squeezed(name) in task for task in tasks))
    return table[same_model & same_task]


def comparability(configs: Mapping[str, Mapping[str, Any]]) -> str:
    """Why published numbers stand beside these runs, or why none do."""
    models = sorted({str(config.get("model", {}).get("model", "not recorded")) for config in configs.values()})
    tasks = sorted({str(config.get("task", {}).get("task", "not recorded")) for config in configs.values()})
    found = comparable(configs)
    made = f"model {', '.join(models)} on {', '.join(tasks)}"
    if found.empty:
        return (
            f"None of the published numbers can be set beside these runs ({made}): they are of Qwen2.5-32B and "
            "Qwen2.5-Math-7B on AIME. They are listed as references and drawn into no figure of measured values."
        )
    return f"Published numbers of the same model and benchmark stand beside these runs ({made}), as single peaks."


def _name(model: object) -> str:
    """A model's name without its owner or folder: `Qwen/Qwen2.5-32B` and `/models/Qwen2.5-32B/` are one."""
    return str(model).rstrip("/").rsplit("/", 1)[-1].lower()


def _squeezed(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
