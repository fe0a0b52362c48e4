"""Rival losses on numbers worked by hand: values at ratio 1, and what their diagnostics count, the bounds included."""

import math

import pytest
import torch
from torch import Tensor

from losses import CISPO, DPPO, GMPO, GSPO, VESPO, LossOutput
from losses.policy_loss import PolicyLoss, Terms
from tests.losses.agreement import agree
from tests.losses.drawn import response, tensor


def output(loss: PolicyLoss, ratios: Tensor, advantages: Tensor, old: float = -3.0) -> LossOutput:
    return loss(response(ratios, advantages, old))


def test_gspo_clips_the_mean_of_the_log_ratios() -> None:
    found = output(GSPO(epsilon_low=0.5, epsilon_high=0.5), tensor(4, 1), tensor(1, 1))  # s = 2
    assert agree(found.token_loss, tensor(-1.5, -1.5), "float64")
    assert found.diagnostics["clip_fraction_high"].tolist() == [[True, True]]


def test_cispo_counts_weights_that_a_bound_cuts() -> None:
    found = output(CISPO(ratio_min=0.5, ratio_max=2.0), tensor(0.25, 0.5, 2.0, 4.0), tensor(1, 1, 1, 1), old=0.0)
    assert found.diagnostics["weight_at_min"].tolist() == [[True, False, False, False]]
    assert found.diagnostics["weight_at_max"].tolist() == [[False, False, False, True]]
    logs = [math.log(ratio) for ratio in (0.25, 0.5, 2.0, 4.0)]
    expected = [-weight * value for weight, value in zip((0.5, 0.5, 2.0, 2.0), logs, strict=True)]
    assert agree(found.token_loss, tensor(*expected), "float64")
    assert CISPO(ratio_min=2.0, ratio_max=2.0).ratio_min == 2.0


@pytest.mark.parametrize(
    ("divergence", "distance"), [("tv", 0.25), ("kl", 0.25 * math.log(0.5) + 0.75 * math.log(1.5))]
)
def test_dppo_stops_a_token_beyond_the_threshold_in_its_direction(divergence: str, distance: float) -> None:
    for threshold, stopped in ((distance * 0.99, True), (distance * 1.01, False)):
        loss = DPPO(divergence=divergence, threshold_high=threshold, threshold_low=threshold)
        found = output(loss, tensor(2, 2), tensor(1, -1), old=math.log(0.25)).diagnostics  # q = 1/4, p = 1/2
        assert found["clip_fraction_high"].tolist() == [[stopped, False]]
        assert not found["clip_fraction_low"].any()
    down = output(DPPO(threshold_low=0.2, threshold_high=9.0), tensor(0.5, 0.5), tensor(1, -1), old=math.log(0.5))
    assert down.diagnostics["clip_fraction_low"].tolist() == [[False, True]]


@pytest.mark.parametrize(("divergence", "below"), [("tv", 0.64), ("kl", 0.65)])  # |p - 1/2| = .14; KL = .047
def test_dppos_default_thresholds_are_those_of_the_authors(divergence: str, below: float) -> None:
    for p, stopped in ((below, False), (0.66, True)):  # .16; .054
        found = output(
            DPPO(divergence=divergence), tensor(2 * p, 2 - 2 * p), tensor(1, -1), old=math.log(0.5)
        ).diagnostics
        assert found["clip_fraction_high"].tolist() == [[stopped, False]]
        assert found["clip_fraction_low"].tolist() == [[False, stopped]]


def test_dppo_stops_nothing_at_the_threshold_itself_or_without_an_advantage() -> None:
    for threshold, stopped in ((0.5, False), (0.49, True)):
        loss = DPPO(threshold_high=threshold, threshold_low=threshold)
        up = output(loss, tensor(2, 2), tensor(1, 0), old=math.log(0.5)).diagnostics  # from 1/2 to 1
        down = output(loss, tensor(0.5, 0.5), tensor(-1, 0), old=0.0).diagnostics  # from 1 to 1/2
        assert up["clip_fraction_high"].tolist() == down["clip_fraction_low"].tolist() == [[stopped, False]]


