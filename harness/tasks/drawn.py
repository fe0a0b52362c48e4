"""Tasks whose questions are drawn one by one: the user's own, and those that ship with the harness.

Their makers have two methods: `question(generator)`, a Question drawn with the generator alone, so that a seed gives
the same questions everywhere, and `grade(question, response)`, True, False or a Grade; with `steps` and
`first_wrong_step` also the control `blame` (docs/your-own-task.md). Prompts are rendered with the model's chat
template, and split by their hash into training and evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from harness.config.schema import Config
from harness.config.task import DataSettings, task_arguments
from harness.errors import HarnessError, UsageError, as_usage_error
from harness.model.policy import Policy
from harness.randomness import stream
from harness.tasks.own_files import errors_naming, load, shortened
from harness.tasks.prompts import prompts_of, rendered
from harness.tasks.task import GeneratedTask, Grade, Problem, Question, Span, Split

MOST_TOO_LONG = 100  # prompts in a row beyond --max_prompt_tokens


@dataclass(frozen=True)
class DrawnTask(GeneratedTask):
    """A task whose questions and grades come from a maker."""

    name: str
    maker: Any
    settings: DataSettings
    policy: Policy
    questions: dict[str, Question] = field(default_factory=dict)  # those drawn so far, by prompt id

    def called(self, method: str, *arguments: Any, on: str | None = None) -> Any:
        """What the maker's method returns. Raises HarnessError, naming the response `on`, if it fails."""
        with errors_naming(f"--task {self.name}: {method}()", self.name, on=on):
            return getattr(self.maker, method)(*arguments)

    def refusal(self, expected: str, got: object) -> HarnessError:
        return HarnessError(f"--task {self.name}: expected {expected}, got {shortened(got)}")

    def asked(self, generator: np.random.Generator) -> Question:
        """The maker's question. Raises HarnessError if the maker fails or gives none."""
        match question := self.called("question", generator):
            case Question(text=str(), answer=str()):
                return question
        raise self.refusal("question() to return a Question of two texts", question)

    def draw(self, generator: np.random.Generator) -> Problem:
        """A problem whose prompt is within --max_prompt_tokens; longer ones are drawn again.

        Raises UsageError if hardly any prompt is within the limit.
        """
        for _ in range(MOST_TOO_LONG):
            question = self.asked(generator)
            problem = Problem(rendered(question.messages(), self.settings, self.policy.tokenizer), question.answer)
            if len(self.policy.encode(problem.prompt)) <= self.settings.max_prompt_tokens:
                self.questions.setdefault(problem.prompt_id, question)
                return problem
        raise UsageError(
            f"--max_prompt_tokens {self.settings.max_prompt_tokens}: expected prompts within it, got "
            f"{MOST_TOO_LONG} longer ones in a row: raise it"
        )

    def held_out(self, split: Split, count: int) -> tuple[Problem, ...]:
        generator = stream(f"held-out prompts, {split}", self.name.rpartition(":")[2])
        return tuple(self.draw_problems(split, count, generator, set()))

    def grade(self, responses: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return [self.graded(self.questions[problem.prompt_id], text) for problem, text in responses]

    def graded(self, question: Question, response: str) -> Grade:
        match grade := self.called("grade", question, response, on=response):
            case bool() | np.bool_():
                return Grade("right" if grade else "wrong")
            case Grade("right" | "wrong" | "unchecked", str() | None, str() | None, bool() | None):
                return grade
        raise self.refusal(f"grade() to return True, False or a valid Grade for {shortened(response)}", grade)

    def self_test(self) -> None:
        """Raise HarnessError unless a seed gives the same question twice and an empty response is wrong."""
        first, second = (self.asked(stream("self-test")) for _ in range(2))
        if first != second:
            raise self.refusal(
                f"the same question from the same generator as before, {shortened(first.text)}", second.text
            )
        prompts_of([first], ("", ""), self.settings, self.policy)  # refuses templates that cannot be used
        if self.graded(first, "").outcome == "right":
            raise self.refusal("grade() to find an empty response wrong", "right")

    def first_wrong_step(self, problem: Problem, response: str) -> Span | None:
        span = self.called("first_wrong_step", self.questions[problem.prompt_id], response, on=response)
        return None if span is None else self.checked(span, response)

    def steps(self, response: str) -> list[Span]:
        with errors_naming(f"--task {self.name}: steps()", self.name, on=response):
            spans = list(self.maker.steps(response))
        return [self.checked(span, response) for span in spans]

    def checked(self, span: Any, response: str) -> Span:
        """The span. Raises HarnessError unless it is the start and the end of a part of the response."""
        match span:
            case (int(start), int(end)) if 0 <= start < end <= len(response):
                return start, end
        raise self.refusal(f"the start and end of a step of {shortened(response)}", span)

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
