"""What many answers to each problem come to: avg@k, cons@k and the unbiased pass@k, with errors over problems."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.rollouts.held_out import Answer


@dataclass(frozen=True)
class Score:
    """A mean over problems, and its standard error where the problems are a sample of such problems."""

    mean: float
    standard_error: float | None  # None of a single problem


@dataclass(frozen=True)
class ProblemResult:
    """One problem's answers."""

    prompt_id: str
    samples: int
    correct: int
    majority: float  # whether the most frequent answer is right; a share where several are as frequent
    response_tokens: float  # mean
    truncated: int

    def pass_at(self, k: int) -> float:
        """The chance that one of k of its answers, drawn without replacement, is right (Chen et al. 2021, eq. 1).

        Its expectation over samples is 1 - (1 - p)^k, whatever their number, so that of pass@1 is p.
        """
        return 1.0 - math.comb(self.samples - self.correct, k) / math.comb(self.samples, k)


def problem_result(answers: Sequence[Answer]) -> ProblemResult:
    """The result of one problem's answers, in any order."""
    return ProblemResult(
        prompt_id=answers[0].prompt_id,
        samples=len(answers),
        correct=sum(answer.correct for answer in answers),
        majority=majority(answers),
        response_tokens=sum(answer.response_tokens for answer in answers) / len(answers),
        truncated=sum(answer.truncated for answer in answers),
    )


def majority(answers: Sequence[Answer]) -> float:
    """1 where the most frequent answer is right, else 0; of several as frequent the share that is right.

    Answers are one where they are written alike. Responses without an answer have no vote.
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
    measures: dict[str, Callable[[ProblemResult], float]] = {
        f"avg@{n}": lambda problem: problem.correct / problem.samples,
        f"cons@{n}": lambda problem: problem.majority,
    }
    powers = [2**power for power in range(int(math.log2(n)) + 1)]
    found = {name: mean_of([measure(problem) for problem in problems]) for name, measure in measures.items()}
    return found | {f"pass@{k}": mean_of([problem.pass_at(k) for problem in problems]) for k in powers}


def mean_of(values: Sequence[float]) -> Score:
    """Their mean and its standard error."""
    count, mean = len(values), sum(values) / len(values)
    if count < 2:
        return Score(mean, None)
    return Score(mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1) / count))
