"""Small examples whose every number is worked out in a comment."""

import math
from dataclasses import replace

import pytest
import torch

from losses import DAPO, FIPO, GRPO, LossOutput, sequence_filter, token_weights
from losses.parts.surrogate import clip_diagnostics, clipped_surrogate
from tests.losses.agreement import agree
from tests.losses.drawn import response, tensor, with_gradient


def of_three_tokens(advantage: float, **settings: float | None) -> LossOutput:
    """FIPO with decay rate 1 on ratios 1, 2, 1/2; bounds 0.8 and 1.28.

    With L = log 2 the log-ratios are 0, L, -L and each step of the discount is 1/2:
        F_3 = -L,   F_2 = L - L/2 = L/2,   F_1 = 0 + (L/2)/2 = L/4
        exp(F) = 2^(1/4), 2^(1/2), 1/2 = 1.189, 1.414, 0.5
        f in [1, 1.2]: 2^(1/4), 1.2, 1
    """
    return FIPO(decay_rate=1.0, epsilon_high=0.28, **settings)(response(tensor(1.0, 2.0, 0.5), advantage))


def test_fipo_with_a_positive_advantage() -> None:
    # -f min(r, clip r):  -2^(1/4) min(1, 1);  -1.2 min(2, 1.28) = -1.536;  -1 min(0.5, 0.8) = -0.5
    output = of_three_tokens(1.0)
    assert agree(output.diagnostics["future_kl"], tensor(0.25, 0.5, -1.0) * math.log(2.0), "float64")
    assert agree(output.diagnostics["influence_weight"], tensor(2**0.25, 1.2, 1.0), "float64")
    assert output.diagnostics["influence_weight_at_low"].tolist() == [[0.0, 0.0, 1.0]]
    assert output.diagnostics["influence_weight_at_high"].tolist() == [[0.0, 1.0, 0.0]]
    assert agree(output.token_loss, tensor(-(2**0.25), -1.536, -0.5), "float64")
    scalar = (output.token_loss * token_weights(output.mask, "token_mean")).sum()
    assert agree(scalar, torch.tensor(-(2**0.25 + 2.036) / 3, dtype=torch.float64), "float64")


def test_fipo_with_a_negative_advantage() -> None:
    # f max(r, clip r):  2^(1/4);  1.2 max(2, 1.28) = 2.4;  1 max(0.5, 0.8) = 0.8
    assert agree(of_three_tokens(-1.0).token_loss, tensor(2**0.25, 2.4, 0.8), "float64")


def test_signed_weights_are_exp_of_the_future_kl_times_the_sign_of_the_advantage() -> None:
    settings: dict[str, float | None] = {"signed": True, "clip_range": 0.9, "clip_high_only": False}
    settings["safety_threshold"] = None
    future = of_three_tokens(1.0).diagnostics["future_kl"]
    for advantage, sign in ((2.0, 1.0), (-0.5, -1.0), (0.0, 0.0)):
        found = of_three_tokens(advantage, **settings).diagnostics
        assert agree(found["future_kl"], future, "float64")
        assert agree(found["influence_weight"], (sign * future).exp().clamp(0.1, 1.9), "float64")
    assert of_three_tokens(-1.0, **settings | {"clip_range": 0.1}).diagnostics["influence_weight_at_low"].any()


def test_fipo_with_the_safety_rule() -> None:
    # threshold 1.5: the second token (r = 2) is unsafe and its weight of 1.2 is cut to 1
    output = of_three_tokens(-1.0, safety_threshold=1.5)
    assert agree(output.token_loss, tensor(2**0.25, 2.0, 0.8), "float64")
    assert output.diagnostics["safety_fraction"].tolist() == [[False, True, False]]
    # it acts on negative advantages alone, strictly above the threshold, and not at all without one
    for others in (
        of_three_tokens(1.0, safety_threshold=1.5),
        of_three_tokens(0.0, safety_threshold=1.5),
        of_three_tokens(-1.0, safety_threshold=2.0),
        of_three_tokens(-1.0, safety_threshold=None),
    ):
        assert not others.diagnostics["safety_fraction"].any()


def test_weights_that_moved_are_those_further_than_a_thousandth_from_1() -> None:
    # decay 1: F_3 = log 1.002, F_2 = half of it, F_1 = log 1.0006 + a quarter of it; weights 1.0011, 1.0009995, 1.002
    output = FIPO(decay_rate=1.0)(response(tensor(1.0006, 1.0, 1.002), 1.0))
    assert output.diagnostics["influence_weight_moved"].tolist() == [[True, False, True]]
    below = FIPO(decay_rate=1.0, clip_high_only=False)(response(tensor(0.99), 1.0))
    assert below.diagnostics["influence_weight_moved"].tolist() == [[True]]


