"""Scores of several answers per problem: avg@k, cons@k and unbiased pass@k, with standard errors over problems."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import comb, sqrt
from statistics import fmean, variance
from typing import Any

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
        return 1.0 - comb(self.samples - self.correct, k) / comb(self.samples, k)


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
    right = {answer.answer for answer in answers if answer.correct}
    leading = [answer in right for answer, count in votes.items() if count == max(votes.values())]
    return fmean(leading) if leading else 0.0


def scores(problems: Sequence[ProblemResult]) -> dict[str, Score]:
    """avg@n, cons@n, and pass@k for each power of two up to n, the number of samples of each problem."""
    n = min(problem.samples for problem in problems)
    measured = {f"avg@{n}": [problem.correct / problem.samples for problem in problems]}
    measured[f"cons@{n}"] = [problem.majority for problem in problems]
    for k in (2**power for power in range(n.bit_length())):
        measured[f"pass@{k}"] = [problem.pass_at(k) for problem in problems]
    return {name: mean_of(values) for name, values in measured.items()}


def mean_of(values: Sequence[float]) -> Score:
    error = sqrt(variance(values) / len(values)) if len(values) > 1 else None
    return {"mean": fmean(values), "standard_error": error}


def results_of(answers: Sequence[Answer], suites: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The content of results.json. suites: prompt ids by benchmark."""
    by_prompt = defaultdict[str, list[Answer]](list)
    for answer in answers:
        by_prompt[answer.prompt_id].append(answer)
    problems = {prompt: problem_result(own) for prompt, own in by_prompt.items()}
    return {
        suite: {
            "scores": scores([problems[prompt] for prompt in prompts]),
            "unchecked": sum(answer.outcome == "unchecked" for p in prompts for answer in by_prompt[p]),
            "problems": [asdict(problems[prompt]) for prompt in prompts],
        }
        for suite, prompts in suites.items()
        if prompts
    }


def result_lines(results: Mapping[str, Any]) -> Iterator[str]:
    """A line per benchmark: scores with standard errors over problems, mean length, share cut, number unchecked."""
    for suite, one in results.items():
        problems = one["problems"]
        answers = sum(problem["samples"] for problem in problems)
        tokens = fmean(problem["response_tokens"] for problem in problems)
        cut = sum(problem["truncated"] for problem in problems) / answers
        found = "  ".join(
            f"{key} {score['mean']:.4f}"
            + (f" (se {error:.4f})" if (error := score["standard_error"]) is not None else "")
            for key, score in one["scores"].items()
        )
        yield (
            f"{suite}: {found}  ({len(problems)} problems, {answers} answers of {tokens:.0f} tokens, {cut:.1%} cut, "
            f"{one['unchecked']} unchecked)"
        )
