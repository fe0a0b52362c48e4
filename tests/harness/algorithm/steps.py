"""Optimizer steps on responses written by hand."""

import copy
import dataclasses
from typing import Any

import torch

from harness.algorithm.batching import MicroBatch, plan_minibatches
from harness.algorithm.loss_metrics import LossRecord, metric_names
from harness.algorithm.state import make_updater
from harness.algorithm.update import KnownLogprobs
from harness.model.packing import pack_batch
from harness.model.policy import Policy
from harness.tasks.chain_sum import GRADED
from tests.harness.responses import four_groups
from tests.harness.tiny import small_config


def planned(policy: Policy, kept: int = 4, **changes: Any) -> list[list[MicroBatch]]:
    """The first of `four_groups` in minibatches."""
    return plan_minibatches(four_groups(policy)[:kept], policy, GRADED, small_config(**changes))


def one_minibatch(policy: Policy, **changes: Any) -> list[MicroBatch]:
    """All of them in one."""
    (minibatch,) = planned(policy, **{"minibatches": 1, "allow_inert": True} | changes)
    return minibatch


def stepped(
    policy: Policy, minibatch: list[MicroBatch], known: list[KnownLogprobs], **changes: Any
) -> tuple[torch.Tensor, LossRecord]:
    """The gradient of one optimizer step by a copy of the policy, and its record."""
    config = small_config(**{"grad_clip": 1e9, "allow_inert": True} | changes)
    policy = dataclasses.replace(policy, model=copy.deepcopy(policy.model))
    updater = make_updater(config, policy)
    record = LossRecord(metric_names(updater.loss))
    updater.step(minibatch, known, record)
    return torch.cat([parameter.grad.flatten() for parameter in policy.model.parameters()]), record


def rows_of(batch: MicroBatch, known: KnownLogprobs, rows: torch.Tensor) -> tuple[MicroBatch, KnownLogprobs]:
    """Some responses of a micro-batch."""
    responses = [batch.responses[row] for row in rows.tolist()]
    tokens = pack_batch([r.prompt_tokens for r in responses], [r.tokens for r in responses], batch.tokens.mask.device)
    width = tokens.drawn.shape[1]
    tokens = dataclasses.replace(tokens, mask=batch.tokens.mask[rows, :width])
    of_tokens = (values[rows, :width] for values in (batch.advantages, batch.sampler_logprobs))
    return MicroBatch(responses, tokens, *of_tokens), KnownLogprobs(
        known.old[rows, :width], None if known.reference is None else known.reference[rows, :width]
    )
