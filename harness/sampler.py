"""Responses from a policy: batched sampling with a key-value cache, one uniform number per token."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from harness.policy import Policy, positions


@dataclass(frozen=True)
class Sample:
    """One response: its tokens, the end token included, and what its sampler knew of them."""

    tokens: list[int]
    entropy_sum: float  # nats, of the distributions that they were drawn from
    truncated: bool  # cut at the limit
    logprobs: list[float]  # of the tokens under the sampler, at its temperature, untruncated


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. `top_p` below 1 is for evaluation only."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


@torch.inference_mode()
def sample(
    policy: Policy, prompts: list[list[int]], uniforms: Float[np.ndarray, "row token"], sampling: Sampling
) -> list[Sample]:
    """Responses to the prompts, `len(uniforms) / len(prompts)` to each, prompt by prompt.

    Row i's token t is the inverse cumulative distribution at uniforms[i, t], so what a row draws depends on its own
    numbers alone. Rows leave the batch as they end.
    """
    per_prompt = len(uniforms) // len(prompts)
    cache, attention_mask, logits = read_prompts(policy, prompts, per_prompt)
    draws = torch.from_numpy(uniforms).to(policy.device)
    ends = torch.tensor(sorted(policy.end_ids), device=policy.device)
    tokens = torch.full((len(uniforms), sampling.max_tokens), policy.pad_id, device=policy.device)
    entropy = torch.zeros(len(uniforms), dtype=torch.float64, device=policy.device)
    logprobs = torch.zeros(tokens.shape, dtype=torch.float64, device=policy.device)
    lengths = torch.full((len(uniforms),), sampling.max_tokens, device=policy.device)
    ended = torch.zeros(len(uniforms), dtype=torch.bool, device=policy.device)
    active = torch.arange(len(uniforms), device=policy.device)
    for step in range(sampling.max_tokens):
        chosen, step_logprobs, step_entropy = choose(logits, draws[active, step], sampling)
        tokens[active, step], logprobs[active, step] = chosen, step_logprobs
        entropy[active] += step_entropy
        finished = torch.isin(chosen, ends)
        ended[active[finished]] = True
        lengths[active[finished]] = step + 1
        if finished.any():
            going = (~finished).nonzero().squeeze(1)
            active, chosen, attention_mask = active[going], chosen[going], attention_mask[going]
            cache.batch_select_indices(going)
        if len(active) == 0 or step + 1 == sampling.max_tokens:
            break
        attention_mask = torch.nn.functional.pad(attention_mask, (0, 1), value=1)
        logits = next_logits(policy, chosen[:, None], attention_mask, cache)
    return [
        Sample(row[:length], row_entropy, not row_ended, row_logprobs[:length])
        for row, length, row_entropy, row_ended, row_logprobs in zip(
            tokens.tolist(), lengths.tolist(), entropy.tolist(), ended.tolist(), logprobs.tolist(), strict=True
        )
    ]


def read_prompts(policy: Policy, prompts: list[list[int]], per_prompt: int) -> tuple[DynamicCache, Tensor, Tensor]:
    """Cache, attention mask and next-token logits after the prompts, each prompt's rows repeated `per_prompt` times."""
    width = max(map(len, prompts))
    tokens = torch.tensor([[policy.pad_id] * (width - len(prompt)) + prompt for prompt in prompts])
    attention_mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    cache = DynamicCache(config=policy.model.config)
    attention_mask = attention_mask.to(policy.device)
    logits = next_logits(policy, tokens.to(policy.device), attention_mask, cache)
    cache.batch_repeat_interleave(per_prompt)
    return cache, attention_mask.repeat_interleave(per_prompt, dim=0), logits.repeat_interleave(per_prompt, dim=0)


def next_logits(
    policy: Policy,
    tokens: Int[Tensor, "row new"],
    attention_mask: Int[Tensor, "row seen_and_new"],
    cache: DynamicCache,
) -> Float[Tensor, "row vocabulary"]:
    """Logits of the token after the new ones, which join the cache."""
    logits: Tensor = policy.model(
        input_ids=tokens,
        attention_mask=attention_mask,
        position_ids=positions(attention_mask)[:, -tokens.shape[1] :],
        past_key_values=cache,
        logits_to_keep=1,
        use_cache=True,
    ).logits
    return logits[:, -1]


def choose(
    logits: Float[Tensor, "row vocabulary"], uniforms: Float[Tensor, " row"], sampling: Sampling
) -> tuple[Int[Tensor, " row"], Float[Tensor, " row"], Float[Tensor, " row"]]:
    """The token at each row's uniform number, its log-probability and the entropy (nats), both untruncated.

    The cumulative sum is in float64: in float32 it would be off by more than a rare token's probability.
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
    """The probabilities with 0 outside the smallest set of tokens that holds `top_p` of the mass."""
    ordered, order = probabilities.sort(dim=-1, descending=True)
    beyond = ordered.cumsum(dim=-1) - ordered >= top_p
    return torch.zeros_like(probabilities).scatter(-1, order, ordered.masked_fill(beyond, 0.0))
