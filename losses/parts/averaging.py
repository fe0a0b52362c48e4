"""Token weights, which turn the token losses of an optimizer step into a scalar."""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Averaging = Literal["token_mean", "sequence_mean", "constant", "sequence_sum"]
AVERAGING_MODES: tuple[Averaging, ...] = get_args(Averaging)


def mask_totals(mask: Bool[Tensor, "sequence token"]) -> Int[Tensor, "2"]:
    """[response tokens, responses with at least one token]. Summed over micro-batches and ranks: the step's totals."""
    return torch.stack([mask.sum(), mask.any(dim=1).sum()])


def token_weights(
    mask: Bool[Tensor, "sequence token"],
    mode: Averaging,
    max_response_tokens: int | None = None,
    totals: Int[Tensor, "2"] | None = None,
) -> Float[Tensor, "sequence token"]:
    """The weight of each token's loss, 0 where masked; `(token_loss * weights).sum()` is the step's loss.

        token_mean     1 / (all response tokens)                      DAPO eq. 12
        sequence_mean  1 / (responses x this response's tokens)       GRPO, DeepSeekMath eq. 3
        constant       1 / (responses x max_response_tokens)          Dr. GRPO
        sequence_sum   1 / responses                                  LUSPO (arXiv 2602.05261)

    `totals` is the sum of `mask_totals` over all micro-batches and ranks of the optimizer step; by default `mask` is
    the whole step. Splitting a step therefore cannot change its gradient (means per micro-batch can: verl issue 5625).
    The weights of a step sum to 1, or to 0 without tokens; under `constant` they sum to at most 1, under `sequence_sum`
    to the mean length. Responses without tokens are not counted. BNPO's averaging in TRL and ms-swift, the token mean
    of each micro-batch, is `token_mean` where a step is not split. Raises ValueError for invalid arguments.
    """
    if mode not in AVERAGING_MODES:
        raise ValueError(f"averaging must be one of {', '.join(AVERAGING_MODES)}, got {mode!r}")
    if mode == "constant" and not (max_response_tokens and max_response_tokens >= 1):
        raise ValueError(
            f"averaging 'constant' divides by max_response_tokens, got {max_response_tokens}: pass the response limit"
        )
    if totals is not None and totals.shape != (2,):
        raise ValueError(f"expected the sum of all mask_totals, got a tensor of shape {tuple(totals.shape)}")
    all_tokens, responses = (mask_totals(mask) if totals is None else totals).clamp(min=1)
    divisor = {
        "token_mean": all_tokens,
        "sequence_mean": responses * mask.sum(dim=1, keepdim=True).clamp(min=1),
        "constant": responses * (max_response_tokens or 1),
        "sequence_sum": responses,
    }
    weights: Tensor = mask.to(torch.float64 if mask.device.type == "cpu" else torch.float32) / divisor[mode]
    return weights
