"""How a token is chosen, and that batches and caches change none."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from harness.model.policy import Policy
from harness.randomness import stream
from harness.rollouts.sampler import Sample, Sampling, choose, nucleus, sample
from tests.harness.agreement import agree

PROMPTS = ["a1b2c3d4e0f1:", "a0b0c0d0e0f0g0h0i0:", "a4:"]
LIMIT = 16


def uniforms(rows: int) -> np.ndarray:
    return np.stack([stream(0, "sampler test", row).random(LIMIT) for row in range(rows)])


@torch.no_grad()
def plainly_sampled(policy: Policy, prompt: list[int], numbers: np.ndarray, sampling: Sampling) -> Sample:
    """One response, the whole text read anew for each token: no batch, no padding, no cache."""
    tokens: list[int] = []
    logprobs: list[float] = []
    entropy = 0.0
    for number in numbers[: sampling.max_tokens]:
        logits = policy.model(input_ids=torch.tensor([prompt + tokens])).logits[0, -1].double().numpy()
        odds = np.exp((logits - logits.max()) / sampling.temperature)
        probabilities = odds / odds.sum()
        entropy -= (probabilities * np.log(probabilities)).sum()
        tokens.append(int(np.flatnonzero(number < probabilities.cumsum())[0]))
        logprobs.append(float(np.log(probabilities[tokens[-1]])))
        if tokens[-1] in policy.end_ids:
            return Sample(tokens, entropy, False, logprobs)
    return Sample(tokens, entropy, True, logprobs)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampler_equals_a_plain_one(random_policy: Policy, temperature: float) -> None:
    prompts, numbers = [random_policy.encode(prompt) for prompt in PROMPTS], uniforms(12)
    sampling = Sampling(LIMIT, temperature)
    drawn = sample(random_policy, prompts, numbers, sampling)
    plain = [plainly_sampled(random_policy, prompts[row // 4], numbers[row], sampling) for row in range(12)]
    assert [one.tokens for one in drawn] == [one.tokens for one in plain]
    assert [one.truncated for one in drawn] == [one.truncated for one in plain]
    assert agree([one.entropy_sum for one in drawn], [one.entropy_sum for one in plain], "network")
    assert agree(*([value for one in each for value in one.logprobs] for each in (drawn, plain)), "network")


def test_a_response_may_end_at_the_very_limit(random_policy: Policy) -> None:
    prompt, numbers = [random_policy.encode(PROMPTS[0])], uniforms(40)
    ended = next(one for one in sample(random_policy, prompt, numbers, Sampling(LIMIT)) if not one.truncated)
    shortest = sample(random_policy, prompt, numbers, Sampling(len(ended.tokens)))
    assert any(one == ended for one in shortest)
    assert all(len(one.tokens) == len(ended.tokens) for one in shortest if one.truncated)


def test_any_of_several_end_tokens_ends_a_response(random_policy: Policy) -> None:
    also = random_policy.encode("#")[0]
    several = dataclasses.replace(random_policy, end_ids=random_policy.end_ids | {also})
    prompt, numbers = [random_policy.encode(PROMPTS[0])], uniforms(40)
    with_one = sample(random_policy, prompt, numbers, Sampling(LIMIT))
    with_both = sample(several, prompt, numbers, Sampling(LIMIT))
    assert any(also in one.tokens[:-1] for one in with_one)
    for one, both in zip(with_one, with_both, strict=True):
        end = one.tokens.index(also) + 1 if also in one.tokens else len(one.tokens)
        assert both.tokens == one.tokens[:end]
        assert both.truncated == (not set(both.tokens) & several.end_ids)


def chosen(probabilities: list[float], numbers: list[float], **settings: float) -> list[int]:
    logits = torch.tensor([probabilities] * len(numbers), dtype=torch.float64).log()
    return choose(logits, torch.tensor(numbers, dtype=torch.float64), Sampling(1, **settings))[0].tolist()


def test_token_is_the_inverse_cumulative_distribution() -> None:
    # 0.5, 0.75 and 1 are the upper edges
    numbers = [0.0, 0.4999, 0.5001, 0.7499, 0.7501, 1 - 2**-53]
    assert chosen([0.5, 0.25, 0.25], numbers) == [0, 0, 1, 1, 2, 2]
    assert chosen([0.0, 1.0, 0.0], [0.0, 0.5, 1 - 2**-53]) == [1, 1, 1]
    # a rare token keeps its probability: in float32 the edges 1 - 1e-9 and 1 would be one
    assert chosen([1 - 1e-9, 1e-9], [1 - 2e-9, 1 - 0.5e-9]) == [0, 1]


def test_nucleus_by_hand() -> None:
    probabilities = torch.tensor([[0.125, 0.5, 0.375]], dtype=torch.float64)
    kept = {top_p: nucleus(probabilities, top_p)[0].tolist() for top_p in (0.1, 0.5, 0.51, 0.875, 0.9)}
    assert kept == {
        0.1: [0.0, 0.5, 0.0],
        0.5: [0.0, 0.5, 0.0],
        0.51: [0.0, 0.5, 0.375],
        0.875: [0.0, 0.5, 0.375],
        0.9: [0.125, 0.5, 0.375],
    }


def test_nucleus_is_renormalized_when_a_token_is_chosen() -> None:
    # of 0.5 and 0.375 the first has 4 / 7
    assert chosen([0.125, 0.5, 0.375], [0.0, 0.5713, 0.5715, 1 - 2**-53], top_p=0.8) == [1, 1, 2, 2]


@pytest.mark.parametrize("top_p", [1.0, 0.4])
def test_entropy_is_that_of_the_untruncated_distribution(top_p: float) -> None:
    logits = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.25, 0.0]], dtype=torch.float64).log()
    _, _, entropy = choose(logits, torch.tensor([0.5, 0.5]), Sampling(1, top_p=top_p))
    assert agree(entropy, [math.log(4), 1.5 * math.log(2)], "float64")
