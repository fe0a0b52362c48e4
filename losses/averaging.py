"""How token losses become one number: weights per token, from the whole optimizer step's mask."""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Averaging = Literal["token_mean", "sequence_mean", "constant"]
AVERAGING_MODES: tuple[Averaging, ...] = get_args(Averaging)


def token_weights(
    mask: Bool[Tensor, "sequence token"], mode: Averaging, max_response_tokens: int | None = None
) -> Float[Tensor, "sequence token"]:
    """The weight of each token's loss; `(token_loss * weights).sum()` is the step's loss.

        token_mean     1 / (all response tokens)                      DAPO eq. 12
        sequence_mean  1 / (responses x this response's tokens)       GRPO, DeepSeekMath eq. 3
        constant       1 / (responses x max_response_tokens)          Dr. GRPO

    `mask` must be that of the whole optimizer step, all micro-batches and ranks together: then how the step is split
    cannot change its gradient (per-micro-batch means, as in verl, do: its issue 5625). The weights sum to 1, or to 0
    without tokens; `constant` alone sums to less. Responses without tokens do not count as responses.
    """
    real = torch.float64 if mask.device.type == "cpu" else torch.float32
    tokens = mask.sum(dim=1, keepdim=True)
    responses = (tokens > 0).sum().clamp(min=1)
    if mode == "token_mean":
        weights = mask.to(real) / tokens.sum().clamp(min=1)
    elif mode == "sequence_mean":
        weights = mask.to(real) / (tokens.clamp(min=1) * responses)
    elif mode == "constant":
        if max_response_tokens is None:
            raise ValueError("averaging 'constant' divides by max_response_tokens, got None: pass the response limit")
        weights = mask.to(real) / (responses * max_response_tokens)
    else:
        raise ValueError(f"averaging must be one of {', '.join(AVERAGING_MODES)}, got {mode!r}")
    return weights
