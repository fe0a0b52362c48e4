"""Samples responses from a policy in batches, with a key-value cache and one uniform random number per token."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.console import doing
from harness.model.policy import Policy
from harness.rollouts.decoding import read_prompts

ENDED = 0.1  # share of a batch's rows that must have ended before they are removed
ROWS = 8  # more rows than that are kept by multiples of it: oneDNN compiles its product for each number of rows anew


@dataclass(frozen=True)
class Sample:
    """One sampled response."""

    tokens: list[int]
    entropy_sum: float  # sum over the tokens of the entropy of their distribution, nats
    truncated: bool  # cut at the token limit
    logprobs: list[float]  # log-probability of each token at the sampling temperature, before top_p


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters. `top_p` below 1 is for evaluation only."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


@torch.inference_mode()
def sample(
    policy: Policy, prompts: list[list[int]], uniforms: Float[np.ndarray, "row token"], sampling: Sampling
) -> list[Sample]:
    """`len(uniforms) / len(prompts)` responses per prompt, prompt by prompt.

    Token t of row i is the inverse of the cumulative distribution at uniforms[i, t], so a row depends only on its own
    random numbers. Rows that have ended are removed from the batch once there are enough of them to be worth it.
    """
    decoding, states = read_prompts(policy.model, prompts, len(uniforms) // len(prompts), sampling.max_tokens)
    head = policy.model.get_output_embeddings()
    draws = torch.from_numpy(uniforms).to(policy.device)
    ends = torch.tensor(sorted(policy.end_ids), device=policy.device)
    tokens = torch.full((len(uniforms), sampling.max_tokens), policy.pad_id, device=policy.device)
    logprobs = torch.zeros(tokens.shape, dtype=torch.float64, device=policy.device)
    entropy = torch.zeros(len(uniforms), dtype=torch.float64, device=policy.device)
    lengths = torch.zeros(len(uniforms), dtype=torch.int64, device=policy.device)
    rows = torch.arange(len(uniforms), device=policy.device)  # rows that are still in the batch
    going = torch.ones(len(uniforms), dtype=torch.bool, device=policy.device)  # which of them have not ended
    left, drawn = len(uniforms), 0  # responses that have not ended, tokens so far
    for step in range(sampling.max_tokens):
        chosen, step_logprobs, step_entropy = choose(head(states), draws[rows, step], sampling)
        tokens[rows, step], logprobs[rows, step] = chosen, step_logprobs
        entropy[rows] += step_entropy * going
        lengths[rows] += going
        going &= torch.isin(chosen, ends, invert=True)
        left, drawn = int(going.sum()), drawn + left
        doing(f"sampling: {len(uniforms) - left:,} of {len(uniforms):,} responses, {drawn:,} tokens")
        if left == 0 or step + 1 == sampling.max_tokens:
            break
        more = -left % ROWS if left > ROWS else 0
        if left + more <= (1 - ENDED) * len(rows):
            kept = decoding.keep(going | (~going & ((~going).cumsum(0) <= more)))
            rows, chosen, going = rows[kept], chosen[kept], going[kept]
        states = decoding.next_states(chosen)
    return [
        Sample(row[:length], row_entropy, row[length - 1] not in policy.end_ids, row_logprobs[:length])
        for row, length, row_entropy, row_logprobs in zip(
            tokens.tolist(), lengths.tolist(), entropy.tolist(), logprobs.tolist(), strict=True
        )
    ]


def choose(
    logits: Float[Tensor, "row vocabulary"], uniforms: Float[Tensor, " row"], sampling: Sampling
) -> tuple[Int[Tensor, " row"], Float[Tensor, " row"], Float[Tensor, " row"]]:
    """For each row the token at its uniform number, the token's log-probability, and the entropy (nats) before `top_p`.

    The cumulative sum is in float64, because in float32 its error could exceed the probability of a rare token.
    """
    whole = probabilities = torch.softmax(logits.double() / sampling.temperature, dim=-1)
    entropy = torch.special.entr(probabilities).sum(dim=-1)
    if sampling.top_p < 1:
        probabilities = nucleus(probabilities, sampling.top_p)
    cumulative = probabilities.cumsum(dim=-1)
    chosen = torch.searchsorted(cumulative, uniforms[:, None] * cumulative[:, -1:], right=True).squeeze(1)
    chosen = chosen.clamp(max=logits.shape[-1] - 1)
    return chosen, whole.gather(1, chosen[:, None]).squeeze(1).log(), entropy


def nucleus(probabilities: Float[Tensor, "row vocabulary"], top_p: float) -> Float[Tensor, "row vocabulary"]:
    """The probabilities, set to 0 outside the smallest set of tokens whose total probability is at least `top_p`."""
    ordered, order = probabilities.sort(dim=-1, descending=True)
    beyond = ordered.cumsum(dim=-1) - ordered >= top_p
    return torch.zeros_like(probabilities).scatter(-1, order, ordered.masked_fill(beyond, 0.0))
