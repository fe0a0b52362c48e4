"""Where two ways to grade the same answers disagree: the same text, and math-verify. Neither is the truth."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness.config.resolve import flatten
from harness.errors import UsageError
from harness.evaluation.benchmark import ANSWERS, EVALUATION
from harness.run.history import Row, json_object, read_history
from harness.tasks.math.answers import AnswerFormat, same_terms, tidy
from harness.tasks.math.checker import read_answer
from harness.tasks.math.workers import MathWorkers

NEEDED = ("step", "prompt_id", "sample", "text", "outcome", "truncated")
AUDIT_SCHEMA = pa.schema(
    {
        "target": pa.string(),
        "answer": pa.string(),
        "same_text": pa.bool_(),
        "math_verify": pa.string(),
        "graded": pa.string(),
        "responses": pa.int64(),
        "prompt_id": pa.string(),
        "step": pa.int32(),
        "sample": pa.int32(),
        "text": pa.string(),
    }
)


@dataclass(frozen=True)
class Graded:
    """A response that gave an answer, and how it was graded then."""

    target: str
    answer: str
    row: Row

    @property
    def pair(self) -> tuple[str, str]:
        """What a verdict is about."""
        return self.target, self.answer


@dataclass(frozen=True)
class Audit:
    """All answers, and a row for each pair of target and answer on which the two disagree, the most frequent first."""

    responses: int
    answers: int
    same_text: int
    verified: int
    rows: Sequence[Row]


def audit(folder: Path) -> Audit:
    """The answers of a run's recorded rollouts, or of an evaluation. Raises UsageError where there are none."""
    rows, answer_format = recorded(folder)
    counts, first, responses = Counter[tuple[str, str]](), dict[tuple[str, str], Graded](), 0
    for row in rows:
        responses += 1
        if (one := graded(row, answer_format)) is not None:
            counts[one.pair] += 1
            first.setdefault(one.pair, one)
    if not responses:
        raise UsageError(
            f"audit {folder}: expected recorded responses, got none: take a run made with --record_rollouts all, or an "
            "evaluation"
        )
    pairs = list(counts)
    with closing(MathWorkers()) as workers:
        verdicts = dict(zip(pairs, workers.compare([same_terms(*pair) for pair in pairs]), strict=True))
    found = [
        {
            "target": pair[0],
            "answer": pair[1],
            "same_text": pair[0] == pair[1],
            "math_verify": verdicts[pair][0],
            "graded": first[pair].row["outcome"],
            "responses": count,
            **{name: first[pair].row[name] for name in ("prompt_id", "step", "sample", "text")},
        }
        for pair, count in counts.most_common()
        if (pair[0] == pair[1]) != (verdicts[pair][0] == "right")
    ]
    same = sum(count for pair, count in counts.items() if pair[0] == pair[1])
    verified = sum(count for pair, count in counts.items() if verdicts[pair][0] == "right")
    return Audit(responses, counts.total(), same, verified, found)


def graded(row: Row, answer_format: AnswerFormat) -> Graded | None:
    """The row's answer; None where it gives none, or was cut."""
    answer = None if row["truncated"] else read_answer(row["text"], answer_format)[0]
    return None if answer is None else Graded(tidy(row["target"]), answer, row)


def recorded(folder: Path) -> tuple[Iterator[Row], AnswerFormat]:
    """The responses that a folder holds, each with its target, one by one, and the form of their answers."""
    rows: Iterator[Row]
    if (evaluation := json_object(folder / EVALUATION)) is not None:
        config, targets = flatten({"config": evaluation["config"]}), evaluation["targets"]
        rows = (row | {"target": targets[row["prompt_id"]]} for row in tables(folder / ANSWERS, NEEDED))
    else:
        history = read_history(folder)
        history.check_records()
        config = flatten({"config": history.config.model_dump()})
        rows = tables(folder / "rollouts", (*NEEDED, "target"))
    if config["task"] != "math":
        raise UsageError(
            f"audit {folder}: expected a run of --task math, got {config['task']}, which is graded exactly"
        )
    return rows, config["answer_format"]


def tables(folder: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """The rows of all parquet files of a folder, file by file."""
    for path in sorted(folder.glob("*.parquet")):
        yield from pq.read_table(path, columns=list(columns)).to_pylist()


def audit_lines(found: Audit, most: int) -> Iterator[str]:
    """The counts, and the most frequent disagreements."""
    yield f"{found.responses} responses, {found.answers} with an answer"
    yield f"the same text as the target: {found.same_text}; right by math-verify: {found.verified}"
    disagreeing = sum(row["responses"] for row in found.rows)
    yield f"they disagree on {disagreeing} answers, {len(found.rows)} different ones"
    if found.rows:
        yield f"{'answers':>8}  {'same text':9}  {'math-verify':11}  {'graded':9}  target | answer"
    for row in found.rows[:most]:
        yield line_of(row)
    if len(found.rows) > most:
        yield f"and {len(found.rows) - most} more: --output_dir DIR keeps all, with a response of each"


def line_of(row: Mapping[str, object]) -> str:
    """One disagreement."""
    same = "yes" if row["same_text"] else "no"
    return (
        f"{row['responses']:>8}  {same:9}  {row['math_verify']:11}  {row['graded']:9}  "
        f"{str(row['target'])[:40]} | {str(row['answer'])[:60]}"
    )
