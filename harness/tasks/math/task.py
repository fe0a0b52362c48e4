"""The math task: questions from data files, of which training and benchmarks never share one, graded by math-verify."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.config.task import DataSettings
from harness.errors import UsageError
from harness.model.policy import Policy
from harness.tasks.math.checker import MathChecker
from harness.tasks.math.questions import AROUND, Questions, read_questions
from harness.tasks.prompts import prompts_of
from harness.tasks.task import Grade, Problem, Question, Split, Task, belongs_to, prompt_hashes


@dataclass(frozen=True)
class MathData:
    """Questions by file, before the limit on prompt length is applied."""

    training: Questions | None  # None if the model is only evaluated
    suites: Mapping[str, Questions]  # by benchmark
    trained_on: tuple[Question, ...]  # the training questions that no benchmark contains


def read_data(settings: DataSettings, trains: bool = True) -> MathData:
    """Read the data files that the settings name. Raises UsageError if one is missing or cannot be used."""
    if trains and settings.train_data is None:
        raise UsageError("--task math needs --train_data, got none: name a data set, such as dapo-math-17k, or a file")
    benchmarks = list(filter(None, map(str.strip, (settings.eval_data or "").split(","))))
    if not benchmarks:
        raise UsageError("--task math needs --eval_data, got none: name benchmarks, such as aime24,aime25, or files")
    training = None
    if trains and settings.train_data:
        training = read_questions(settings.train_data, "train_data")
    suites: dict[str, Questions] = {}
    for given in benchmarks:
        questions = read_questions(given, "eval_data")
        if (name := questions.name) in suites:
            raise UsageError(f"--eval_data: expected each benchmark once, got {name!r} twice: rename one of the files")
        suites[name] = questions
    check_agreement(suites)
    evaluated = {question.words for questions in suites.values() for question in questions.distinct}
    known = training.distinct if training else ()
    trained_on = tuple(question for question in known if question.words not in evaluated)
    if training and not trained_on:
        raise UsageError("--train_data: expected questions that are not in --eval_data, got none: name another file")
    return MathData(training, suites, trained_on)


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


@dataclass(frozen=True)
class MathTask(Task):
    """Training problems, benchmarks and the checker of answers.

    Each step draws distinct prompts uniformly from all training problems with its own random stream, so that all arms
    see the same prompts regardless of what they filtered earlier. (The authors shuffle a file with about 100 copies of
    each problem.)
    """

    training: tuple[Problem, ...]
    suites: Mapping[str, tuple[Problem, ...]]  # by benchmark
    recorded: Mapping[str, Any]  # about the data, in environment.json
    checker: MathChecker

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.recorded

    def draw_problems(self, split: Split, count: int, generator: np.random.Generator, seen: set[str]) -> list[Problem]:
        pool = [
            problem
            for problem in self.training
            if problem.prompt_id not in seen and (split == "train" or not belongs_to(problem, "tune"))
        ]
        drawn = [pool[index] for index in generator.permutation(len(pool))[:count]]
        seen.update(problem.prompt_id for problem in drawn)
        return drawn

    def held_out(self, split: Split, count: int) -> tuple[Problem, ...]:
        """All benchmarks' problems without duplicates; for the split `tune`, a held-out part of the training data."""
        if split != "tune":
            return tuple(dict.fromkeys(problem for suite in self.suites.values() for problem in suite[:count]))
        tuned = tuple(problem for problem in self.training if belongs_to(problem, "tune"))[:count]
        if not tuned:
            raise UsageError(
                f"--eval_split tune: expected problems of --train_data to tune on, got none of {len(self.training)}: "
                "about one in sixteen is held out for tuning, so provide more"
            )
        return tuned

    def grade(self, responses: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return self.checker.check([(problem.answer, text) for problem, text in responses])

    def self_test(self) -> None:
        self.checker.self_test()

    def close(self) -> None:
        self.checker.close()


def math_task(data: MathData, settings: DataSettings, policy: Policy) -> MathTask:
    """The task with prompts formatted for the policy. Raises UsageError if all prompts exceed the length limit."""
    training, suites = tuple[Problem, ...](), dict[str, tuple[Problem, ...]]()
    facts: dict[str, Any] = {"training": None, "evaluation": {}}
    if data.training:
        training = math_prompts(data.trained_on, settings, policy)
        check_any(training, "train_data", settings)
        facts["training"] = data.training.facts | {
            "evaluated_on": len(data.training.distinct) - len(data.trained_on),
            "too_long": len(data.trained_on) - len(training),
            "prompts": len(training),
        }
    for name, questions in data.suites.items():
        suites[name] = math_prompts(questions.distinct, settings, policy)
        facts["evaluation"][name] = questions.facts | {
            "too_long": len(questions.distinct) - len(suites[name]),
            "prompts": len(suites[name]),
            "prompt_ids": [problem.prompt_id for problem in suites[name]],
        }
    check_any([problem for suite in suites.values() for problem in suite], "eval_data", settings)
    hashes = prompt_hashes(policy, training, "train") if training else {}
    return MathTask(training, suites, {"data": facts} | hashes, MathChecker(answer_format=settings.answer_format))


def check_any(prompts: Sequence[Problem], flag: str, settings: DataSettings) -> None:
    """Raise UsageError if all prompts were too long."""
    if not prompts:
        raise UsageError(
            f"--max_prompt_tokens {settings.max_prompt_tokens}: expected prompts of --{flag} within it, but all are "
            "longer: raise it"
        )


def math_prompts(questions: Sequence[Question], settings: DataSettings, policy: Policy) -> tuple[Problem, ...]:
    """The problems, with instructions for the answer format, but for those whose prompts are too long."""
    return prompts_of(questions, AROUND.get(settings.answer_format, ("", "")), settings, policy)


LEFT_OUT = {  # what read_questions and math_task count
    "incomplete": "without a question or answer",
    "conflicting": "with several answers",
    "too_long": "over --max_prompt_tokens",
    "evaluated_on": "also evaluated on",
}


def data_lines(facts: Mapping[str, Any]) -> list[str]:
    """Lines to print before a run: each file's number of prompts, and how many were left out and why."""
    lines = []
    for name, one in by_file(facts).items():
        left = ", ".join(f"{one[why]} {words}" for why, words in LEFT_OUT.items() if one.get(why))
        words = f"; left out: {left}" if left else ""
        lines.append(f"{name}: {one['prompts']} prompts of {one['rows']} rows ({one['source']}){words}")
    return lines


def check_same_data(recorded: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Raise UsageError if a data file differs from the one recorded in environment.json."""
    then, now = ({name: str(one.get("sha256")) for name, one in by_file(each).items()} for each in (recorded, facts))
    for name, digest in now.items():
        if then.get(name) != digest:
            flag = "--train_data" if name == "training" else f"--eval_data: {name}"
            raise UsageError(
                f"{flag}: expected the data that the run began with (sha256 {str(then.get(name))[:12]}...), got other "
                f"data ({digest[:12]}...): restore the file"
            )


def by_file(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is recorded of each data file of a run, by benchmark or "training"; empty for tasks without files."""
    data = facts.get("data") or {}
    return {name: one for name, one in {"training": data.get("training"), **data.get("evaluation", {})}.items() if one}