def test_fipo_with_delta() -> None:
    # delta 1.9 leaves the ratio of 2 out of the Future-KL: F = 0 - L/4, -L/2, -L; all weights are cut to 1.
    # The dual clip bounds the second token's loss of 2 at 1.9.
    output = of_three_tokens(-1.0, delta=1.9)
    assert agree(output.diagnostics["future_kl"], tensor(-0.25, -0.5, -1.0) * math.log(2.0), "float64")
    assert agree(output.token_loss, tensor(1.0, 1.9, 0.8), "float64")
    assert output.diagnostics["clip_fraction_dual"].tolist() == [[0.0, 1.0, 0.0]]


def test_fipo_without_a_clip_range() -> None:
    # weights are exp(F) themselves; the third one halves the loss of 0.8
    output = of_three_tokens(-1.0, clip_range=None)
    assert agree(output.token_loss, tensor(2**0.25, 2 * 2**0.5, 0.4), "float64")


def test_weight_equal_to_its_bound_is_not_counted_as_sitting_there() -> None:
    # an idle policy's weights are 1 of themselves, also where 1 is the bound
    idle = response(tensor(1.0, 1.0), 1.0)
    for settings in ({"clip_range": 0.2}, {"clip_range": None, "weight_bound": 1.0}):
        diagnostics = FIPO(**settings)(idle).diagnostics
        assert not diagnostics["influence_weight_at_low"].any()
        assert not diagnostics["influence_weight_at_high"].any()


@pytest.mark.parametrize("settings", [{}, {"delta": 3.0}])
def test_clip_fractions_count_the_tokens_without_gradient(settings: dict[str, float]) -> None:
    ratios = tensor(0.1, 0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 2.9, 3.1, 20.0)
    for sign in (-1.0, 1.0):
        output, gradient = with_gradient(DAPO(**settings), response(ratios, sign))
        stopped = sum(output.diagnostics[f"clip_fraction_{name}"] for name in ("low", "high", "dual"))
        assert ((gradient == 0) == (stopped == 1)).all()


def test_k3() -> None:
    # k3 = x - log x - 1 with x = pi_ref / pi = 1, 2, 1/2: 0;  1 - log 2;  log 2 - 1/2
    batch = response(tensor(1.0, 1.0, 1.0), 0.0)
    reference = batch.old_logprobs + tensor(1.0, 2.0, 0.5).log()
    output = GRPO(beta=0.5)(replace(batch, reference_logprobs=reference))
    expected = tensor(0.0, 1 - math.log(2.0), math.log(2.0) - 0.5)
    assert agree(output.diagnostics["kl_to_reference"], expected, "float64")
    assert agree(output.token_loss, expected / 2, "float64")


def test_beta_without_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="reference_logprobs"):
        GRPO(beta=0.1)(response(tensor(1.0), 1.0))


def test_sequence_filter_drops_responses_with_two_dual_clipped_tokens() -> None:
    # delta 10; dual-clipped is A < 0 and r > 10. Rows: two such; one; two, one of them masked; two, but A > 0
    log_ratio = torch.tensor([[3.0, 0.0, 3.0], [3.0, 0.0, 0.0], [3.0, 0.0, 3.0], [3.0, 0.0, 3.0]])
    advantages = torch.tensor([[-1.0], [-1.0], [-1.0], [1.0]]).expand(4, 3)
    mask = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    expected = mask & torch.tensor([[False], [True], [True], [True]])
    assert sequence_filter(log_ratio, advantages, mask, 10.0).tolist() == expected.tolist()


def test_sequence_filter_keeps_ratios_of_exactly_delta() -> None:
    log_ratio = torch.full((1, 2), 1.5, dtype=torch.float64)
    mask, delta = torch.ones(1, 2, dtype=torch.bool), log_ratio.exp()[0, 0].item()
    assert sequence_filter(log_ratio, -torch.ones_like(log_ratio), mask, delta).all()
    assert not sequence_filter(log_ratio, -torch.ones_like(log_ratio), mask, math.nextafter(delta, 0)).any()


@pytest.mark.parametrize("advantage", [-1.0, 1.0])
def test_nothing_is_counted_as_clipped_at_the_bounds_themselves(advantage: float) -> None:
    # bounds 1/2 and 3/2 are exact in binary and so are their ratios; delta is the third ratio, whatever its digits
    log_ratio = tensor(math.log(0.5), math.log(1.5), 1.5)
    low, high, delta = log_ratio.exp()[0].tolist()
    assert (low, high) == (0.5, 1.5)
    advantages = torch.full_like(log_ratio, advantage)
    counts = clip_diagnostics(log_ratio.exp(), advantages, 0.5, 0.5, delta)
    assert not counts["clip_fraction_low"].any()
    assert not counts["clip_fraction_dual"].any()
    assert counts["clip_fraction_high"].tolist() == [[0, 0, float(advantage > 0)]]
    # and the loss there is the same on either side of the bound
    expected = tensor(0.5, 1.5, delta) if advantage < 0 else tensor(-0.5, -1.5, -1.5)
    assert agree(clipped_surrogate(log_ratio.exp(), advantages, 0.5, 0.5, delta), expected, "exact")
