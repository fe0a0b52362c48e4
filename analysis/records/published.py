"""Published numbers, under which settings they came about, and which of them a run may be set beside."""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

FILE = Path(__file__).with_name("published.toml")
COLUMNS = ["source", "model", "benchmark", "metric", "arm", "parameter", "at", "value", "note"]
HUB = re.compile(r"[\w.-]+/(?P<name>[\w.-]+):(?P<file>[^@]+)")  # a file of the hub
BENCHMARK = re.compile(r"aime(?:20)?(2[45])")  # in a squeezed name
DATA_SUFFIXES = (".parquet", ".jsonl", ".json")

Config = Mapping[str, Mapping[str, Any]]


@cache
def published() -> pd.DataFrame:
    """A row per published number: COLUMNS; `value` is a share, `parameter` and `at` say of which setting it is."""
    rows = [
        {"parameter": None, "at": None} | {name: value for name, value in one.items() if name != "rows"} | row
        for one in _file()["set"]
        for row in one["rows"]
    ]
    table = pd.DataFrame(rows)[COLUMNS]
    return table.assign(value=table["value"] / 100, at=pd.to_numeric(table["at"]))


def protocol(source: str, model: str, arm: str) -> dict[str, Any]:
    """The settings, by name, of a published row's runs, as far as anything says."""
    found: dict[str, Any] = {}
    for one in _file()["protocol"]:
        if source.startswith(one["source"]) and model == one["model"] and arm in one.get("arms", [arm]):
            found |= {name: value for name, value in one.items() if name not in ("source", "model", "arms")}
    return found


def setting_words() -> dict[str, str]:
    """By the name in `protocol`, what a sentence calls a setting."""
    return dict(_file()["words"])


def suite_of(given: str) -> str:
    """The name that records give to a benchmark of --eval_data: the shipped name, else the file's stem."""
    if hub := HUB.match(given):
        return Path(hub["file"]).stem
    return Path(given if given.endswith(DATA_SUFFIXES) else given.partition("@")[0]).stem


def benchmark_of(given: str) -> str | None:
    """The published benchmark that an entry of --eval_data is, by its file's name or its data set's; None of others."""
    hub = HUB.match(given)
    squeezed = (re.sub(r"[\W_]", "", name.lower()) for name in (suite_of(given), hub["name"] if hub else ""))
    return next((f"AIME 20{found[1]}" for name in squeezed if (found := BENCHMARK.fullmatch(name))), None)


def benchmarks(config: Config) -> dict[str, str | None]:
    """Each benchmark by its name in the run's records, and which published one it is.

    None for a run that is evaluated on problems held out from its training data.
    """
    if config.get("evaluation", {}).get("eval_split") == "tune":
        return {}
    given = str(config.get("data", {}).get("eval_data") or "")
    return {suite_of(one): benchmark_of(one) for one in (part.strip() for part in given.split(",")) if one}


def comparable(configs: Mapping[str, Config]) -> pd.DataFrame:
    """The published rows that runs of these settings may be set beside: same base model, evaluated on the benchmark."""
    table, models = published(), {_name(config["model"]["model"]) for config in configs.values() if "model" in config}
    evaluated = [set(benchmarks(config).values()) for config in configs.values()]
    same_model = table["model"].map(_name).isin(models) if len(models) == 1 else pd.Series(False, index=table.index)
    return table[same_model & table["benchmark"].isin(set.intersection(*evaluated) if evaluated else ())]


def comparability(configs: Mapping[str, Config]) -> str:
    """Why published numbers stand beside these runs, or why none do."""
    models = sorted({str(config.get("model", {}).get("model", "not recorded")) for config in configs.values()})
    asked = sorted({_asked(config) for config in configs.values()})
    found = comparable(configs)
    made = f"model {', '.join(models)} on {', '.join(asked)}"
    if found.empty:
        return (
            f"None of the published numbers can be set beside these runs ({made}): they are of Qwen2.5-32B and "
            "Qwen2.5-Math-7B on AIME. They are listed as references and drawn into no figure of measured values."
        )
    return f"Published numbers of the same model and benchmark stand beside these runs ({made}), as single runs."


@cache
def _file() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def _asked(config: Config) -> str:
    """What the run was evaluated on."""
    task = str(config.get("task", {}).get("task", "not recorded"))
    if task != "math":
        return task
    return " and ".join(benchmarks(config)) or "problems held out from its training data"


def _name(model: object) -> str:
    """A model's name without its owner or folder: `Qwen/Qwen2.5-32B` and `/models/Qwen2.5-32B/` are one."""
    return str(model).rstrip("/").rsplit("/", 1)[-1].lower()
