import dataclasses

import numpy as np
import pytest
import torch

from harness.model.policy import Policy
from harness.randomness import stream
from harness.rollouts.sampler import Sample, Sampling, sample
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


def test_a_rows_tokens_do_not_depend_on_the_other_rows(random_policy: Policy) -> None:
    prompts, numbers = [random_policy.encode(prompt) for prompt in PROMPTS], uniforms(12)
    together = sample(random_policy, prompts, numbers, Sampling(LIMIT))
    for row in range(12):
        (alone,) = sample(random_policy, [prompts[row // 4]], numbers[row : row + 1], Sampling(LIMIT))
        assert alone.tokens == together[row].tokens


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
