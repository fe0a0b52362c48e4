"""The questions of a run: training questions and benchmarks, which never share a question."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.config.task import DataSettings
from harness.errors import UsageError
from harness.tasks.math.files import data_file
from harness.tasks.math.questions import Questions, overlap, read_questions
from harness.tasks.task import Question


@dataclass(frozen=True)
class MathData:
    """Questions by file, before the limit on prompt length is applied."""

    training: Questions | None  # None if the model is only evaluated
    suites: Mapping[str, Questions]  # by benchmark
    overlaps: Mapping[str, tuple[Question, ...]] = field(default_factory=dict)  # by benchmark: also in training data

    def trained_on(self) -> tuple[Question, ...]:
        """The training questions that no benchmark contains."""
        evaluated = {question.words for both in self.overlaps.values() for question in both}
        training = self.training.distinct if self.training else ()
        return tuple(question for question in training if question.words not in evaluated)


def read_data(settings: DataSettings, trains: bool = True) -> MathData:
    """Read the data files that the settings name. Raises UsageError if one is missing or cannot be used."""
    if trains and settings.train_data is None:
        raise UsageError("--task math needs --train_data, got none: name a data set, such as dapo-math-17k, or a file")
    if settings.eval_data is None:
        raise UsageError("--task math needs --eval_data, got none: name benchmarks, such as aime24,aime25, or files")
    training = None
    if trains and settings.train_data:
        training = read_questions(data_file(settings.train_data, "train_data"), "train_data")
    suites: dict[str, Questions] = {}
    for given in filter(None, (name.strip() for name in settings.eval_data.split(","))):
        questions = read_questions(data_file(given, "eval_data"), "eval_data")
        if (name := questions.file.name) in suites:
            raise UsageError(f"--eval_data: expected each benchmark once, got {name!r} twice: rename one of the files")
        suites[name] = questions
    check_agreement(suites)
    both = {name: overlap(training, questions) if training else () for name, questions in suites.items()}
    data = MathData(training, suites, both)
    if training and not data.trained_on():
        raise UsageError("--train_data: expected questions that are not in --eval_data, got none: name another file")
    return data


def check_agreement(suites: Mapping[str, Questions]) -> None:
    """Raise UsageError if there is no benchmark, or if two of them have different answers to a question."""
    if not suites:
        raise UsageError("--eval_data: expected the names of benchmarks, got none: name aime24,aime25, or files")
    first: dict[str, tuple[str, str]] = {}  # the first benchmark with the question, and its answer
    for name, questions in suites.items():
        for question in questions.distinct:
            where, answer = first.setdefault(question.identity, (name, question.answer))
            if answer != question.answer:
                raise UsageError(
                    f"--eval_data: expected one answer to a question, got {answer!r} in {where} and "
                    f"{question.answer!r} in {name}: leave one of them out"
                )


def file_facts(questions: Questions) -> dict[str, Any]:
    return {
        "source": questions.file.source,
        "revision": questions.file.revision,
        "sha256": questions.file.sha256,
        "rows": questions.rows,
        "distinct": len(questions.distinct),
        "conflicting": questions.conflicting,
        "incomplete": questions.incomplete,
    }


def data_lines(facts: Mapping[str, Any]) -> list[str]:
    """Lines to print before a run: each file's number of prompts, and how many were left out and why."""
    data = facts.get("data")
    if not data:
        return []
    named = [("training", data["training"])] if data["training"] else []
    lines = []
    for name, one in [*named, *data["evaluation"].items()]:
        left = {
            "without a question or an answer": one["incomplete"],
            "longer than --max_prompt_tokens": one["too_long"],
            "with several answers": one["conflicting"],
            "that are in a benchmark": one.get("evaluated_on", 0),
        }
        words = "".join(f", {count} left out {why}" for why, count in left.items() if count)
        both = one.get("in_training_data", 0)
        words += f", {both} of them also in the training data, where they are left out" if both else ""
        lines.append(f"{name}: {one['prompts']} prompts of {one['rows']} rows ({one['source']}){words}")
    return lines


def check_same_data(recorded: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Raise UsageError if a data file differs from the one recorded in environment.json."""
    then, now = (hashes(one.get("data")) for one in (recorded, facts))
    for name, digest in now.items():
        if then.get(name) != digest:
            raise UsageError(
                f"{name}: expected the data that the run began with (sha256 {str(then.get(name))[:12]}...), got other "
                f"data ({digest[:12]}...): restore the file"
            )


def hashes(data: Any) -> dict[str, str]:
    """The sha256 of each data file, by flag or benchmark; empty if the record is damaged."""
    if not isinstance(data, Mapping):
        return {}
    parts = {"--train_data": data.get("training"), **dict(data.get("evaluation") or {})}
    return {name: str(one["sha256"]) for name, one in parts.items() if isinstance(one, Mapping) and "sha256" in one}
