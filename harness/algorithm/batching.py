"""Splits a step's responses into minibatches and micro-batches, used for old and new log-probabilities alike."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harness.algorithm.controls import CREDIT_CONTROLS, credited
from harness.backends.ranks import ALONE, Ranks
from harness.config.schema import Config, OptimizerSettings
from harness.model.packing import TokenBatch, pack_batch
from harness.model.policy import Policy
from harness.rollouts.collect import Group, Response
from harness.tasks.task import Task
from losses import group_advantages


@dataclass(frozen=True)
class MicroBatch:
    """Responses that pass through the model together, and the other inputs of the loss."""

    responses: list[Response]  # empty in an idle batch, which a rank without work uses to take part in collectives
    tokens: TokenBatch
    advantages: Float[Tensor, "sequence token"]
    sampler_logprobs: Float[Tensor, "sequence token"]
    group_advantages: Sequence[float] = ()  # one per response, before a control spreads it over tokens


def group_relative(groups: list[Group], config: Config) -> list[float]:
    """Each response's group-relative advantage, in order."""
    rewards = torch.tensor([response.reward for group in groups for response in group], dtype=torch.float64)
    ids = torch.tensor([index for index, group in enumerate(groups) for _ in group], dtype=torch.int64)
    settings = config.loss
    advantages = group_advantages(rewards, ids, settings.advantage_std_eps, scale=settings.advantage_scale)
    return [float(value) for value in advantages]


def plan_minibatches(
    groups: list[Group], policy: Policy, task: Task, config: Config, ranks: Ranks = ALONE
) -> list[list[MicroBatch]]:
    """This rank's micro-batches for each optimizer step of one epoch; every rank has the same number of them.

    A minibatch consists of whole groups in prompt order, and minibatches are as equal in size as possible. If the batch
    is not full, minibatches are smaller; there are fewer of them only if there are fewer groups than minibatches.
    """
    advantages = iter(group_relative(groups, config))
    paired = [[(response, next(advantages)) for response in group] for group in groups]
    parts = np.array_split(np.arange(len(groups)), config.optimizer.minibatches)
    minibatches = [[pair for index in part for pair in paired[index]] for part in parts if len(part)]
    return [micro_batches(minibatch, policy, task, config, ranks) for minibatch in minibatches]


Paired = list[tuple[Response, float]]  # responses, each with its advantage


def micro_batches(
    minibatch: Paired, policy: Policy, task: Task, config: Config, ranks: Ranks = ALONE
) -> list[MicroBatch]:
    """This rank's share of a minibatch, plus an idle batch if other ranks have one micro-batch more."""
    parts = split(minibatch, config.optimizer, ranks.world)
    batches = [micro_batch(part, policy, task, config) for part in ranks.share(parts)]
    is_short = len(batches) < -(-len(parts) // ranks.world)
    return [*batches, idle_batch(parts[0][0][0], policy)] if is_short else batches


def split(minibatch: Paired, settings: OptimizerSettings, world: int) -> list[Paired]:
    """Split a minibatch: `micro_batch_size` responses in order, or sorted by length up to `micro_batch_tokens` tokens.

    The split does not change the optimizer step, since token weights come from the whole minibatch.
    """
    if settings.micro_batch_tokens is None:
        size = settings.micro_batch_size or -(-len(minibatch) // world)
        return [minibatch[start : start + size] for start in range(0, len(minibatch), size)]
    whole = sum(text_tokens(response) for response, _ in minibatch)
    budget = min(settings.micro_batch_tokens, -(-whole // world))  # so that the work is spread over all ranks
    parts: list[Paired] = []
    room = 0
    for pair in sorted(minibatch, key=lambda pair: -text_tokens(pair[0])):
        if text_tokens(pair[0]) > room:
            parts.append([])
            room = budget
        parts[-1].append(pair)
        room -= text_tokens(pair[0])
    return parts


def text_tokens(response: Response) -> int:
    return len(response.prompt_tokens) + len(response.tokens)


def micro_batch(part: Paired, policy: Policy, task: Task, config: Config) -> MicroBatch:
    """Pack responses into a micro-batch. Under `overlong_filter` responses cut at the limit are masked.

    They still count in their group's mean and standard deviation (DAPO section 3.4: "masks the loss of truncated
    samples").
    """
    responses = [response for response, _ in part]
    tokens = pack_batch([r.prompt_tokens for r in responses], [r.tokens for r in responses], policy.device)
    if config.task.overlong_filter:
        complete = torch.tensor([not response.truncated for response in responses], device=policy.device)
        tokens = dataclasses.replace(tokens, mask=tokens.mask & complete[:, None])
    group_advantages = [advantage for _, advantage in part]
    advantages = [
        value for response, advantage in part for value in token_advantages(response, advantage, policy, task, config)
    ]
    sampled = [logprob for response in responses for logprob in response.sampler_logprobs]
    by_token, logprobs = (tokens.spread(torch.tensor(values, device=policy.device)) for values in (advantages, sampled))
    return MicroBatch(responses, tokens, by_token, logprobs, group_advantages)


def idle_batch(response: Response, policy: Policy) -> MicroBatch:
    """A batch with one masked token, whose forward and backward passes add nothing to any gradient."""
    tokens = pack_batch([response.prompt_tokens[-1:]], [response.tokens[:1]], policy.device)
    masked = dataclasses.replace(tokens, mask=torch.zeros_like(tokens.mask))
    zeros = torch.zeros(tokens.mask.shape, device=policy.device)
    return MicroBatch([], masked, zeros, zeros)


def token_advantages(response: Response, advantage: float, policy: Policy, task: Task, config: Config) -> list[float]:
    """The advantage of each token: the response's, unless it is negative and a control of token credit moves it."""
    control = config.task.control
    if control not in CREDIT_CONTROLS or advantage >= 0:
        return [advantage] * len(response.tokens)
    return credited(response, advantage, control, (policy, task, config.run.seed))
