"""What losses/ gives for a reference vector under the published page's semantics: ms-swift's, and TRL 1.16's."""

import torch
from torch import Tensor

from losses import DAPO, FIPO, influence_weights, token_weights
from tests.losses.agreement import Numbers
from tests.losses.published import golden


def averages(mask: Tensor) -> dict[str, Tensor]:
    """The weights per token of their averages, made of ours: theirs divide by all rows, ours by rows with tokens."""
    length = mask.shape[1]
    share_with_tokens = mask.any(dim=1).double().mean()
    token_mean = token_weights(mask, "token_mean")
    return {
        "fipo": token_mean,
        "dapo": token_mean,
        "bnpo": token_mean,
        "grpo": token_weights(mask, "sequence_mean") * share_with_tokens,
        "dr_grpo": token_weights(mask, "constant", length) * share_with_tokens,
    }


def dapo_numbers(vector: golden.Vector) -> Numbers:
    """The numbers of `swift_{grpo,dapo,bnpo,dr_grpo}` and `trl116_{grpo,dapo}`."""
    batch = golden.batch(vector)
    loss = DAPO(**golden.surrogate_settings(vector))(batch).token_loss
    weights = averages(batch.mask)
    numbers = {}
    for name in ("swift_grpo", "swift_dapo", "swift_bnpo", "swift_dr_grpo", "trl116_grpo", "trl116_dapo"):
        numbers |= golden.averaged(name, loss, weights[name.split("_", 1)[1]], batch)
        numbers[f"{name}__loss_mat"] = loss
    return numbers


def fipo_numbers(vector: golden.Vector) -> Numbers:
    """The numbers of `swift_fipo` and `ref`, under the vector's settings."""
    batch = golden.batch(vector)
    settings = golden.fipo_settings(vector)
    output = FIPO(**settings)(batch)
    per_token = {
        "loss_mat": output.token_loss,
        "influence": output.diagnostics["influence_weight"],
        "future_kl": output.diagnostics["future_kl"],
    }
    numbers = {f"ref__{name}": values for name, values in per_token.items()}
    for name, weights in averages(batch.mask).items():
        numbers |= golden.averaged(f"swift_fipo__agg_{name}", output.token_loss, weights, batch)
        numbers |= {f"swift_fipo__agg_{name}__{array}": values for array, values in per_token.items()}
    numbers["swift_fipo__agg_fipo__safety_mask"] = uncapped(batch, settings["safety_threshold"])
    return numbers


def uncapped(batch: golden.LossBatch, safety_threshold: float | None) -> Tensor:
    """True where the safety rule leaves the weight alone: seen by giving every token a weight of 2."""
    log_ratio = (batch.policy_logprobs - batch.old_logprobs).detach()
    doubled = torch.full_like(log_ratio, 2.0).log()
    weights = influence_weights(doubled, log_ratio.exp(), batch.advantages, (0.0, 4.0), safety_threshold)
    return weights > 1
