"""Whether runs may be compared at all: same model, same questions, same way of answering, same arithmetic."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.errors import RecordsError

MUST_AGREE = {
    "model_sha256": "initial weights",
    "eval_prompts_sha256": "evaluation prompts",
    "threads": "numbers of threads",
}


def check_alike(environments: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise RecordsError naming two runs that differ in what would be taken for a difference between losses.

    environments: a row per run with the fields of environment.json. configs: settings by run and section.
    """
    for what, values in _identities(environments, configs):
        first = next(iter(values))
        for run, value in values.items():
            if value != values[first]:
                raise RecordsError(
                    f"expected runs that can be compared, got other {what} in {run} ({_short(value)}) than in "
                    f"{first} ({_short(values[first])}): report them apart"
                )


def _identities(
    environments: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, object]]]:
    """What must be one, by run."""
    for field, what in MUST_AGREE.items():
        known = environments[field].astype(object).where(environments[field].notna(), None)
        yield what, dict(zip(environments["run"], known, strict=True))
    for section, names in (("evaluation", None), ("task", ("task",))):
        what = "evaluation settings" if names is None else "task"
        yield what, {run: _settings(config.get(section, {}), names) for run, config in configs.items()}


def _settings(section: dict[str, object], names: tuple[str, ...] | None) -> str:
    kept = section if names is None else {name: section.get(name) for name in names}
    return json.dumps(kept, sort_keys=True)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
