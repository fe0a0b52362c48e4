"""Lines under our names -> runs: by arm and seed what was trained, what was evaluated, and every answer."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from analysis.errors import RecordsError
from analysis.formatting import counted
from analysis.imports.columns import MEASURES, Line
from analysis.imports.sources import Source

NAMED = re.compile(r"(?P<arm>.+?)[-_ ./]*(?:seed|(?<=[-_ ./])s)[-_ =]?(?P<seed>\d+)")  # dapo-seed0, dapo_s0
SEED, LONGEST = re.compile(r"\d+(?:\.0*)?"), 100
FROM_ONE = ("trl", "swift", "verl")  # whose first training step is 1: the rollouts of the policy after none
OF_EVALUATION = ("accuracy", "tokens", "n")
PEAK = re.compile(r"(?:^|[^a-z])(?:best|peak|max)(?:[^a-z]|$)", re.IGNORECASE)
Key = tuple[str, int | None, str]  # arm, seed where it is known, what tells runs of unknown seeds apart


@dataclass
class Run:
    """One run.

    metrics: by 0-based step under the names of metrics.jsonl. evaluations: by steps done `accuracy`, `tokens` and `n`.
    answers: rows of evals/. about: what environment.json keeps of the import.
    """

    arm: str
    seed: int | None
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    evaluations: dict[int, dict[str, float]] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def last_step(self) -> int:
        """Steps done at the last thing that is known of it; 0 where no step is."""
        return max(
            [*(step + 1 for step in self.metrics), *self.evaluations, *(row["step"] for row in self.answers)], default=0
        )


@dataclass(frozen=True)
class Named:
    """What the command line says of the runs: arm, seed, step of rows without one, and the source's own name."""

    name: str
    arm: str | None = None
    seed: int | None = None
    step: int | None = None


def runs_of(source: Source, lines: Sequence[Line], columns: Mapping[str, str], named: Named) -> list[Run]:
    """The runs that the lines are of. Raises RecordsError where arm or filter of one cannot be told."""
    for name, flag in (("arm", named.arm), ("seed", named.seed)):
        if flag is not None and name in columns:
            raise RecordsError(f"expected --{name} or the column {columns[name]!r}, got both: leave one out")
    groups, has_steps = dict[Key, list[Line]](), any(line.step is not None for line in lines)
    for line in lines:
        arm, seed = _arm_and_seed(line, source, named)
        apart = seed is None and not has_steps and "question" not in line.words
        groups.setdefault((arm, seed, line.place if apart else line.words.get("run", "")), []).append(line)
    if len({key[:2] for key in groups}) < len([key for key in groups if key[1] is not None]):
        raise RecordsError(
            f"expected one run per arm and seed in {named.name}, got several: name the column of the seed"
        )
    return [_run(source, group, columns, (key[0], key[1], named.step)) for key, group in groups.items()]


def _arm_and_seed(line: Line, source: Source, named: Named) -> tuple[str, int | None]:
    match = NAMED.fullmatch(line.words.get("run", named.name))
    arm = named.arm or line.words.get("arm") or (match["arm"] if match else None)
    if arm is None:
        raise RecordsError(
            f"expected an arm for {line.words.get('run', named.name)}, got none: give --arm, --columns "
            "arm=COLUMN or a name like dapo-seed0"
        )
    told = line.words.get("seed") or next(
        (str(source.settings[name]) for name in ("seed", "data.seed") if name in source.settings), None
    )
    seed = named.seed if named.seed is not None else match["seed"] if match and "seed" not in line.words else told
    if seed not in (None, "None") and not SEED.fullmatch(str(seed)):
        raise RecordsError(f"expected a whole seed of 0 or more in {line.place}, got {seed!r}: name the seed's column")
    if len(arm) > LONGEST:
        raise RecordsError(
            f"expected at most {LONGEST} characters as arm, got {len(arm)} in {line.place}: name its column"
        )
    return arm.strip().replace("/", "_"), None if seed in (None, "None") else int(float(str(seed)))


