"""What losses/ gives for a reference vector under the authors' semantics: their code's, the TRL PR's, and slime's."""

from torch import Tensor

from losses import DAPO, FIPO, sequence_filter, token_weights
from tests.losses.agreement import Numbers
from tests.losses.published import golden

SETTINGS = {"log_ratio_clamp": 20.0, "filter_in_log_space": True, "weight_bound": 10.0}
DENOMINATOR_EPSILON = 1e-8  # verl's masked mean divides by n + 1e-8


def averages(mask: Tensor) -> dict[str, Tensor]:
    """The weights per token of verl's `agg_loss` modes, made of ours: verl divides by all rows or by none."""
    length = mask.shape[1]
    has_tokens = mask.any(dim=1).double()
    tokens = mask.sum().double()
    return {
        "token_mean": token_weights(mask, "token_mean") * tokens / (tokens + DENOMINATOR_EPSILON),
        "seq_mean_token_mean": token_weights(mask, "sequence_mean"),
        "seq_mean_token_sum": token_weights(mask, "constant", 1) * has_tokens.mean(),
        "seq_mean_token_sum_norm": token_weights(mask, "constant", length) * has_tokens.sum(),
    }


def slime_averages(mask: Tensor) -> dict[str, Tensor]:
    """The weights per token of slime's averages, made of ours: slime counts an empty row as a row, of one token."""
    tokens = mask.sum(dim=1).double()
    return {
        "sample_mean": token_weights(mask, "sequence_mean") * (tokens > 0).double().mean(),
        "token_mean": token_weights(mask, "token_mean") * tokens.sum() / tokens.clamp(min=1).sum(),
    }


def kept_by_filter(vector: golden.Vector) -> Tensor:
    """The vector's mask without the responses that the authors' sequence filter drops."""
    batch, delta = golden.batch(vector), golden.setting(vector, "delta")
    log_ratio = (batch.policy_logprobs - batch.old_logprobs).detach()
    return batch.mask if delta is None else sequence_filter(log_ratio, batch.advantages, batch.mask, delta)


def fipo_numbers(vector: golden.Vector) -> Numbers:
    """The numbers of `official_fipo` and `trlpr_fipo`, under the authors' settings."""
    kept = kept_by_filter(vector)
    fipo = FIPO(**golden.fipo_settings(vector) | SETTINGS)
    unfiltered, batch = fipo(golden.batch(vector)), golden.batch(vector, kept)
    loss = fipo(batch).token_loss
    per_token = {
        "loss_mat": unfiltered.token_loss,
        "influence": unfiltered.diagnostics["influence_weight"],
        "exp_future_kl": unfiltered.diagnostics["future_kl"].exp(),
        "loss_mask": kept,
    }
    weights = {f"official_fipo__{name}": values for name, values in averages(kept).items()}
    weights["trlpr_fipo__local_token_mean"] = token_weights(kept, "token_mean")
    numbers = {}
    for name, values in weights.items():
        numbers |= golden.averaged(name, loss, values, batch)
        numbers |= {f"{name}__{array}": tokens for array, tokens in per_token.items()}
    return numbers


def slime_numbers(vector: golden.Vector) -> Numbers:
    """The numbers of `slime_fipo`: the authors' settings without their sequence filter, which slime's never applies."""
    batch = golden.batch(vector)
    loss = FIPO(**golden.fipo_settings(vector) | SETTINGS)(batch).token_loss
    numbers = {"slime_fipo__sample_mean__loss_mat_masked": loss}
    for name, weights in slime_averages(batch.mask).items():
        numbers |= golden.averaged(f"slime_fipo__{name}", loss, weights, batch)
    return numbers


def dapo_numbers(vector: golden.Vector) -> Numbers:
    """The numbers of `official_vanilla`, and its metrics."""
    batch = golden.batch(vector)
    output = DAPO(**golden.surrogate_settings(vector), log_ratio_clamp=SETTINGS["log_ratio_clamp"])(batch)
    numbers = {}
    for name in ("token_mean", "seq_mean_token_mean"):
        numbers |= golden.averaged(f"official_vanilla__{name}", output.token_loss, averages(batch.mask)[name], batch)
        numbers[f"official_vanilla__{name}__loss_mat"] = output.token_loss
    # their clip fraction counts either bound in one number
    metric = {name: total / (count.double() + DENOMINATOR_EPSILON) for name, (total, count) in output.metrics.items()}
    metrics = {
        "clipfrac": metric["clip_fraction_low"] + metric["clip_fraction_high"],
        "clipfrac_lower": metric["clip_fraction_dual"],
        "ppo_kl": metric["kl_to_old"],
    }
    return numbers | {f"official_vanilla__token_mean__{name}": value for name, value in metrics.items()}
