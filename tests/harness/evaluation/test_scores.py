import math
from itertools import combinations

import pytest

from harness.evaluation.scores import ProblemResult, majority, problem_result, scores
from harness.rollouts.held_out import Answer
from tests.harness.agreement import agree


def answers(*given: str | None, right: str = "5") -> list[Answer]:
    """A problem's answers; "-" stands for one that was cut."""
    return [
        Answer(
            step=0,
            prompt_id="p",
            sample=j,
            text="",
            answer=None if one in (None, "-") else one,
            correct=one == right,
            correct_leniently=one == right,
            outcome="right" if one == right else "wrong",
            response_tokens=10 * (j + 1),
            truncated=one == "-",
        )
        for j, one in enumerate(given)
    ]


def of(correct: int, samples: int) -> ProblemResult:
    return ProblemResult("p", samples, correct, 0.0, 1.0, 0)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (("5", "5", "6"), 1.0),
        (("5", "6", "6"), 0.0),
        (("5", "6"), 0.5),
        (("5", "6", "7", "6", "5"), 0.5),
        (("6", "7"), 0.0),
        (("5", None, None, "-"), 1.0),  # what gives no answer has no vote
        ((None, "-"), 0.0),
    ],
)
def test_majority_by_hand(given: tuple[str | None, ...], value: float) -> None:
    assert majority(answers(*given)) == value


def test_a_problems_result_by_hand() -> None:
    assert problem_result(answers("5", "6", "5", "-")) == ProblemResult("p", 4, 2, 1.0, 25.0, 1)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(n: int) -> None:
    for correct in range(n + 1):
        drawn = [True] * correct + [False] * (n - correct)
        for k in range(1, n + 1):
            subsets = [any(subset) for subset in combinations(drawn, k)]
            assert agree([of(correct, n).pass_at(k)], [sum(subsets) / len(subsets)], "float64")


def test_scores_are_means_over_problems_with_their_standard_errors() -> None:
    # shares right 1, 1/2, 0: mean .5, variance .25, standard error sqrt(.25 / 3)
    problems = [problem_result(answers(*given)) for given in (("5", "5"), ("5", "6"), ("6", "7"))]
    found = scores(problems)
    assert list(found) == ["avg@2", "cons@2", "pass@1", "pass@2"]
    assert agree(list(found["avg@2"].values()), [0.5, math.sqrt(0.25 / 3)], "float64")
    means = [found[name]["mean"] for name in ("cons@2", "pass@1", "pass@2")]
    assert agree(means, [0.5, 0.5, 2 / 3], "float64")
    assert scores(problems[:1])["avg@2"] == {"mean": 1.0, "standard_error": None}