def _run(source: Source, lines: list[Line], columns: Mapping[str, str], key: tuple[str, int | None, int | None]) -> Run:
    arm, seed, step = key
    run, twice = Run(arm, seed), Counter[str]()
    answers = [line for line in lines if "question" in line.words and "accuracy" in line.values]
    others = [line for line in lines if "question" not in line.words]
    steps = [line.step if line.step is not None else step or 1 for line in others]
    trained = [at for at, line in zip(steps, others, strict=True) if set(line.values) - set(OF_EVALUATION)]
    shift = int(source.kind in FROM_ONE and min(trained, default=0) > 0)
    for at, line in zip(steps, others, strict=True):
        for name, value in line.values.items():
            held_out = name in OF_EVALUATION
            own = name if held_out else MEASURES.get(name) or name
            row = (run.evaluations if held_out else run.metrics).setdefault(at if held_out else at - shift, {})
            twice[name] += own in row
            if own in row and source.kind == "csv" and at == min(steps):  # a resume does not go back to the start
                raise RecordsError(
                    f"expected one {columns[name]} at the first step of {arm}, got a second one in {line.place}: "
                    "name the columns of arm and seed"
                )
            row[own] = value
    if "step_seconds" in columns:
        _add_up(run.metrics)
    run.answers = answer_rows(answers, step or 1)
    params = {name: value for name, value in lines[0].row.items() if name.startswith("params.")}
    run.settings = source.settings | params
    run.about = _about(source, lines, columns, run)
    run.about["notes"] += [
        f"{columns[name]}: {counted(count, 'step')} logged twice, as after a resume; the later value counts"
        for name, count in twice.items()
        if count
    ]
    return run


def _add_up(metrics: dict[int, dict[str, float]]) -> None:
    """Mean seconds of a step since the line before -> seconds since the start."""
    total, before = 0.0, -1
    for step in sorted(step for step, row in metrics.items() if "time/elapsed_s" in row):
        total, before = total + metrics[step]["time/elapsed_s"] * (step - before), step
        metrics[step]["time/elapsed_s"] = total


def answer_rows(lines: Sequence[Line], step: int) -> list[dict[str, Any]]:
    """Rows of evals/; whether an answer was cut off, and its tokens unless there is a column, are not known."""
    filters = dict.fromkeys(line.words["filter"] for line in lines if "filter" in line.words)
    if len(filters) > 1:
        raise RecordsError(f"expected answers of one filter, got {', '.join(filters)}: choose with --filter")
    seen, rows = Counter[tuple[int, str]](), []
    least = min((line.values["accuracy"] for line in lines), default=0.0)
    for line in lines:
        at, value = line.step if line.step is not None else step, line.values["accuracy"]
        if value not in (0, 1) and not (value == -1 == least):
            raise RecordsError(f"expected 0 or 1 for an answer in {line.place}, got {value:g}: name another column")
        question = line.words["question"]
        prompt = question if len(question) <= 80 else sha256(question.encode()).hexdigest()[:16]
        about = {"step": at, "prompt_id": prompt, "sample": seen[at, prompt], "correct": value == 1}
        rows.append(
            about | {"response_tokens": line.values.get("tokens"), "truncated": None, "correct_leniently": value == 1}
        )
        seen[at, prompt] += 1
    return rows


def _about(source: Source, lines: Sequence[Line], columns: Mapping[str, str], run: Run) -> dict[str, Any]:
    known, notes = {name for line in lines for name in line.values}, list(source.notes)
    used = {name: column for name, column in columns.items() if name in known}
    for name in ("accuracy", "training_accuracy"):
        values = [line.values[name] for line in lines if name in line.values]
        if values and not (min(values) >= 0 and max(values) <= 1) and not run.answers:
            extent = f"goes from {min(values):g} to {max(values):g}"
            percent = " (if it is in percent: --percent)" if min(values) >= 0 and max(values) <= 100 else ""
            said = f"so it is no share of right answers{percent}; it stands for accuracy here"
            notes.append(f"{used[name]} {extent}, {said}")
    for name in (used.get("accuracy", ""), run.arm):
        if PEAK.search(name):
            notes.append(f"{name!r} is by its name a best of several: a maximum over looks is biased upwards")
    return {"format": source.kind, "columns": used, "seed_known": run.seed is not None, "notes": notes}
