"""The rival losses are the numbers that published implementations gave (tests/golden/rivals)."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from losses import LOSSES, LossBatch
from losses.policy_loss import PolicyLoss
from tests.losses.published import golden

VECTORS = [f"rivals/{path.stem}" for path in sorted((golden.GOLDEN / "rivals").glob("*.npz"))]
TOLERANCE = 1e-9
Settings = dict[str, Any]


def taken(*names: str, **others: Any) -> Callable[[Settings], Settings]:
    return lambda settings: {name: settings[name] for name in names} | others


THRESHOLDS = ("threshold_low", "threshold_high", "ratio_max")
CLIP = ("epsilon_low", "epsilon_high")
OURS: dict[str, tuple[str, Callable[[Settings], Settings]]] = {
    "dr_grpo": ("grpo", taken(*CLIP, "delta")),
    "bnpo": ("grpo", taken(*CLIP, "delta")),
    "gspo": ("gspo", taken(*CLIP)),
    "gspo_token": ("gspo", taken(*CLIP, token_level=True)),
    "luspo": ("gspo", taken(*CLIP)),
    "cispo": ("cispo", lambda s: {"ratio_max": s["ratio_max"] or 1e30, "ratio_min": s["ratio_min"] or 0.0}),
    "sapo": ("sapo", taken("tau_positive", "tau_negative")),
    "dppo_tv": ("dppo", taken(*THRESHOLDS, divergence="tv")),
    "dppo_kl": ("dppo", taken(*THRESHOLDS, divergence="kl")),
    "gmpo": ("gmpo", taken("log_clip_low", "log_clip_high")),
    "reinforce": ("reinforce", taken()),
    "vespo": ("vespo", taken("k_positive", "lambda_positive", "k_negative", "lambda_negative")),
}


def records(name: str) -> list[dict[str, Any]]:
    return [one for one in json.loads(golden.load(name)["cfg__records"]) if one["loss"] in OURS]


def weights(name: str, mask: Tensor, limit: int | None) -> Tensor:
    """The average that the implementation took, written out once more."""
    tokens = mask.double().sum(dim=1, keepdim=True)
    rows, filled, width = len(mask), max(1, int((tokens > 0).sum())), mask.shape[1]
    divisors = {
        "token_mean": tokens.sum().clamp(min=1),
        "sequence_mean_all": tokens.clamp(min=1) * rows,
        "sequence_mean_nonempty": tokens.clamp(min=1) * filled,
        "constant_all": rows * (limit or 1),
        "constant_nonempty": filled * (limit or 1),
        "width_nonempty": filled * width,
        "token_sum_all": rows,
        "token_sum_nonempty": filled,
    }
    return mask.double() / divisors[name]


def ours(loss: PolicyLoss, vector: dict[str, Any], record: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Token losses and gradient, NaN wherever the mask is False."""
    mask = vector["in__mask"]
    policy, old, advantages = (
        vector[f"in__{name}"].masked_fill(~mask, torch.nan) for name in ("logps", "old_logps", "advantages_tok")
    )
    policy.requires_grad_()
    output = loss(LossBatch(policy, old, advantages, mask))
    average = weights(record["weights"], mask, record["neutral"].get("max_response_tokens"))
    (gradient,) = torch.autograd.grad((output.token_loss * average).sum(), policy)
    assert not gradient[~mask].any()
    return output.token_loss.detach(), gradient


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("file", VECTORS)
def test_a_rival_is_what_its_implementations_computed(file: str, name: str) -> None:
    vector, compared = golden.load(file), 0
    for record in records(file):
        if record["loss"] != name:
            continue
        kind, settings = OURS[name]
        token_loss, gradient = ours(LOSSES[kind](**settings(record["neutral"])), vector, record)
        departs = vector.get(f"{record['stem']}__departs")  # tokens where the implementation leaves its formula
        kept = vector["in__mask"] if departs is None else vector["in__mask"] & ~departs
        theirs = vector[f"{record['key']}__grad"]
        assert torch.allclose(gradient[kept], theirs[kept], rtol=TOLERANCE, atol=TOLERANCE * 1e-3), record["key"]
        theirs = vector[f"{record['stem']}__loss_mat"]
        assert torch.allclose(token_loss[kept], theirs[kept], rtol=TOLERANCE, atol=TOLERANCE), record["key"]
        compared += 1
    assert compared
