"""What a study of imported runs can bear: what differs between its arms, and what no import can know."""

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from hashlib import sha256
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
By = Mapping[str, Mapping[str, Any]]  # by run
SHOWN = 60  # letters of a value


def borne_by(study: Study) -> dict[str, Any]:
    """Primary outcome, differences, confounds and notes of study.json, from the runs that are there."""
    about = {run: read_json(path / "environment.json")["imported"] for run, path in study.folders.items()}
    settings = {
        run: {name: value for name, value in config["source"].items() if not _is_among(name, APART)}
        for run, config in study.configs.items()
    }
    told = {named_seed(run)[0] for run, own in settings.items() if own}
    compared = {run: own for run, own in settings.items() if named_seed(run)[0] in told}
    differences = [*_unlike_evaluations(study, about)]
    differences += sorted(_unlike(compared), key=lambda row: (row["allowed"], row["field"]))  # confounds first
    evaluated = set(study.evals["run"]) == set(study.folders)
    return {
        "primary_outcome": "final_accuracy" if evaluated else "auc",
        "differences": differences,
        "confounds": [row["field"] for row in differences if not row["allowed"]],
        "notes": [*_unknown(study, about, settings), *_scores(study), _head(about), *said_once(about)],
    }


def said_once(about: By) -> list[str]:
    """What the import noticed of each run, each note once with the runs that it is about."""
    found = dict[str, list[str]]()
    for run, one in about.items():
        for note in one["notes"]:
            found.setdefault(note, []).append(run)
    few = {note: runs if len(runs) <= 3 else [runs[0], f"{len(runs) - 1} more runs"] for note, runs in found.items()}
    return [f"{note} ({listed(runs)})." for note, runs in few.items()]


def _head(about: By) -> str:
    """What was imported, and what is what there."""
    said = f"Imported from {listed(list(dict.fromkeys(one['format'] for one in about.values())))}"
    said += f", {counted(len(about), 'run')}"
    for name, words in NEEDED.items():
        used = dict.fromkeys(one["columns"][name] for one in about.values() if name in one["columns"])
        said += f"; {words} is {listed(list(used))}" if used else ""
    return f"{said}."


def _unlike_evaluations(study: Study, about: By) -> Iterator[dict[str, Any]]:
    """Confounds all; a run that diverged is scored at its last evaluation, whenever that was."""
    facts, last = dict[str, dict[str, Any]](), dict[str, dict[str, Any]]()
    final = final_evaluations(study.evals, study.configs)
    for run, one in about.items():
        rows = final[final["run"] == run]
        prompts = "\n".join(sorted(rows.loc[rows["sample"] > MEAN, "prompt_id"].astype(str).unique()))
        facts[run] = {
            "evaluation questions (sha256)": sha256(prompts.encode()).hexdigest()[:12] if prompts else "not known",
            "what stands for accuracy": one["columns"].get("accuracy", "not known"),
            "format": one["format"],
        }
        steps = sorted(rows["step"].unique()) or study.runs.loc[study.runs["run"] == run, "steps_done"]
        if run not in study.diverged:
            last[run] = {"steps of the last evaluations": listed(list(map(str, steps)))}
    yield from _unlike(facts)
    yield from _unlike(last)


def _unlike(by_run: By) -> Iterator[dict[str, Any]]:
    """A row for each field in which runs differ: by arm its value, or several where the arm's own runs differ."""
    for field in dict.fromkeys(name for facts in by_run.values() for name in facts):
        values = {run: facts.get(field) for run, facts in by_run.items()}
        texts = {run: one if isinstance(one, str) else json.dumps(one, default=str) for run, one in values.items()}
        if len(set(texts.values())) > 1:
            letters = zip(*texts.values(), strict=False)
            alike = next((n for n, here in enumerate(letters) if len(set(here)) > 1), 0)
            arms: dict[str, dict[str, None]] = {}
            for run, text in texts.items():
                arms.setdefault(named_seed(run)[0], {})[_around(text, alike)] = None
            shown = {arm: listed(list(own)) for arm, own in arms.items()}
            yield {"field": field, "values": shown, "allowed": _is_among(field, LOSS)}


def _around(text: str, place: int) -> str:
    """At most SHOWN letters of a value, with the place from which it differs from others."""
    start = 0 if len(text) <= SHOWN else max(0, place - SHOWN // 3)
    cut = text[start : start + SHOWN]
    return "..." * (start > 0) + cut + "..." * (start + len(cut) < len(text))


def _is_among(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern fits a setting's dotted name or the last part of it."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[2], pattern) for pattern in patterns)


def _unknown(study: Study, about: By, settings: By) -> Iterator[str]:
    """What cannot be said, and why."""
    arms = [arm.name for arm in study.arms]
    if len(arms) > 1 and all(len(arm.seeds) == 1 for arm in study.arms):
        yield "One run per arm: nothing can be said about the losses, only about these runs."
    unseeded = {named_seed(run)[0] for run, one in about.items() if not one["seed_known"]}
    if unseeded:
        names = listed([arm for arm in arms if arm in unseeded])
        yield f"The seeds of {names} are not known, so these runs are not paired with others."
    told = {named_seed(run)[0] for run, own in settings.items() if set(own) - set(STATE)}
    if bare := [arm for arm in arms if arm not in told]:
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
