"""The math task: problems from data sets, graded with math-verify."""

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
from harness.tasks.task import Grade, Problem, Question, Split, belongs_to, prompt_hashes


@dataclass(frozen=True)
class MathTask:
    """Training problems, benchmarks and the checker of answers.

    Each step draws distinct prompts uniformly from all training problems with its own random stream, so that all arms
    see the same prompts regardless of what they filtered earlier. (The authors shuffle a file with about 100 copies of
    each problem.)
    """

    training: tuple[Problem, ...]
    suites: Mapping[str, tuple[Problem, ...]]  # by benchmark
    facts: Mapping[str, Any]  # recorded in environment.json
    checker: MathChecker

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
        if split == "tune":
            tuned = tuple(problem for problem in self.training if belongs_to(problem, "tune"))[:count]
            if not tuned:
                raise UsageError(
                    f"--eval_split tune: expected problems of --train_data to tune on, got none of "
                    f"{len(self.training)}: about one in sixteen is held out for tuning, so provide more"
                )
            return tuned
        return tuple(dict.fromkeys(problem for suite in self.suites.values() for problem in suite[:count]))

    def grade(self, responses: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return self.checker.check([(problem.answer, text) for problem, text in responses])

    def self_test(self) -> None:
        self_test(self.checker.check, KNOWN.get(self.checker.answer_format, ()))

    def first_wrong_step(self, problem: Problem, response: str) -> tuple[int, int] | None:  # noqa: ARG002
        return None  # unknown; the config refuses controls that need it

    def steps(self, response: str) -> list[tuple[int, int]]:
        return [(0, len(response))]

    def behaviour(self, _responses: Sequence[tuple[Problem, str]]) -> dict[str, float | None]:
        return {}

    def close(self) -> None:
        self.checker.close()


def math_task(data: MathData, settings: DataSettings, policy: Policy) -> MathTask:
    """The task with prompts formatted for the policy. Raises UsageError if all prompts exceed the length limit."""
    training, too_long = math_prompts(data.trained_on(), settings, policy)
    if data.training and not training:
        raise UsageError(
            f"--max_prompt_tokens {settings.max_prompt_tokens}: expected prompts of --train_data within it, but all "
            f"{too_long} are longer: raise it"
        )
    facts: dict[str, Any] = {"training": None, "evaluation": {}}
    if data.training:
        overlapping = len(data.training.distinct) - len(data.trained_on())
        counts = {"evaluated_on": overlapping, "too_long": too_long, "prompts": len(training)}
        facts["training"] = file_facts(data.training) | counts
    suites = {}
    for name, questions in data.suites.items():
        problems, left_out = math_prompts(questions.distinct, settings, policy)
        suites[name] = tuple(problems.values())
        facts["evaluation"][name] = file_facts(questions) | {
            "too_long": left_out,
            "in_training_data": len(data.overlaps[name]),
            "prompts": len(problems),
            "prompt_ids": [problem.prompt_id for problem in suites[name]],
        }
    if not any(suites.values()):
        raise UsageError(
            f"--max_prompt_tokens {settings.max_prompt_tokens}: expected prompts of --eval_data within it, but all are "
            "longer: raise it"
        )
    return MathTask(
        tuple(training.values()),
        suites,
        {"data": facts} | (prompt_hashes(policy, training.values(), "train") if training else {}),
        MathChecker(answer_format=settings.answer_format),
    )


def math_prompts(
    questions: Sequence[Question], settings: DataSettings, policy: Policy
) -> tuple[dict[str, Problem], int]:
    """The problems by question identity, with instructions for the answer format; and how many are too long."""
    return prompts_of(questions, [messages_of(question, settings) for question in questions], settings, policy)
