"""Batches and settings that several files of tests share: small drawn ones, the same in every run, and by hand."""

from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from losses import CISPO, DAPO, FIPO, GRPO, GSPO, LOSSES, LossBatch, LossOutput, token_weights
from losses.policy_loss import PolicyLoss

EVERY_LOSS: list[PolicyLoss] = [
    GRPO(beta=0.04),
    DAPO(epsilon_high=0.28, delta=10.0, beta=0.04, log_ratio_clamp=20.0),
    FIPO(beta=0.04),
    FIPO(beta=0.04, delta=10.0, clip_range=None, filter_in_log_space=True, weight_bound=10.0),
    GSPO(token_level=True),
    CISPO(ratio_min=0.9, ratio_max=0.95),
    *(loss(beta=0.04) for name, loss in LOSSES.items() if name not in ("grpo", "dapo", "fipo")),
]
deterministic = settings(derandomize=True, deadline=None, max_examples=40, database=None)


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers of a few binary digits: none so small that products lose digits for which no formula is to blame."""
    return st.integers(round(low * 64), round(high * 64)).map(lambda count: count / 64)


def tensors(rows: int, tokens: int, values: st.SearchStrategy[Any], dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    """Tensors of one shape with entries from the strategy."""
    row = st.lists(values, min_size=tokens, max_size=tokens)
    return st.lists(row, min_size=rows, max_size=rows).map(lambda drawn: torch.tensor(drawn, dtype=dtype))


@st.composite
def batches(draw: st.DrawFn, dtype: torch.dtype = torch.float64) -> LossBatch:
    """Batches of one to three responses; ratios reach past every bound, masks have holes and empty rows."""
    rows, length = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    old, log_ratio, reference, advantages = (
        draw(tensors(rows, length, numbers(low, high), dtype))
        for low, high in ((-4.0, 0.0), (-3.0, 3.0), (-4.0, 0.0), (-2.0, 2.0))
    )
    mask = draw(tensors(rows, length, st.booleans(), torch.bool))
    return LossBatch((old + log_ratio).requires_grad_(), old, advantages, mask, reference)


def tensor(*values: float) -> Tensor:
    """One response's numbers."""
    return torch.tensor([values], dtype=torch.float64)


def response(ratios: Tensor, advantages: Tensor | float, old: float = -1.0) -> LossBatch:
    """A response of tokens with these ratios, all of which had the old log-probability."""
    before = torch.full_like(ratios, old)
    policy = (before + ratios.log()).requires_grad_()
    return LossBatch(policy, before, torch.zeros_like(ratios) + advantages, torch.ones_like(ratios).bool())


def with_gradient(loss: PolicyLoss, batch: LossBatch, mode: Any = "token_mean") -> tuple[LossOutput, Tensor]:
    """What the loss gives, and the gradient of its average."""
    output = loss(batch)
    scalar = (output.token_loss * token_weights(batch.mask, mode, 6)).sum()
    return output, torch.autograd.grad(scalar, batch.policy_logprobs)[0]
