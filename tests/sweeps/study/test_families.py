from pathlib import Path

import pytest

from harness import UsageError, flatten, resolve, tree_of
from sweeps import arms_of, check_differences, differences_between, load_family
from sweeps.__main__ import LADDER
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


@pytest.mark.parametrize(("control", "like"), [("blame", "dapo"), ("random_reward", "dapo")])
def test_a_planted_control_is_its_model_but_for_the_control(control: str, like: str) -> None:
    family = load_family("controlled")
    differences = differences_between(arms_of(family, {control: 1, like: 1}, "demo", {}), family)
    assert [(difference.field, difference.values) for difference in differences] == [
        ("control", {control: control, like: "none"})
    ]


RUNGS = ["grpo", "token_mean", "clip_higher", "dynamic_sampling", "dapo", "fipo"]
SWITCHES = ["averaging", "epsilon_high", "dynamic_sampling", "overlong_buffer", "loss_type"]
VARIANTS = {
    "fipo_no_filter": "delta",
    "fipo_two_sided": "fipo_clip_high_only",
    "fipo_no_safety": "fipo_safety_threshold",
    "unit_weights": "fipo_clip_range",
}
STEPS = [
    *zip(RUNGS[1:], RUNGS, SWITCHES, strict=False),
    *((name, "fipo", field) for name, field in VARIANTS.items()),
    ("blame", "dapo", "control"),
    ("random_reward", "dapo", "control"),
]


@pytest.mark.parametrize(("rung", "before", "switch"), STEPS)
def test_each_rung_differs_from_the_one_before_in_exactly_one_field(rung: str, before: str, switch: str) -> None:
    # of all fields of the resolved settings, those of other losses included
    configs = [arm.any_config for arm in arms_of(load_family("ladder"), {rung: 1, before: 1}, "demo", {})]
    ours, theirs = (flatten(tree_of(config)) for config in configs)
    assert [field for field in ours if ours[field] != theirs[field]] == [switch]


def test_the_ladders_ends_are_the_controlled_familys_losses() -> None:
    ladder, controlled = load_family("ladder"), load_family("controlled")
    for name in ("dapo", "fipo"):
        (ours,), (theirs,) = (arms_of(family, {name: 1}, "demo", {}) for family in (ladder, controlled))
        same_formula = {"loss_type": "dapo"} if name == "dapo" else {}
        idle = {"fipo_safety_threshold": theirs.any_config.loss.fipo_safety_threshold} if name == "dapo" else {}
        loss = ours.any_config.loss.model_dump() | same_formula | idle
        assert loss == theirs.any_config.loss.model_dump()
        for section in ("rollout", "optimizer", "task", "evaluation"):
            assert getattr(ours.any_config, section) == getattr(theirs.any_config, section)


def test_ablate_runs_every_rung_and_the_planted_controls() -> None:
    family = load_family("ladder")
    assert LADDER["losses"].split(",") == list(family.arms)
    assert [name.partition(":")[0] for name in LADDER["controls"].split(",")] == list(family.controls)
    arms = arms_of(family, dict.fromkeys([*family.arms, *family.controls], 1), "demo", {})
    check_differences(differences_between(arms, family), family)


def test_an_arm_that_is_like_itself_is_refused(tmp_path: Path) -> None:
    family = load_family(written(tmp_path, HEAD + '[arms.one]\nlike = "two"\n[arms.two]\nlike = "one"\n'))
    with pytest.raises(UsageError, match="arm 'one' is like itself: one -> two -> one"):
        arms_of(family, {"one": 1}, "demo", {})


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


def test_fipo_of_the_recipes_is_the_32b_preset() -> None:
    (arm,) = arms_of(load_family("recipe"), {"fipo": 1}, "demo", {})
    preset = resolve({}, preset="recipe/fipo-32b")
    assert arm.any_config.loss == preset.loss
    assert arm.any_config.updates_per_rollout == preset.updates_per_rollout


def test_a_difference_that_is_not_allowed_is_refused_or_admitted_as_a_confound(tmp_path: Path) -> None:
    arms = ARMS + "lr = 1e-2\n"
    strict = load_family(written(tmp_path, HEAD + arms))
    differences = differences_between(arms_of(strict, {"one": 1, "two": 1}, "demo", {}), strict)
    with pytest.raises(
        UsageError, match=r"^family 'own': arms may not differ in lr \(one 0.0003, two 0.01\): "
    ) as raised:
        check_differences(differences, strict)
    assert "\n" not in str(raised.value)
    open_minded = load_family(written(tmp_path, HEAD + "confounds = true\n" + arms))
    check_differences(
        differences_between(arms_of(open_minded, {"one": 1, "two": 1}, "demo", {}), open_minded), open_minded
    )


def test_an_arm_that_is_no_planted_control_may_not_set_one(tmp_path: Path) -> None:
    family = load_family(written(tmp_path, HEAD + ARMS + 'control = "blame"\n'))
    with pytest.raises(UsageError, match="may not differ in control"):
        check_differences(differences_between(arms_of(family, {"one": 1, "two": 1}, "demo", {}), family), family)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("allowed =", "expected TOML"),
        ("allowed = []", "description"),
        (HEAD, "arms"),
        (ARMS + HEAD, "description"),
        (HEAD.replace("averaging", "average") + ARMS, "unknown setting 'average'"),
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


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('allowed = ["lr"]\n[arms."../../elsewhere"]\nlr = 1e-3', "arms.../../elsewhere"),
        ('allowed = ["lr"]\n[arms]\ngrpo = 3', "arms.grpo"),
        ('allowed = "lr"\n[arms.grpo]\nlr = 1e-3', "allowed"),
        ("allowed = []", "arms"),
        ('allowed = []\narm = 1\n[arms.grpo]\nloss_type = "grpo"', "arm"),
    ],
)
def test_a_family_file_that_is_none_is_refused_in_one_line(tmp_path: Path, content: str, named: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'description = "mine"\n{content}', encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        load_family(str(file))
    assert f"{file}: {named}" in str(refused.value)
    assert "\n" not in str(refused.value)
