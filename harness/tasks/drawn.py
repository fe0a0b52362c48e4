"""Tasks whose questions are drawn one by one: the user's own, and those that ship with the harness.

A class needs two methods, `question` and `grade` (Maker); docs/your-own-task.md shows one. Prompts are rendered with
the model's chat template, split by their hash into training and evaluation, and graded one by one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from harness.config.schema import Config
from harness.config.task import DataSettings, task_arguments
from harness.errors import HarnessError, UsageError, as_usage_error
from harness.model.policy import Policy
from harness.randomness import stream
from harness.tasks.code import load, naming, shortened
from harness.tasks.prompts import prompts_of
from harness.tasks.task import Grade, Problem, Question, Split, draw_distinct

Span = tuple[int, int]


class Maker(Protocol):
    """What a task of one's own provides. With `steps` and `first_wrong_step` it can have the control `blame`."""

    def question(self, generator: np.random.Generator) -> Question:
        """A question drawn with the generator alone, so that a seed gives the same questions everywhere."""

    def grade(self, question: Question, response: str) -> bool | Grade:
        """Whether the response answers the question; a Grade can also say which answer was read."""


@dataclass(frozen=True)
class DrawnTask:
    """The task that a maker's questions and grades make."""

    name: str
    maker: Any  # a Maker
    settings: DataSettings
    policy: Policy
    facts: Mapping[str, Any] = field(default_factory=dict)
    questions: dict[str, Question] = field(default_factory=dict)  # those drawn so far, by prompt id

    def draw(self, generator: np.random.Generator) -> Problem:
        """Raises HarnessError if the maker fails or gives no question."""
        with naming(f"--task {self.name}: question", "its generator"):
            question = self.maker.question(generator)
        if not isinstance(question, Question) or not isinstance(question.answer, str):
            raise HarnessError(f"--task {self.name}: expected question() to return a Question, got {question!r:.80}")
        problems, too_long = prompts_of([question], [question.messages], self.settings, self.policy)
        if too_long:
            raise UsageError(
                f"--max_prompt_tokens {self.settings.max_prompt_tokens}: expected prompts within it, got a longer one "
                f"for {shortened(question.text)}: raise it"
            )
        problem = problems[question.identity]
        self.questions[problem.prompt_id] = question
        return problem

    def draw_problems(self, split: Split, count: int, generator: np.random.Generator, seen: set[str]) -> list[Problem]:
        return self.distinct(split, count, generator, seen)

    def held_out(self, split: Split, count: int) -> tuple[Problem, ...]:
        return tuple(self.distinct(split, count, stream(f"held-out prompts, {split}", self.name), set()))

    def distinct(self, split: Split, count: int, generator: np.random.Generator, seen: set[str]) -> list[Problem]:
        with as_usage_error(f"--task {self.name}"):
            return draw_distinct(self, split, count, generator, seen)

    def grade(self, responses: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return [self.graded(self.questions[problem.prompt_id], text) for problem, text in responses]

    def graded(self, question: Question, response: str) -> Grade:
        with naming(f"--task {self.name}: grade", response):
            grade = self.maker.grade(question, response)
        if isinstance(grade, Grade):
            return grade
        if not isinstance(grade, bool | np.bool_):
            raise HarnessError(
                f"--task {self.name}: expected grade() to return True, False or a Grade for {shortened(response)}, got "
                f"{grade!r:.60}"
            )
        return Grade("right" if grade else "wrong")

    def self_test(self) -> None:
        """Raise HarnessError unless a seed gives the same question twice and an empty response is wrong."""
        first, second = (self.draw(stream("self-test")) for _ in range(2))
        if first != second:
            raise HarnessError(
                f"--task {self.name}: expected the same question from the same generator, got "
                f"{shortened(first.prompt)} and {shortened(second.prompt)}: draw every random number from the generator"
            )
        if self.graded(self.questions[first.prompt_id], "").outcome == "right":
            raise HarnessError(f"--task {self.name}: expected grade() to find an empty response wrong, but it is right")

    def first_wrong_step(self, problem: Problem, response: str) -> Span | None:
        with naming(f"--task {self.name}: first_wrong_step", response):
            span: Span | None = self.maker.first_wrong_step(self.questions[problem.prompt_id], response)
        return span

    def steps(self, response: str) -> list[Span]:
        with naming(f"--task {self.name}: steps", response):
            spans: list[Span] = self.maker.steps(response)
        return spans

    def close(self) -> None:
        getattr(self.maker, "close", lambda: None)()


def drawn_task(config: Config, policy: Policy) -> DrawnTask:
    """The config's task with questions drawn one by one. Raises UsageError if it cannot be made."""
    settings, name = config.task, config.task.task
    made = task_arguments(settings.task_settings)
    with as_usage_error(f"--task {name} with --task_settings {settings.task_settings or '{}'}"):
        maker = maker_class(name)(**made)
    needed = ["question", "grade"] + (["steps", "first_wrong_step"] if settings.needs_steps else [])
    missing = [method for method in needed if not callable(getattr(maker, method, None))]
    if missing:
        raise UsageError(f"--task {name}: expected the methods {', '.join(needed)}, got no {missing[0]}: add it")
    return DrawnTask(name, maker, config.data, policy)


def maker_class(name: str) -> Any:
    """A class or function that makes the maker from --task_settings."""
    if name == "worked_sums":
        from harness.tasks.worked_sums import WorkedSums

        return WorkedSums
    if name.startswith("reasoning_gym:"):
        from harness.tasks.gym import Gym

        return partial(Gym, name.partition(":")[2])
    return load(name, [name.rpartition(":")[2]], "task")[0]
