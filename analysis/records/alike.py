"""Whether runs may be compared at all: same model, same questions, same way of answering, same arithmetic."""

import json
from collections.abc import Iterator

from analysis.errors import RecordsError
from analysis.records.records import Study

MUST_AGREE = {
    "model_sha256": "initial weights",
    "eval_prompts_sha256": "evaluation prompts",
    "threads": "numbers of threads",
}


def alike(study: Study) -> Study:
    """The study, if its runs may be compared.

    Raises RecordsError naming two runs that differ in initial weights, evaluation prompts or settings, task or number
    of threads: such a difference would be taken for one of the losses.
    """
    for what, values in _identities(study):
        first, *others = values
        for run in others:
            if values[run] != values[first]:
                raise RecordsError(
                    f"expected runs that can be compared, got other {what} in {run} ({_short(values[run])}) than in "
                    f"{first} ({_short(values[first])}): report them apart"
                )
    return study


def _identities(study: Study) -> Iterator[tuple[str, dict[str, object]]]:
    """What must be one, by run."""
    runs = list(study.environments["run"])
    for field, what in MUST_AGREE.items():
        yield (
            what,
            dict(zip(runs, study.environments[field].astype(object).where(lambda x: x.notna(), None), strict=True)),
        )
    for section, names in (("evaluation", None), ("task", ("task",))):
        what = "evaluation settings" if names is None else "task"
        yield what, {run: _settings(config.get(section, {}), names) for run, config in study.configs.items()}


def _settings(section: dict[str, object], names: tuple[str, ...] | None) -> str:
    kept = section if names is None else {name: section.get(name) for name in names}
    return json.dumps(kept, sort_keys=True)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
