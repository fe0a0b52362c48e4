"""What a study of imported runs can bear: what differs between its arms, and what no import can know."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from analysis.errors import RecordsError
from analysis.formatting import counted, listed
from analysis.imports.columns import APART, LOSS
from analysis.imports.trainers import STATE
from analysis.records.outcomes import FINAL_EVALUATIONS
from analysis.records.run_files import named_seed, read_json
from analysis.statistics.robust import binomial_interval

MOST_TEXT = 60


@dataclass(frozen=True)
class Imported:
    """An imported run as its folder tells it. questions: a hash of what was asked at the last evaluation, if known."""

    name: str
    arm: str
    seed: int
    config: Mapping[str, Any]
    about: Mapping[str, Any]
    evaluations: Sequence[Mapping[str, Any]]
    last_steps: str
    questions: str | None

    @property
    def settings(self) -> dict[str, Any]:
        """What may differ between arms, without what has no part in learning."""
        return {name: value for name, value in self.config["source"].items() if not _is_among(name, APART)}


def about_study(folder: Path) -> dict[str, Any]:
    """Arms, roles, differences, confounds, primary outcome and notes of study.json, from all run folders there."""
    runs = [
        _read(path) for path in sorted(folder.glob("*-seed*"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    ]
    arms: dict[str, list[Imported]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(run)
    differences = [
        row
        for row in [*_unlike_evaluations(arms), *_unlike_settings(arms)]
        if len(set(row["values"].values())) > 1 or row["within"]
    ]
    evaluated = all(run.evaluations or run.questions for run in runs)
    return {
        "primary_outcome": "final_accuracy" if evaluated else "auc",
        "arms": [
            {
                "name": arm,
                "loss_type": own[0].config["loss"]["loss_type"],
                "control": None,
                "seeds": sorted(run.seed for run in own),
            }
            for arm, own in arms.items()
        ],
        "roles": {arm: {"label": arm} for arm in arms},
        "differences": [{name: row[name] for name in ("field", "values", "allowed")} for row in differences],
        "confounds": [row["field"] for row in differences if not row["allowed"]],
        "notes": [*_unknown(arms), *_scores(arms), *_of_runs(runs)],
    }


def _read(path: Path) -> Imported:
    arm, seed = named_seed(path.name)
    about = read_json(path / "environment.json").get("imported")
    if about is None:
        raise RecordsError(f"expected imported runs alone, got {path}: move it to a study of its own")
    means = path / "evaluations.jsonl"
    lines = [json.loads(line) for line in means.read_text(encoding="utf-8").splitlines()] if means.is_file() else []
    answers = {int(file.stem.rpartition("_")[2]): file for file in sorted((path / "evals").glob("step_*.parquet"))}
    asked = sorted(set(pq.read_table(answers[max(answers)])["prompt_id"].to_pylist())) if answers else []
    steps = sorted({*answers, *(line["step"] for line in lines)} - {0}) or [
        read_json(path / "status.json")["steps_done"]
    ]
    return Imported(
        name=path.name,
        arm=arm,
        seed=seed,
        config=read_json(path / "config.json", versioned=True)["config"],
        about=about,
        evaluations=lines,
        last_steps=listed(list(map(str, steps[-FINAL_EVALUATIONS:]))),
        questions=sha256("\n".join(asked).encode()).hexdigest()[:12] if asked else None,
    )


def _row(field: str, arms: Mapping[str, Sequence[Imported]], of: Any, allowed: bool) -> dict[str, Any]:
    """A difference; a value for each arm, several where its own runs differ."""
    each = {arm: list(dict.fromkeys(map(of, runs))) for arm, runs in arms.items()}
    values = {arm: own[0] if len(own) == 1 else listed(list(map(str, own))) for arm, own in each.items()}
    return {"field": field, "values": values, "allowed": allowed, "within": any(len(own) > 1 for own in each.values())}


def _unlike_evaluations(arms: Mapping[str, Sequence[Imported]]) -> list[dict[str, Any]]:
    return [
        _row("evaluation questions (sha256)", arms, lambda run: run.questions, allowed=False),
        _row("steps of the last evaluations", arms, lambda run: run.last_steps, allowed=False),
        _row("what stands for accuracy", arms, lambda run: run.about["columns"].get("accuracy"), allowed=False),
        _row("format", arms, lambda run: run.about["format"], allowed=False),
    ]


def _unlike_settings(arms: Mapping[str, Sequence[Imported]]) -> list[dict[str, Any]]:
    """Confounds first. Arms of which no setting is known cannot be compared."""
    known = {arm: runs for arm, runs in arms.items() if any(run.settings for run in runs)}
    names = sorted({name for runs in known.values() for run in runs for name in run.settings})
    rows = [
        _row(name, known, lambda run, name=name: _short(run.settings.get(name)), _is_among(name, LOSS))
        for name in names
    ]
    return sorted(rows, key=lambda row: bool(row["allowed"]))


def _is_among(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern fits a setting's dotted name or the last part of it."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[2], pattern) for pattern in patterns)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 3]}..."


def _unknown(arms: Mapping[str, Sequence[Imported]]) -> list[str]:
    """What cannot be said, and why."""
    runs, said = [run for own in arms.values() for run in own], []
    if len(arms) > 1 and all(len(own) == 1 for own in arms.values()):
        said.append("One run per arm: nothing can be said about the losses, only about these runs.")
    elif single := [arm for arm, own in arms.items() if len(own) == 1]:
        said.append(f"One run alone of {listed(single)}: what it shows may be its seed.")
    if unseeded := [arm for arm, own in arms.items() if not all(run.about["seed_known"] for run in own)]:
        said.append(f"The seeds of {listed(unseeded)} are not known, so these runs are not paired with others.")
    seeds = [{run.seed for run in own} for own in arms.values()]
    if any(one & other for one, other in combinations(seeds, 2)):
        said.append(
            "Runs are paired by seed; whether runs of a seed share their start, prompts and noise is not known."
        )
    if bare := [arm for arm, own in arms.items() if not any(set(run.settings) - set(STATE) for run in own)]:
        said.append(
            f"No settings are known of {listed(bare)}, so what else differs from other arms cannot be said (--config)."
        )
    if not any(run.evaluations or run.questions for run in runs):
        said.append("No held-out evaluation is known: accuracy is that of the training rollouts.")
    return said


def _scores(arms: Mapping[str, Sequence[Imported]]) -> list[str]:
    """The binomial interval of a score whose number of answers is known: what a table can carry."""
    said = []
    for run in (own[0] for own in arms.values() if len(own) == 1 and own[0].evaluations):
        last = run.evaluations[-1]
        n, score = int(last.get("n") or 0), last["accuracy"]
        if n > 0 and 0 <= score <= 1:
            if abs(score * n - round(score * n)) > 0.05 + 0.0005 * n:  # more than rounding to .001 explains
                said.append(f"{run.arm}: {score:.3f} is no share of {n:,} answers, so no interval is given.")
                continue
            found = binomial_interval(round(score * n), n)
            interval = f"95 % binomial interval [{found.low:.3f}, {found.high:.3f}]"
            said.append(f"{run.arm}: {score:.3f} of {n:,} answers, {interval}, of this run alone; seeds scatter more.")
    return said


def _of_runs(runs: Sequence[Imported]) -> list[str]:
    """The notes of each run; what several say is said once."""
    by_note: dict[str, list[str]] = {}
    for run in runs:
        for note in run.about["notes"]:
            by_note.setdefault(note, []).append(run.name)
    used = dict.fromkeys(
        column
        for run in runs
        for name, column in run.about["columns"].items()
        if name in ("accuracy", "training_accuracy")
    )
    sources = listed(list(dict.fromkeys(run.about["format"] for run in runs)))
    head = f"Imported from {sources}, {counted(len(runs), 'run')}; accuracy is {listed(list(used))} there."
    return [
        head,
        *(f"{note} ({listed(names[:3])}{', ...' if len(names) > 3 else ''})." for note, names in by_note.items()),
    ]
