"""Settings: the published defaults, and an error that names its field for each one out of range."""

from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any

import pytest

from losses import CISPO, DAPO, DPPO, FIPO, GMPO, GRPO, GSPO, LOSSES, SAPO, VESPO, LossSettingError
from losses.policy_loss import PolicyLoss

NAN, INF = float("nan"), float("inf")

NOT_POSITIVE = (0.0, -0.2, INF, NAN)
SHARED: dict[str, tuple[Any, ...]] = {"beta": (-0.01, INF, NAN), "log_ratio_clamp": (0.0, -20.0, NAN)}
CLIP: dict[str, tuple[Any, ...]] = {"epsilon_low": (0.0, -0.2, 1.0, NAN), "epsilon_high": NOT_POSITIVE}
OF_GRPO = SHARED | CLIP | {"delta": (0.0, -10.0, 1.0, 1 + 0.2, INF, NAN)}  # whose epsilon_high is 0.2
OF_FIPO = {
    "decay_rate": (0.0, -1.0, INF, NAN),
    "clip_range": (-0.2, INF, NAN),
    "safety_threshold": (0.0, -4.0, NAN),
    "weight_bound": (0.5, -10.0, NAN),
}
RANGES: dict[type[PolicyLoss], dict[str, tuple[Any, ...]]] = {
    GRPO: OF_GRPO,
    DAPO: OF_GRPO,
    FIPO: OF_GRPO | OF_FIPO,
    GSPO: SHARED | CLIP,
    CISPO: {"ratio_max": NOT_POSITIVE, "ratio_min": (-0.1, 5.1, NAN)},
    SAPO: {"tau_positive": NOT_POSITIVE, "tau_negative": NOT_POSITIVE},
    DPPO: {**dict.fromkeys(("threshold_high", "threshold_low", "ratio_max"), NOT_POSITIVE)},
    GMPO: {"log_clip_low": NOT_POSITIVE, "log_clip_high": NOT_POSITIVE},
    VESPO: {f"{name}_{sign}": NOT_POSITIVE for name in ("k", "lambda") for sign in ("positive", "negative")},
}
INVALID: list[tuple[type[PolicyLoss], dict[str, Any]]] = [
    (loss, {field: value}) for loss, ranges in RANGES.items() for field, values in ranges.items() for value in values
] + [(FIPO, {"clip_range": value, "clip_high_only": False}) for value in (1.0, 1.5)]
VALID: list[dict[str, Any]] = [
    {"epsilon_low": 0.999, "epsilon_high": 5.0, "beta": 0.0, "log_ratio_clamp": 0.5, "decay_rate": 1e-3},
    {"epsilon_high": 0.28, "delta": 1.281, "decay_rate": 1e6, "clip_range": None, "safety_threshold": None},
    {"clip_range": 0.0, "safety_threshold": 1e-3, "weight_bound": 1.0},
    {"clip_range": 1.5, "clip_high_only": True, "weight_bound": None},
    {"clip_range": 0.99, "clip_high_only": False},
]


@pytest.mark.parametrize(("loss", "settings"), INVALID)
def test_setting_out_of_range_is_refused(loss: type[PolicyLoss], settings: dict[str, Any]) -> None:
    with pytest.raises(LossSettingError) as caught:
        loss(**settings)
    field = next(iter(settings))
    assert caught.value.field == field
    # the message says what came; the field's name is the caller's to put before it
    assert str(caught.value).startswith("must ")
    assert f"got {settings[field]}" in str(caught.value).replace("'", "")
    assert isinstance(caught.value, ValueError)


def test_message_about_delta_names_the_bound() -> None:
    with pytest.raises(LossSettingError, match=r"exceed 1 \+ epsilon_high = 1\.28, got 1\.1"):
        DAPO(epsilon_high=0.28, delta=1.1)


@pytest.mark.parametrize("settings", VALID)
def test_setting_within_range_is_kept(settings: dict[str, Any]) -> None:
    kept = asdict(FIPO(**settings))
    assert {name: kept[name] for name in settings} == settings


def test_losses_by_name_have_the_published_defaults() -> None:
    common = {"beta": 0.0, "log_ratio_clamp": None}
    shared = common | {"epsilon_low": 0.2, "epsilon_high": 0.2, "delta": None}
    page = {"decay_rate": 32.0, "clip_range": 0.2, "clip_high_only": True, "safety_threshold": 4.0}
    of_the_authors = {"filter_in_log_space": False, "signed": False, "weight_bound": None}
    assert {name: asdict(loss()) for name, loss in LOSSES.items()} == {
        "grpo": shared,
        "dapo": shared,
        "fipo": shared | page | of_the_authors,
        "gspo": common | {"epsilon_low": 3e-4, "epsilon_high": 4e-4, "token_level": False},
        "cispo": common | {"ratio_max": 5.0, "ratio_min": 0.0},
        "sapo": common | {"tau_positive": 1.0, "tau_negative": 1.05},
        "dppo": common | {"divergence": "tv", "threshold_high": None, "threshold_low": None, "ratio_max": 1e4},
        "gmpo": common | {"log_clip_low": 0.4, "log_clip_high": 0.4},
        "reinforce": common,
        "vespo": common | {"k_positive": 2.0, "lambda_positive": 3.0, "k_negative": 3.0, "lambda_negative": 2.0},
    }


@pytest.mark.parametrize("name", LOSSES)
def test_settings_are_frozen_and_named_and_copies_are_checked_too(name: str) -> None:
    loss = LOSSES[name]()
    with pytest.raises(FrozenInstanceError):
        loss.delta = 10.0
    first = next(iter(vars(LOSSES[name]).get("__annotations__", {})), "beta")
    with pytest.raises(TypeError, match="positional"):
        LOSSES[name](getattr(loss, first))
    with pytest.raises(LossSettingError):
        replace(loss, beta=-1.0)
