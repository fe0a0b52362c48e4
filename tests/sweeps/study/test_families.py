from pathlib import Path

import pytest

from harness import UsageError, flatten, tree_of
from sweeps import Family, arms_of, check_differences, differences_between, load_family
from sweeps.comparison import preset_of
from sweeps.study.arms import FAMILIES
from sweeps.study.claims import claims_file
from tests.sweeps.family_files import ARMS, HEAD, written

NAMES = sorted(path.stem for path in FAMILIES.glob("*.toml"))


@pytest.mark.parametrize("name", NAMES)
def test_shipped_families_load_and_all_their_arms_resolve(name: str) -> None:
    family = load_family(name)
    arms = arms_of(family, dict.fromkeys([*family.arms, *family.controls], 2), "demo", {})
    built_in = {"grpo", "dapo", "fipo", "blame", "random_reward"}  # the published ones have presets of their own
    assert (built_in if all("preset" not in arm for arm in family.arms.values()) else {"dapo", "fipo"}) <= {
        arm.name for arm in arms
    }
    assert {arm.name for arm in arms} == {*family.arms, *family.controls}
    for arm in arms:
        assert list(arm.configs) == [0, 1]
        assert [config.run.seed for config in arm.configs.values()] == [0, 1]
    check_differences(differences_between(arms, family), family)
    assert claims_file(family.claims).is_file()


def test_controlled_arms_differ_only_in_what_makes_the_loss() -> None:
    family = load_family("controlled")
    names = ["grpo", "dapo", "fipo", "blame", "random_reward"]
    differences = differences_between(arms_of(family, dict.fromkeys(names, 1), "demo", {}), family)
    assert all(difference.allowed for difference in differences)
    shared = {difference.field for difference in differences if not difference.field.startswith("fipo_")}
    assert shared == {"loss_type", "averaging", "epsilon_high", "control"}
    values = {difference.field: difference.values for difference in differences}
    assert values["control"] == {**dict.fromkeys(names, "none"), "blame": "blame", "random_reward": "random_reward"}
    assert values["averaging"] == {**dict.fromkeys(names, "token_mean"), "grpo": "sequence_mean"}


RUNGS = ["grpo", "token_mean", "clip_higher", "dynamic_sampling", "dapo", "fipo"]
SWITCHES = ["averaging", "epsilon_high", "dynamic_sampling", "overlong_buffer", "loss_type"]
VARIANTS = {
    "fipo_no_filter": "delta",
    "fipo_two_sided": "fipo_clip_high_only",
    "fipo_no_safety": "fipo_safety_threshold",
    "unit_weights": "fipo_clip_range",
}
PLANTED = [("blame", "dapo", "control"), ("random_reward", "dapo", "control")]
STEPS = [
    *(("ladder", *step) for step in zip(RUNGS[1:], RUNGS, SWITCHES, strict=False)),
    *(("ladder", name, "fipo", field) for name, field in VARIANTS.items()),
    *((family, *step) for family in ("ladder", "controlled") for step in PLANTED),
]


@pytest.mark.parametrize(("family", "arm", "like", "switch"), STEPS)
def test_each_rung_and_control_differs_from_its_model_in_one_field(
    family: str, arm: str, like: str, switch: str
) -> None:
    # of all fields of the resolved settings, those of other losses included
    configs = [arm.any_config for arm in arms_of(load_family(family), {arm: 1, like: 1}, "demo", {})]
    ours, theirs = (flatten(tree_of(config)) for config in configs)
    assert [field for field in ours if ours[field] != theirs[field]] == [switch]


def test_recipes_report_the_other_differences_as_confounds() -> None:
    family = load_family("recipe")
    differences = differences_between(arms_of(family, {"grpo": 1, "dapo": 1, "fipo": 1}, "demo", {}), family)
    confounds = {difference.field for difference in differences if not difference.allowed}
    scaffold = {"beta", "delta", "dynamic_sampling", "overlong_buffer", "minibatches"}
    assert confounds == scaffold | {"log_ratio_clamp", "sequence_filter"}
    # what is allowed is listed first
    assert [difference.allowed for difference in differences] == sorted(
        (difference.allowed for difference in differences), reverse=True
    )


