"""One optimizer step under a small policy: responses that can be reordered, padded and split, and their gradient."""

from dataclasses import dataclass, fields, replace
from functools import cache

import torch
from torch import Tensor

from losses import DAPO, FIPO, GRPO, LossBatch, mask_totals, sequence_filter, token_weights

# each loss, and whether responses with several dual-clipped tokens are dropped first
LOSSES: dict[str, tuple[GRPO, bool]] = {
    "grpo": (GRPO(beta=0.04), False),
    "dapo": (DAPO(epsilon_high=0.28, delta=3.0), False),
    "dapo filtered": (DAPO(epsilon_high=0.28, delta=3.0), True),
    "fipo of the page": (FIPO(clip_high_only=False), False),
    "fipo of the authors": (
        FIPO(epsilon_high=0.28, delta=3.0, log_ratio_clamp=20.0, filter_in_log_space=True, weight_bound=10.0),
        True,
    ),
    # a short half-life: a weight without bounds multiplies the rounding of its Future-KL by that Future-KL's size
    "fipo without bounds": (FIPO(clip_range=None, decay_rate=4.0), False),
}
RESPONSES, TOKENS, ACTIONS, FEATURES = 8, 150, 5, 3  # some longer than what is summed by one product, some not
EMPTY = (3, 7)  # responses without tokens
LIMIT = 160  # of response tokens


@dataclass(frozen=True)
class Step:
    """The responses' features and chosen actions, from which the policy makes log-probabilities, and the rest."""

    features: Tensor  # [response, token, feature]
    actions: Tensor  # [response, token]
    old_logprobs: Tensor
    reference_logprobs: Tensor
    advantages: Tensor
    mask: Tensor


@cache
def drawn_step(dtype: torch.dtype) -> tuple[Step, Tensor]:
    """The responses, and the policy's parameter: some ratios lie beyond each bound."""
    generator = torch.Generator().manual_seed(5)
    shape = (RESPONSES, TOKENS)
    features = torch.randn(*shape, FEATURES, generator=generator, dtype=torch.float64).to(dtype)
    parameter = torch.randn(FEATURES, ACTIONS, generator=generator, dtype=torch.float64).to(dtype)
    actions = torch.randint(ACTIONS, shape, generator=generator)
    policy = logprobs(features, actions, parameter)
    shifts = torch.randn(2, *shape, generator=generator, dtype=torch.float64).to(dtype)
    advantages = torch.randn(RESPONSES, 1, generator=generator, dtype=torch.float64).to(dtype).expand(shape)
    lengths = torch.randint(1, TOKENS + 1, (RESPONSES, 1), generator=generator)
    mask = (torch.arange(TOKENS) < lengths) & (torch.rand(shape, generator=generator) > 0.1)
    mask[list(EMPTY)] = False
    # half of the responses shift little, so that the sequence filter keeps some of those with A < 0
    size = torch.tensor([1.0, 0.3], dtype=dtype).repeat(RESPONSES // 2)[:, None]
    return Step(features, actions, policy - size * shifts[0], policy + 0.3 * shifts[1], advantages, mask), parameter


def logprobs(features: Tensor, actions: Tensor, parameter: Tensor) -> Tensor:
    """The policy's log-probabilities of the chosen actions."""
    return (features @ parameter).log_softmax(-1).gather(-1, actions[..., None]).squeeze(-1)


def responses(step: Step, chosen: list[int]) -> Step:
    """Some of the responses, in the given order, no wider than the longest of them."""
    mask = step.mask[chosen]
    width = int((mask.any(dim=0) * torch.arange(1, mask.shape[1] + 1)).max()) if mask.numel() else 0
    return Step(*(getattr(step, field.name)[chosen][:, :width] for field in fields(Step)))


def widened(step: Step, columns: int, padding: float) -> Step:
    """The step with more columns on the right, and the value wherever the mask is False."""
    wide = {}
    for field in fields(Step):
        values = getattr(step, field.name)
        more = values.new_zeros(values.shape[0], columns, *values.shape[2:])
        wide[field.name] = torch.cat([values, more], dim=1)
    padded = ("old_logprobs", "reference_logprobs", "advantages")
    return Step(**wide | {name: wide[name].masked_fill(~wide["mask"], padding) for name in padded})


def loss_and_gradient(parts: list[Step], parameter: Tensor, name: str, mode: str) -> tuple[Tensor, Tensor]:
    """The loss of a step and its gradient by the parameter; the parts are micro-batches."""
    loss, filtered = LOSSES[name]
    parameter = parameter.detach().requires_grad_()
    batches = [batch(part, parameter) for part in parts]
    if filtered:
        batches = [replace(each, mask=kept(each, loss.delta)) for each in batches]
    totals = torch.stack([mask_totals(each.mask) for each in batches]).sum(dim=0)
    losses = [(loss(each).token_loss * token_weights(each.mask, mode, LIMIT, totals)).sum() for each in batches]
    scalar = torch.stack(losses).sum()
    (gradient,) = torch.autograd.grad(scalar, parameter)
    return scalar.detach(), gradient


def batch(step: Step, parameter: Tensor) -> LossBatch:
    """What the losses take."""
    # at masked positions the policy holds what the old log-probabilities do, such as NaN
    policy = logprobs(step.features, step.actions, parameter).where(step.mask, step.old_logprobs)
    return LossBatch(policy, step.old_logprobs, step.advantages, step.mask, step.reference_logprobs)


def kept(each: LossBatch, delta: float) -> Tensor:
    """The mask without the responses that the sequence filter drops."""
    log_ratio = (each.policy_logprobs - each.old_logprobs).detach()
    return sequence_filter(log_ratio, each.advantages, each.mask, delta)
