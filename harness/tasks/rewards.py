"""Rewards of the user's own: functions of prompt, response and answer, weighted, each recorded by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real

import numpy as np

from harness.config.task import reward_weights
from harness.errors import HarnessError
from harness.tasks.own_files import errors_naming, load, shortened
from harness.tasks.task import Problem

Reward = Callable[[str, str, str], float]  # prompt, response, right answer

CORRECT = "correct"  # the task's own reward: 1 if the answer is right, else --wrong_reward


@dataclass(frozen=True)
class Rewards:
    """A weighted sum of the task's own reward and the user's functions."""

    weights: dict[str, float] = field(default_factory=lambda: {CORRECT: 1.0})
    functions: dict[str, Reward] = field(default_factory=dict)
    spec: str = ""  # the flag's value

    def parts(self, prompt: str, response: str, answer: str, correct: float) -> dict[str, float]:
        """Each reward by name, not weighted. Raises HarnessError naming the function that fails or gives no number."""
        texts = (prompt, response, answer)
        return {name: correct if name == CORRECT else self.value_of(name, texts) for name in self.weights}

    def try_out(self, problem: Problem) -> None:
        """Raise HarnessError if a function fails on an empty response to the problem."""
        self.parts(problem.prompt, "", problem.answer, 0.0)

    def total(self, parts: dict[str, float]) -> float:
        return sum(weight * parts[name] for name, weight in self.weights.items())

    def value_of(self, name: str, texts: tuple[str, str, str]) -> float:
        """The value of a function of the user's for prompt, response and answer."""
        what = f"--reward: {name}"
        with errors_naming(what, self.spec, on=texts[1]):
            value = self.functions[name](*texts)
            number = float(value) if isinstance(value, Real | np.bool_) else math.nan
        if not math.isfinite(number):
            raise HarnessError(
                f"{what}: expected a finite number for the response {shortened(texts[1])}, got {shortened(value, 60)}"
            )
        return number


def rewards_of(spec: str | None) -> Rewards:
    """The rewards that --reward FILE.py:NAME=WEIGHT,... names; without it, the task's own."""
    if spec is None:
        return Rewards()
    weights = reward_weights(spec)
    names = [name for name in weights if name != CORRECT]
    functions = dict(zip(names, load(spec, names, "reward"), strict=True))
    return Rewards(weights, functions, spec)