def test_a_difference_that_is_not_allowed_is_refused_or_admitted_as_a_confound(tmp_path: Path) -> None:
    arms = ARMS + "lr = 1e-2\n"
    strict = load_family(written(tmp_path, HEAD + arms))
    refused = r"^family 'own': arms may not differ in lr \(one 0.0003, two 0.01\): [^\n]*$"
    with pytest.raises(UsageError, match=refused):
        checked(strict)
    checked(load_family(written(tmp_path, HEAD + "confounds = true\n" + arms)))


def checked(family: Family) -> None:
    """The differences between the arms of a family written by hand."""
    check_differences(differences_between(arms_of(family, {"one": 1, "two": 1}, "demo", {}), family), family)


def test_an_arm_that_is_no_planted_control_may_not_set_one(tmp_path: Path) -> None:
    family = load_family(written(tmp_path, HEAD + ARMS + 'control = "blame"\n'))
    with pytest.raises(UsageError, match="may not differ in control"):
        checked(family)


NAMED = 'description = "mine"\n'


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("allowed =", "expected TOML"),
        ("allowed = []", "description"),
        (HEAD, "arms"),
        (ARMS + HEAD, "description"),
        (HEAD.replace("averaging", "average") + ARMS, "unknown setting 'average'"),
        (NAMED + 'allowed = ["lr"]\n[arms."../../elsewhere"]\nlr = 1e-3', "arms.../../elsewhere"),
        (NAMED + 'allowed = ["lr"]\n[arms]\ngrpo = 3', "arms.grpo"),
        (NAMED + 'allowed = "lr"\n[arms.grpo]\nlr = 1e-3', "allowed"),
        (NAMED + 'allowed = []\narm = 1\n[arms.grpo]\nloss_type = "grpo"', "arm"),
        (HEAD + ARMS + 'role = "hero"', "expected role to be one of positive"),
        (HEAD + ARMS + 'against = "three"', "expected against to name an arm of the family"),
    ],
)
def test_a_file_that_is_no_family_is_one_line(tmp_path: Path, content: str, named: str) -> None:
    with pytest.raises(UsageError, match=r"^--family ") as raised:
        load_family(written(tmp_path, content))
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unknown_family_names_the_shipped_ones() -> None:
    with pytest.raises(UsageError, match=f"--family: expected one of {', '.join(NAMES)} or a TOML file, got 'mine'"):
        load_family("mine")


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("b")])
def test_published_families_differ_as_they_say(name: str) -> None:
    family = load_family(name)
    arms = arms_of(family, dict.fromkeys([*family.arms, *family.controls], 1), "demo", {"steps": "7"})
    confounds = {one.field for one in differences_between(arms, family) if not one.allowed}
    assert bool(confounds) == ("minibatches" in confounds) == name.startswith("recipe")
    assert {arm.any_config.model.model for arm in arms} == {
        "Qwen/Qwen2.5-32B" if "32b" in name else "Qwen/Qwen2.5-Math-7B"
    }
    assert {arm.any_config.run.steps for arm in arms} == {7}  # flags go to all arms over their presets


def test_a_preset_that_no_arm_would_take_is_refused() -> None:
    assert preset_of(load_family("controlled-7b"), "demo") == "each arm's own"
    assert preset_of(load_family("controlled"), "recipe/fipo-7b") == "recipe/fipo-7b"
    with pytest.raises(UsageError, match=r"--preset one-gpu/fipo-0\.5b: expected none with --family controlled-7b"):
        preset_of(load_family("controlled-7b"), "one-gpu/fipo-0.5b")
