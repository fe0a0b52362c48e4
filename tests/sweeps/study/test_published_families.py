"""Families whose arms bring presets of their own: the published comparisons, as they were and on one scaffold."""

import pytest

from harness import UsageError
from sweeps.comparison import preset_of
from sweeps.study.arms import arms_of, check_differences, differences_between, load_family


@pytest.mark.parametrize("name", ["recipe-32b", "recipe-7b", "controlled-32b", "controlled-7b"])
def test_published_families_differ_as_they_say(name: str) -> None:
    family = load_family(name)
    arms = arms_of(family, dict.fromkeys([*family.arms, *family.controls], 1), "demo", {})
    found = differences_between(arms, family)
    check_differences(found, family)
    confounds = {one.field for one in found if not one.allowed}
    assert bool(confounds) == name.startswith("recipe")
    assert "minibatches" in confounds or name.startswith("controlled")
    assert {arm.any_config.model.model for arm in arms} == {
        "Qwen/Qwen2.5-32B" if "32b" in name else "Qwen/Qwen2.5-Math-7B"
    }


def test_flags_go_to_all_arms_over_their_presets() -> None:
    arms = arms_of(load_family("controlled-7b"), {"dapo": 2, "fipo": 2}, "demo", {"steps": "7"})
    assert {(config.run.steps, config.run.seed) for arm in arms for config in arm.configs.values()} == {(7, 0), (7, 1)}
    assert {arm.any_config.rollout.group_size for arm in arms} == {32}


def test_a_preset_that_no_arm_would_take_is_refused() -> None:
    assert preset_of(load_family("controlled-7b"), "demo") == "each arm's own"
    assert preset_of(load_family("controlled"), "recipe/fipo-7b") == "recipe/fipo-7b"
    with pytest.raises(UsageError, match=r"--preset one-gpu/fipo-0\.5b: expected none with --family controlled-7b"):
        preset_of(load_family("controlled-7b"), "one-gpu/fipo-0.5b")