def test_dppo_cuts_the_weight_and_measures_certain_tokens_exactly() -> None:
    found = output(DPPO(ratio_max=2.0), tensor(3.0), tensor(1.0), old=math.log(0.01)).token_loss
    assert agree(found, tensor(-2.0 * math.log(0.03)), "float64")
    certain = output(DPPO(divergence="kl"), tensor(1 / 0.9, 1 / 0.9), tensor(1, -1), old=math.log(0.9))
    assert certain.diagnostics["clip_fraction_high"].tolist() == [[True, False]]  # p = 1: an infinite divergence
    from_certain = output(DPPO(divergence="kl"), tensor(0.99, 0.9), tensor(-1, -1), old=0.0)  # q = 1: -log p
    assert from_certain.diagnostics["clip_fraction_low"].tolist() == [[False, True]]
    same = output(DPPO(divergence="kl", threshold_high=1e-9), tensor(1.0), tensor(1.0), old=0.0)
    assert not same.diagnostics["clip_fraction_high"].any()


def test_gmpo_clips_each_token_before_the_mean_and_on_one_side() -> None:
    bound = math.log(2)
    loss = GMPO(log_clip_low=bound, log_clip_high=bound)
    found = output(loss, tensor(4, 0.25), tensor(1, 1))  # l' = log 2, log 1/4: exp of the mean is 2^-0.5
    assert agree(found.token_loss, tensor(-(2**-0.5), -(2**-0.5)), "float64")
    assert found.diagnostics["clip_fraction_high"].tolist() == [[True, False]]
    found = output(loss, tensor(4, 0.25), tensor(-1, -1))  # l' = log 4, log 1/2
    assert agree(found.token_loss, tensor(2**0.5, 2**0.5), "float64")
    assert found.diagnostics["clip_fraction_low"].tolist() == [[False, True]]
    at_bound = output(loss, tensor(2, 0.5), tensor(1, -1), old=0.0).diagnostics
    assert not any(at_bound[name].any() for name in ("clip_fraction_low", "clip_fraction_high"))


def test_gmpos_sides_are_those_of_the_advantages_sign_however_small() -> None:
    loss = GMPO(log_clip_low=math.log(2), log_clip_high=math.log(2))
    found = output(loss, tensor(4, 0.25), tensor(0.5, 0.5))
    assert agree(found.token_loss, tensor(-(2**-1.5), -(2**-1.5)), "float64")
    without = output(loss, tensor(4, 0.25), tensor(0, 0)).diagnostics
    assert not without["clip_fraction_high"].any()
    assert not without["clip_fraction_low"].any()


def test_vespo_weights_the_whole_response() -> None:
    found = output(VESPO(), tensor(2, 2), tensor(1, -1), old=-1.0)  # W = 4
    phis = [4**k * math.exp(rate * (1 - 4)) for k, rate in ((2.0, 3.0), (3.0, 2.0))]
    assert agree(found.diagnostics["response_weight"], tensor(*phis), "float64")
    assert agree(
        found.token_loss, tensor(*(-s * p * (math.log(2) - 1) for s, p in zip((1, -1), phis, strict=True))), "float64"
    )
    assert agree(
        output(VESPO(), tensor(2.0), tensor(0.0)).diagnostics["response_weight"], tensor(4 * math.exp(-3)), "float64"
    )


def test_vespo_cuts_the_responses_weight_at_1e_minus_8() -> None:
    found = output(VESPO(), tensor(1e-6, 1e-6), tensor(1, 1)).diagnostics["response_weight"]  # W = 1e-12
    phi = 1e-16 * math.exp(3 * (1 - 1e-8))
    assert torch.allclose(found, tensor(phi, phi), rtol=1e-9, atol=0)


def test_the_mean_over_a_response_is_of_its_tokens_and_0_without_any() -> None:
    assert agree(output(GSPO(epsilon_high=9.0), tensor(2.0), tensor(1.0)).token_loss, tensor(-2.0), "float64")
    values, mask = torch.tensor([[3.0, 5.0], [7.0, 0.0], [0.0, 0.0]]), torch.tensor([[1, 1], [1, 0], [0, 0]]).bool()
    terms = Terms(values, values, values, values, mask, None)
    assert terms.response_mean(values).tolist() == [[4.0], [7.0], [0.0]]
