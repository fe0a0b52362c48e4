"""The microscope's estimators against a model whose responses can all be listed."""

import math

import numpy as np
import pytest
import torch

from harness.errors import UsageError
from harness.microscope.direction import accuracy_gradient, dot, leave_one_out, reference, trained
from harness.microscope.values import Credit, completions, monte_carlo_credit, segment_starts
from harness.rollouts.sampler import Sample
from harness.tasks.task import Problem
from tests.harness.microscope import enumerable as small
from tests.harness.responses import response


def true_gradient(problem: Problem) -> list[torch.Tensor]:
    """The gradient of -accuracy: over every response, its chance times whether it is right."""
    listed = small.responses()
    right = torch.tensor([small.is_right(problem, tokens) for tokens in listed], dtype=torch.float64)
    accuracy = (small.logprobs(problem, listed).double().sum(dim=1).exp() * right).sum()
    return list(torch.autograd.grad(-accuracy, trained(small.policy().model)))


@pytest.mark.parametrize("problem", small.PROBLEMS, ids=lambda problem: problem.prompt)
def test_the_gradient_of_accuracy_is_unbiased(problem: Problem) -> None:
    """Its expectation over all pairs of responses, each pair as likely as the model makes it, is the true gradient."""
    listed = small.responses()
    right = np.array([float(small.is_right(problem, tokens)) for tokens in listed])
    with torch.no_grad():
        chance = small.logprobs(problem, listed).double().sum(dim=1).exp().numpy()
    pairs = np.stack(np.meshgrid(np.arange(len(listed)), np.arange(len(listed)), indexing="ij"), axis=-1).reshape(-1, 2)
    weights = leave_one_out(right[pairs]) / 2 * chance[pairs].prod(axis=1, keepdims=True)
    expected = np.bincount(pairs.ravel(), weights=weights.ravel(), minlength=len(listed))
    group = [(Sample(list(tokens), 0.0, False, []), bool(one)) for tokens, one in zip(listed, right, strict=True)]
    found = accuracy_gradient(small.context(), [problem], [group], expected[None])
    for ours, true in zip(found, true_gradient(problem), strict=True):
        torch.testing.assert_close(ours, true, rtol=0, atol=1e-6)


@pytest.mark.parametrize("prefix", [(), (4,), (2,), (2, 3)])
@pytest.mark.parametrize("problem", small.PROBLEMS, ids=lambda problem: problem.prompt)
def test_a_prefix_is_continued_as_the_model_would(problem: Problem, prefix: tuple[int, ...]) -> None:
    """Each continuation is drawn on a box of uniform numbers whose volume is its chance; so values are unbiased."""
    listed = small.responses(prefix)
    chances, ends = [], np.zeros((2, len(listed), small.LIMIT))
    with torch.no_grad():
        for row, tokens in enumerate(listed):
            chance = 1.0
            for place in range(len(prefix), len(tokens)):
                following = [(*tokens[:place], token) for token in range(5)]
                each = small.logprobs(problem, following).double()[:, place].exp()
                low = float(each[: tokens[place]].sum())
                ends[:, row, place - len(prefix)] = low + 1e-6, low + float(each[tokens[place]]) - 1e-6
                chance *= float(each[tokens[place]])
            chances.append(chance)
    for uniforms in ends:  # the lower corner of each box, and the upper one
        (drawn,) = completions(small.context(uniforms), [(problem, prefix)], len(listed), ("any",))
        assert [tuple(sample.tokens) for sample, _ in drawn] == listed
        assert [right for _, right in drawn] == [small.is_right(problem, tokens) for tokens in listed]
    found = sum(chance for chance, (_, right) in zip(chances, drawn, strict=True) if right)
    assert found == pytest.approx(small.value(problem, prefix), abs=1e-6)


def test_credit_is_the_change_of_the_chance_of_a_right_answer() -> None:
    count = 4000
    listed = [(problem, tokens) for problem in small.PROBLEMS for tokens in ((4, 1), (2, 3, 1), (2, 2, 4), (1,))]
    texts = ["".join("_$#01"[token] for token in tokens) for _, tokens in listed]
    responses = [
        response(small.policy(), problem, text, reward=1.0 if small.is_right(problem, tokens) else -1.0)
        for (problem, tokens), text in zip(listed, texts, strict=True)
    ]
    found = monte_carlo_credit(small.context(), responses, 8, count, ("credit",))
    for (problem, tokens), credit in zip(listed, found, strict=True):
        values = [small.value(problem, tokens[:place]) for place in range(len(tokens))]
        values.append(float(small.is_right(problem, tokens)))
        error = 5 * math.sqrt(2 * 0.25 / count)
        np.testing.assert_allclose(credit.advantages.mean(axis=0), np.diff(values), atol=error)
        np.testing.assert_allclose(credit.advantages.sum(axis=1), values[-1] - credit.values[:, 0], atol=1e-12)
        assert not np.array_equal(*credit.values) or len(tokens) == 1


def test_true_credit_as_advantages_gives_the_true_gradient() -> None:
    """Over every response, its chance times the sum of credit times grad log pi: the policy gradient theorem."""
    problem = small.PROBLEMS[1]
    listed = small.responses()
    credit = torch.zeros(len(listed), small.LIMIT, dtype=torch.float64)
    for row, tokens in enumerate(listed):
        values = np.array([small.value(problem, tokens[:place]) for place in range(len(tokens))])
        exact = Credit(list(range(len(tokens))), np.stack([values, values]), small.is_right(problem, tokens))
        credit[row, : len(tokens)] = torch.from_numpy(exact.by_token(len(tokens)))
    logprobs = small.logprobs(problem, listed).double()
    chances = logprobs.detach().sum(dim=1, keepdim=True).exp()
    found = torch.autograd.grad(-(chances * credit * logprobs).sum(), trained(small.policy().model))
    for ours, true in zip(found, true_gradient(problem), strict=True):
        torch.testing.assert_close(ours, true, rtol=0, atol=1e-6)


def test_both_estimates_are_of_the_gradient_and_independent() -> None:
    truth = reference(small.context(), 2, 6000, ("direction",))
    each = zip(*(true_gradient(problem) for problem in small.PROBLEMS), strict=True)
    true = [sum(parts) / len(small.PROBLEMS) for parts in each]
    for half in truth.halves:
        assert dot(half, true) / math.sqrt(dot(half, half) * dot(true, true)) > 0.99
        assert dot(half, true) == pytest.approx(dot(true, true), rel=0.2)
    assert dot(truth.halves[0], truth.halves[0]) != dot(*truth.halves)
    accuracy = np.mean([small.value(problem, ()) for problem in small.PROBLEMS])
    assert truth.accuracy == pytest.approx(accuracy, abs=0.02)


def test_a_task_with_too_few_prompts_is_refused() -> None:
    with pytest.raises(
        UsageError, match="--responses: expected 3 training prompts for each estimate, got fewer: lower it"
    ):
        reference(small.context(), 3, 4, ("direction",))


@pytest.mark.parametrize(("tokens", "most", "starts"), [(5, 8, [0, 1, 2, 3, 4]), (10, 4, [0, 2, 5, 7]), (1, 1, [0])])
def test_segments_are_as_equal_as_can_be(tokens: int, most: int, starts: list[int]) -> None:
    assert segment_starts(tokens, most) == starts
