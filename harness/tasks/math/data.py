"""The questions of a run: training questions and benchmarks, which never share a question."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.task import DataSettings
from harness.errors import UsageError
from harness.tasks.math.files import data_file
from harness.tasks.math.questions import Questions, read_questions
from harness.tasks.task import Question


@dataclass(frozen=True)
class MathData:
    """Questions by file, before the limit on prompt length is applied."""

    training: Questions | None  # None if the model is only evaluated
    suites: Mapping[str, Questions]  # by benchmark

    @property
    def trained_on(self) -> tuple[Question, ...]:
        """The training questions that no benchmark contains."""
        evaluated = set[str]().union(*(questions.words for questions in self.suites.values()))
        training = self.training.distinct if self.training else ()
        return tuple(question for question in training if question.words not in evaluated)

    def in_training(self, questions: Questions) -> int:
        """How many of the questions are also in the training data."""
        trained = self.training.words if self.training else set()
        return sum(question.words in trained for question in questions.distinct)


def read_data(settings: DataSettings, trains: bool = True) -> MathData:
    """Read the data files that the settings name. Raises UsageError if one is missing or cannot be used."""
    if trains and settings.train_data is None:
        raise UsageError("--task math needs --train_data, got none: name a data set, such as dapo-math-17k, or a file")
    benchmarks = list(filter(None, map(str.strip, (settings.eval_data or "").split(","))))
    if not benchmarks:
        raise UsageError("--task math needs --eval_data, got none: name benchmarks, such as aime24,aime25, or files")
    training = None
    if trains and settings.train_data:
        training = read_questions(data_file(settings.train_data, "train_data"), "train_data")
    suites: dict[str, Questions] = {}
    for given in benchmarks:
        questions = read_questions(data_file(given, "eval_data"), "eval_data")
        if (name := questions.file.name) in suites:
            raise UsageError(f"--eval_data: expected each benchmark once, got {name!r} twice: rename one of the files")
        suites[name] = questions
    check_agreement(suites)
    data = MathData(training, suites)
    if training and not data.trained_on:
        raise UsageError("--train_data: expected questions that are not in --eval_data, got none: name another file")
    return data


def check_agreement(suites: Mapping[str, Questions]) -> None:
    """Raise UsageError if two benchmarks have different answers to a question."""
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


LEFT_OUT = ("incomplete", "conflicting", "too_long", "evaluated_on")  # rows, then questions


def data_lines(facts: Mapping[str, Any]) -> list[str]:
    """Lines to print before a run: each file's number of prompts, and how many were left out and why."""
    lines = []
    for name, one in by_file(facts).items():
        left = [f"{one[why]} {why}" for why in LEFT_OUT if one.get(why)]
        left += [f"{both} in_training_data (there)"] if (both := one.get("in_training_data")) else []
        words = f"; left out: {', '.join(left)}" if left else ""
        lines.append(f"{name}: {one['prompts']} prompts of {one['rows']} rows ({one['source']}){words}")
    return lines


def check_same_data(recorded: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Raise UsageError if a data file differs from the one recorded in environment.json."""
    then, now = ({name: one["sha256"] for name, one in by_file(each).items()} for each in (recorded, facts))
    for name, digest in now.items():
        if then.get(name) != digest:
            raise UsageError(
                f"{name}: expected the data that the run began with (sha256 {str(then.get(name))[:12]}...), got other "
                f"data ({digest[:12]}...): restore the file"
            )


def by_file(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is recorded of each data file of a run, by benchmark or "training"; empty for tasks without files."""
    data = facts.get("data") or {"training": None, "evaluation": {}}
    return {name: one for name, one in {"training": data["training"], **data["evaluation"]}.items() if one}
