"""The math task: problems from data files, of which training and benchmarks never share one, graded by math-verify."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.config.task import DataSettings
from harness.errors import UsageError
from harness.model.policy import Policy
from harness.tasks.math.checker import KNOWN, MathChecker, self_test
from harness.tasks.math.data import MathData, file_facts
from harness.tasks.math.questions import messages_of
from harness.tasks.prompts import prompts_of
from harness.tasks.task import Grade, Problem, Question, Split, Task, belongs_to, prompt_hashes


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
        self_test(self.checker.check, KNOWN.get(self.checker.answer_format, ()))

    def close(self) -> None:
        self.checker.close()


def math_task(data: MathData, settings: DataSettings, policy: Policy) -> MathTask:
    """The task with prompts formatted for the policy. Raises UsageError if all prompts exceed the length limit."""
    training, suites = tuple[Problem, ...](), dict[str, tuple[Problem, ...]]()
    facts: dict[str, Any] = {"training": None, "evaluation": {}}
    if data.training:
        found, too_long = math_prompts(data.trained_on, settings, policy)
        training = tuple(found.values())
        check_any(training, "train_data", settings)
        overlapping = len(data.training.distinct) - len(data.trained_on)
        counts = {"evaluated_on": overlapping, "too_long": too_long, "prompts": len(training)}
        facts["training"] = file_facts(data.training) | counts
    for name, questions in data.suites.items():
        found, too_long = math_prompts(questions.distinct, settings, policy)
        suites[name] = tuple(found.values())
        facts["evaluation"][name] = file_facts(questions) | {
            "too_long": too_long,
            "in_training_data": data.in_training(questions),
            "prompts": len(found),
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


def math_prompts(
    questions: Sequence[Question], settings: DataSettings, policy: Policy
) -> tuple[dict[str, Problem], int]:
    """The problems by question identity, with instructions for the answer format; and how many are too long."""
    return prompts_of(questions, [messages_of(question, settings) for question in questions], settings, policy)
