"""Scores of several answers per problem: avg@k, cons@k and unbiased pass@k, with standard errors over problems."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.rollouts.held_out import Answer

Score = dict[str, float | None]  # mean, and standard_error over problems, which is None for a single one


@dataclass(frozen=True)
class ProblemResult:
    prompt_id: str
    samples: int
    correct: int
    majority: float  # 1 if the most frequent answer is right, else 0; a fraction if several are tied
    response_tokens: float  # mean
    truncated: int

    def pass_at(self, k: int) -> float:
        """Probability that at least one of k answers drawn without replacement is right (Chen et al. 2021, eq. 1).

        An unbiased estimate of 1 - (1 - p)^k for any number of samples of at least k.
        """
        return 1.0 - math.comb(self.samples - self.correct, k) / math.comb(self.samples, k)


def problem_result(answers: Sequence[Answer]) -> ProblemResult:
    return ProblemResult(
        prompt_id=answers[0].prompt_id,
        samples=len(answers),
        correct=sum(answer.correct for answer in answers),
        majority=majority(answers),
        response_tokens=sum(answer.response_tokens for answer in answers) / len(answers),
        truncated=sum(answer.truncated for answer in answers),
    )


def majority(answers: Sequence[Answer]) -> float:
    """1 if the most frequent answer is right, else 0; if several are tied, the fraction of them that is right.

    Answers are equal if they are spelled identically. Responses without an answer do not vote.
    """
    votes = Counter(answer.answer for answer in answers if answer.answer is not None)
    if not votes:
        return 0.0
    right = {answer.answer for answer in answers if answer.correct}
    most = max(votes.values())
    leading = [answer for answer, count in votes.items() if count == most]
    return sum(answer in right for answer in leading) / len(leading)


def scores(problems: Sequence[ProblemResult]) -> dict[str, Score]:
    """avg@n, cons@n, and pass@k for each power of two up to n, the number of samples of each problem."""
    n = min(problem.samples for problem in problems)
    measured = {f"avg@{n}": [problem.correct / problem.samples for problem in problems]}
    measured[f"cons@{n}"] = [problem.majority for problem in problems]
    for k in (2**power for power in range(n.bit_length())):
        measured[f"pass@{k}"] = [problem.pass_at(k) for problem in problems]
    return {name: mean_of(values) for name, values in measured.items()}


def mean_of(values: Sequence[float]) -> Score:
    count, mean = len(values), sum(values) / len(values)
    squares = sum((value - mean) ** 2 for value in values)
    return {"mean": mean, "standard_error": math.sqrt(squares / (count - 1) / count) if count > 1 else None}
