"""Settings: the published defaults, and an error that names its field for each one out of range."""

from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any

import pytest

from losses import DAPO, FIPO, GRPO, LOSSES, LossSettingError

NAN, INF = float("nan"), float("inf")

# for every loss
SHARED: list[tuple[dict[str, Any], str]] = [
    ({"epsilon_low": 0.0}, "epsilon_low"),
    ({"epsilon_low": -0.2}, "epsilon_low"),
    ({"epsilon_low": 1.0}, "epsilon_low"),
    ({"epsilon_low": NAN}, "epsilon_low"),
    ({"epsilon_high": 0.0}, "epsilon_high"),
    ({"epsilon_high": -0.28}, "epsilon_high"),
    ({"epsilon_high": INF}, "epsilon_high"),
    ({"epsilon_high": NAN}, "epsilon_high"),
    ({"epsilon_high": 0.28, "delta": 1.0}, "delta"),
    ({"epsilon_high": 0.28, "delta": 1 + 0.28}, "delta"),
    ({"delta": 0.0}, "delta"),
    ({"delta": -10.0}, "delta"),
    ({"delta": INF}, "delta"),
    ({"delta": NAN}, "delta"),
    ({"beta": -0.01}, "beta"),
    ({"beta": INF}, "beta"),
    ({"beta": NAN}, "beta"),
    ({"log_ratio_clamp": 0.0}, "log_ratio_clamp"),
    ({"log_ratio_clamp": -20.0}, "log_ratio_clamp"),
    ({"log_ratio_clamp": NAN}, "log_ratio_clamp"),
]
OF_FIPO: list[tuple[dict[str, Any], str]] = [
    ({"decay_rate": 0.0}, "decay_rate"),
    ({"decay_rate": -1.0}, "decay_rate"),
    ({"decay_rate": INF}, "decay_rate"),
    ({"decay_rate": NAN}, "decay_rate"),
    ({"clip_range": -0.2}, "clip_range"),
    ({"clip_range": INF}, "clip_range"),
    ({"clip_range": NAN}, "clip_range"),
    ({"clip_range": 1.0, "clip_high_only": False}, "clip_range"),
    ({"clip_range": 1.5, "clip_high_only": False}, "clip_range"),
    ({"safety_threshold": 0.0}, "safety_threshold"),
    ({"safety_threshold": -4.0}, "safety_threshold"),
    ({"safety_threshold": NAN}, "safety_threshold"),
    ({"weight_bound": 0.5}, "weight_bound"),
    ({"weight_bound": -10.0}, "weight_bound"),
    ({"weight_bound": NAN}, "weight_bound"),
]
INVALID = [(loss, *case) for loss in (GRPO, DAPO, FIPO) for case in SHARED] + [(FIPO, *case) for case in OF_FIPO]


@pytest.mark.parametrize(("loss", "settings", "field"), INVALID)
def test_setting_out_of_range_is_refused(loss: type[GRPO], settings: dict[str, Any], field: str) -> None:
    with pytest.raises(LossSettingError) as caught:
        loss(**settings)
    assert caught.value.field == field
    # the message says what came; the field's name is the caller's to put before it
    assert str(caught.value).startswith("must ")
    assert f"got {settings[field]}" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_message_about_delta_names_the_bound() -> None:
    with pytest.raises(LossSettingError, match=r"exceed 1 \+ epsilon_high = 1\.28, got 1\.1"):
        DAPO(epsilon_high=0.28, delta=1.1)


VALID = [
    {"epsilon_low": 0.999, "epsilon_high": 5.0},
    {"epsilon_high": 0.28, "delta": 1.281},
    {"beta": 0.0},
    {"log_ratio_clamp": 0.5},
    {"decay_rate": 1e-3},
    {"decay_rate": 1e6},
    {"clip_range": None},
    {"clip_range": 0.0},
    {"clip_range": 1.5, "clip_high_only": True},
    {"clip_range": 0.99, "clip_high_only": False},
    {"safety_threshold": None},
    {"safety_threshold": 1e-3},
    {"weight_bound": 1.0},
    {"weight_bound": None},
]


@pytest.mark.parametrize("settings", VALID)
def test_setting_within_range_is_kept(settings: dict[str, Any]) -> None:
    kept = asdict(FIPO(**settings))
    assert {name: kept[name] for name in settings} == settings


def test_changed_copies_are_checked_too() -> None:
    with pytest.raises(LossSettingError):
        replace(FIPO(), decay_rate=0.0)


def test_losses_by_name_have_the_pages_defaults() -> None:
    shared = {"epsilon_low": 0.2, "epsilon_high": 0.2, "delta": None, "beta": 0.0, "log_ratio_clamp": None}
    page = {"decay_rate": 32.0, "clip_range": 0.2, "clip_high_only": True, "safety_threshold": 4.0}
    of_the_authors = {"filter_in_log_space": False, "weight_bound": None}
    assert {name: asdict(loss()) for name, loss in LOSSES.items()} == {
        "grpo": shared,
        "dapo": shared,
        "fipo": shared | page | of_the_authors,
    }


@pytest.mark.parametrize("name", LOSSES)
def test_settings_are_frozen_and_named(name: str) -> None:
    loss = LOSSES[name]()
    with pytest.raises(FrozenInstanceError):
        loss.delta = 10.0
    with pytest.raises(TypeError):
        LOSSES[name](0.2)
