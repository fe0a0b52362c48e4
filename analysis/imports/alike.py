"""What a study of imported runs can bear: what differs between its arms, and what no import can know."""

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from hashlib import sha256
from itertools import combinations
from math import nan
from typing import Any

from analysis.formatting import counted, listed
from analysis.imports.cells import FORMATS, NEEDED
from analysis.imports.readers import STATE
from analysis.records.outcomes import final_evaluations
from analysis.records.run_files import MEAN, named_seed, read_json
from analysis.records.study import Study
from analysis.statistics.robust import binomial_interval

APART, LOSS = (tuple(FORMATS["settings"][name]) for name in ("apart", "loss"))
MOST_TEXT = 60
By = Mapping[str, Mapping[str, Any]]  # by run


def borne_by(study: Study) -> dict[str, Any]:
    """Primary outcome, differences, confounds and notes of study.json, from the runs that are there."""
    about = {run: read_json(path / "environment.json")["imported"] for run, path in study.folders.items()}
    settings = {
        run: {name: value for name, value in config["source"].items() if not _is_among(name, APART)}
        for run, config in study.configs.items()
    }
    differences = [*_unlike_evaluations(study, about), *_unlike_settings(settings)]
    evaluated = set(study.evals["run"]) == set(study.folders)
    return {
        "primary_outcome": "final_accuracy" if evaluated else "auc",
        "differences": differences,
        "confounds": [row["field"] for row in differences if not row["allowed"]],
        "notes": [*_unknown(study, about, settings), *_scores(study), _head(about), *said_once(about)],
    }


def said_once(about: By) -> list[str]:
    """What the import noticed of each run, each note once with the runs that it is about."""
    by_note: dict[str, list[str]] = {}
    for run, one in about.items():
        for note in one["notes"]:
            by_note.setdefault(note, []).append(run)
    few = {
        note: [*names[:1], f"{len(names) - 1} more runs"] if len(names) > 3 else names
        for note, names in by_note.items()
    }
    return [f"{note} ({listed(names)})." for note, names in few.items()]


def _head(about: By) -> str:
    """What was imported, and what is what there."""
    sources = listed(list(dict.fromkeys(one["format"] for one in about.values())))
    said = ""
    for name, words in NEEDED.items():
        used = dict.fromkeys(one["columns"][name] for one in about.values() if name in one["columns"])
        said += f"; {words} is {listed(list(used))}" if used else ""
    return f"Imported from {sources}, {counted(len(about), 'run')}{said}."


def _unlike(field: str, by_run: Mapping[str, Any], allowed: bool = False) -> list[dict[str, Any]]:
    """The difference, with a value for each arm or several where its own runs differ; none where all runs agree."""
    arms: dict[str, dict[Any, None]] = {}
    for run, value in by_run.items():
        arms.setdefault(named_seed(run)[0], {})[value] = None
    values = {arm: next(iter(own)) if len(own) == 1 else listed(list(map(str, own))) for arm, own in arms.items()}
    return [{"field": field, "values": values, "allowed": allowed}] if len(set(by_run.values())) > 1 else []


def _unlike_evaluations(study: Study, about: By) -> list[dict[str, Any]]:
    """Confounds all; a run that diverged is scored at its last evaluation, whenever that was."""
    asked, steps = dict[str, str | None](), dict(study.runs.set_index("run")["steps_done"].astype(str))
    final = final_evaluations(study.evals, study.configs)
    for run, rows in ((str(run), rows) for run, rows in final.groupby("run", observed=True)):
        prompts = sorted(rows.loc[rows["sample"] > MEAN, "prompt_id"].astype(str).unique())
        asked[run] = sha256("\n".join(prompts).encode()).hexdigest()[:12] if prompts else None
        steps[run] = listed([str(step) for step in sorted(rows["step"].unique())])
    kept = [run for run in study.folders if run not in study.diverged]
    return [
        *_unlike("evaluation questions (sha256)", {run: asked.get(run) for run in about}),
        *_unlike("steps of the last evaluations", {run: steps[run] for run in kept}),
        *_unlike("what stands for accuracy", {run: one["columns"].get("accuracy") for run, one in about.items()}),
        *_unlike("format", {run: one["format"] for run, one in about.items()}),
    ]


def _unlike_settings(settings: By) -> list[dict[str, Any]]:
    """Confounds first. Arms of which no setting is known cannot be compared."""
    arms = {named_seed(run)[0] for run, own in settings.items() if own}
    known = {run: own for run, own in settings.items() if named_seed(run)[0] in arms}
    names = sorted({name for own in known.values() for name in own})
    each = ((name, {run: _short(own.get(name)) for run, own in known.items()}) for name in names)
    rows = [row for name, values in each for row in _unlike(name, values, _is_among(name, LOSS))]
    return sorted(rows, key=lambda row: bool(row["allowed"]))


def _is_among(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern fits a setting's dotted name or the last part of it."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[2], pattern) for pattern in patterns)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 3]}..."


def _unknown(study: Study, about: By, settings: By) -> Iterator[str]:
    """What cannot be said, and why."""
    seeds = {arm.name: set(arm.seeds) for arm in study.arms}
    single = [arm for arm, own in seeds.items() if len(own) == 1]
    if len(seeds) == 1:
        yield f"Only runs of {listed(list(seeds))} are here, so nothing can be compared until another arm is imported."
    elif len(single) == len(seeds):
        yield "One run per arm: nothing can be said about the losses, only about these runs."
    elif single:
        yield f"One run alone of {listed(single)}: what it shows may be its seed."
    unknown = {named_seed(run)[0] for run, one in about.items() if not one["seed_known"]}
    if unseeded := [arm for arm in seeds if arm in unknown]:
        yield f"The seeds of {listed(unseeded)} are not known, so these runs are not paired with others."
    if any(one & other for one, other in combinations(seeds.values(), 2)):
        yield (
            "Runs are paired by seed where two arms share 5 seeds, or all seeds of one of them; whether runs of a seed "
            "share their start, prompts and noise is not known."
        )
    told = {named_seed(run)[0] for run, own in settings.items() if set(own) - set(STATE)}
    if bare := [arm for arm in seeds if arm not in told]:
        yield f"No settings are known of {listed(bare)} (--config), so what else differs cannot be said."
    if study.evals.empty:
        yield "No held-out evaluation is known: accuracy is that of the training rollouts."


def _scores(study: Study) -> Iterator[str]:
    """The binomial interval of a run's score whose number of answers is known: what a table can carry."""
    for arm in (arm for arm in study.arms if len(arm.seeds) == 1):
        path = study.folders[f"{arm.name}-seed{arm.seeds[0]}"] / "evaluations.jsonl"
        last = json.loads(path.read_text(encoding="utf-8").splitlines()[-1]) if path.is_file() else {}
        n, score = int(last.get("n") or 0), last.get("accuracy", nan)
        if n < 1 or not 0 <= score <= 1:
            continue
        if abs(score * n - round(score * n)) > 0.05 + 0.0005 * n:  # more than rounding to .001 explains
            yield f"{arm.name}: {score:.3f} is no share of {n:,} answers, so no interval is given."
            continue
        found = binomial_interval(round(score * n), n)
        interval = f"95 % binomial interval [{found.low:.3f}, {found.high:.3f}]"
        yield f"{arm.name}: {score:.3f} of {n:,} answers, {interval}, of this run alone; seeds scatter more."
