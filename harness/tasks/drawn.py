"""Tasks whose questions are drawn one by one: the user's own, and those that ship with the harness.

A class needs two methods, `question` and `grade` (TaskMaker); docs/your-own-task.md shows one. Prompts are rendered
with the model's chat template, split by their hash into training and evaluation, and graded one by one.
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
from harness.tasks.own_files import errors_naming, load, shortened
from harness.tasks.prompts import prompts_of, rendered
from harness.tasks.task import Grade, Problem, Question, Split, draw_distinct

MOST_TOO_LONG = 100  # prompts in a row beyond --max_prompt_tokens

Span = tuple[int, int]


class TaskMaker(Protocol):
    """What a task of one's own provides. With `steps` and `first_wrong_step` it can have the control `blame`."""

    def question(self, generator: np.random.Generator) -> Question:
        """A question drawn with the generator alone, so that a seed gives the same questions everywhere."""

    def grade(self, question: Question, response: str) -> bool | Grade:
        """Whether the response answers the question; a Grade can also say which answer was read."""


@dataclass(frozen=True)
class DrawnTask:
    """A task whose questions and grades come from a maker."""

    name: str
    maker: Any  # a TaskMaker
    settings: DataSettings
    policy: Policy
    facts: Mapping[str, Any] = field(default_factory=dict)
    questions: dict[str, Question] = field(default_factory=dict)  # those drawn so far, by prompt id

    @property
    def flag(self) -> str:
        return f"--task {self.name}"

    def asked(self, generator: np.random.Generator) -> Question:
        """The maker's question. Raises HarnessError if the maker fails or gives none."""
        with errors_naming(f"{self.flag}: question()", self.name):
            question = self.maker.question(generator)
        if not isinstance(question, Question) or not all(isinstance(t, str) for t in (question.text, question.answer)):
            raise HarnessError(
                f"{self.flag}: expected question() to return a Question of two texts, got {shortened(question)}"
            )
        return question

    def draw(self, generator: np.random.Generator) -> Problem:
        """A problem whose prompt is within --max_prompt_tokens; longer ones are drawn again.

        Raises HarnessError for a prompt that has two answers, UsageError if hardly any prompt is within the limit.
        """
        for _ in range(MOST_TOO_LONG):
            question = self.asked(generator)
            prompt = rendered(question.messages, self.settings, self.policy.tokenizer)
            if len(self.policy.encode(prompt)) <= self.settings.max_prompt_tokens:
                break
        else:
            raise UsageError(
                f"--max_prompt_tokens {self.settings.max_prompt_tokens}: expected prompts within it, got "
                f"{MOST_TOO_LONG} longer ones in a row: raise it"
            )
        problem = Problem(prompt, question.answer)
        known = self.questions.setdefault(problem.prompt_id, question)
        if ".py:" in self.name and known.answer != question.answer:
            raise HarnessError(
                f"{self.flag}: expected one answer to a prompt, got {known.answer!r} and {question.answer!r} for "
                f"{shortened(question.text)}"
            )
        return problem

    def draw_problems(self, split: Split, count: int, generator: np.random.Generator, seen: set[str]) -> list[Problem]:
        return self.distinct(split, count, generator, seen)

    def held_out(self, split: Split, count: int) -> tuple[Problem, ...]:
        generator = stream(f"held-out prompts, {split}", self.name.rpartition(":")[2])
        return tuple(self.distinct(split, count, generator, set()))

    def distinct(self, split: Split, count: int, generator: np.random.Generator, seen: set[str]) -> list[Problem]:
        with as_usage_error(self.flag):
            return draw_distinct(self, split, count, generator, seen)

    def grade(self, responses: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return [self.graded(self.questions[problem.prompt_id], text) for problem, text in responses]

    def graded(self, question: Question, response: str) -> Grade:
        with errors_naming(f"{self.flag}: grade()", self.name, on=response):
            grade = self.maker.grade(question, response)
        if isinstance(grade, bool | np.bool_):
            return Grade("right" if grade else "wrong")
        if isinstance(grade, Grade) and grade.is_valid:
            return grade
        raise HarnessError(
            f"{self.flag}: expected grade() to return True, False or a valid Grade for {shortened(response)}, got "
            f"{shortened(grade)}"
        )

    def self_test(self) -> None:
        """Raise HarnessError unless a seed gives the same question twice and an empty response is wrong."""
        first, second = (self.asked(stream("self-test")) for _ in range(2))
        if first != second:
            raise HarnessError(
                f"{self.flag}: expected the same question from the same generator, got {shortened(first.text)} and "
                f"{shortened(second.text)}: draw every random number from the generator"
            )
        prompts_of([first], [first.messages], self.settings, self.policy)  # refuses templates that cannot be used
        if self.graded(first, "").outcome == "right":
            raise HarnessError(f"{self.flag}: expected grade() to find an empty response wrong, but it is right")

    def first_wrong_step(self, problem: Problem, response: str) -> Span | None:
        with errors_naming(f"{self.flag}: first_wrong_step()", self.name, on=response):
            span = self.maker.first_wrong_step(self.questions[problem.prompt_id], response)
        return None if span is None else self.checked(span, response)

    def steps(self, response: str) -> list[Span]:
        with errors_naming(f"{self.flag}: steps()", self.name, on=response):
            spans = list(self.maker.steps(response))
        return [self.checked(span, response) for span in spans]

    def checked(self, span: Any, response: str) -> Span:
        """The span. Raises HarnessError unless it is the start and the end of a part of the response."""
        match span:
            case (int(start), int(end)) if 0 <= start < end <= len(response):
                return start, end
        raise HarnessError(
            f"{self.flag}: expected the start and end of a step of {shortened(response)}, got {shortened(span)}"
        )

    def behaviour(self, _responses: Sequence[tuple[Problem, str]]) -> dict[str, float | None]:
        return {}

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
