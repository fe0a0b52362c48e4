from pathlib import Path

import pytest

from harness import UsageError
from sweeps.study.arms import Arm, Family, arms_of, check_differences, differences_between, load_family
from sweeps.study.folder import planned_runs, read_json, with_earlier_arms, write_study

CONTROLLED = load_family("controlled")


def recorded(study: Path, names: dict[str, int], **flags: str) -> list[Arm]:
    arms = arms_of(CONTROLLED, names, "demo", flags)
    write_study(study, CONTROLLED, "demo", arms, {"claims": None})
    return arms


def test_an_arm_that_joins_later_is_compared_with_those_before(tmp_path: Path) -> None:
    recorded(tmp_path, {"dapo": 2})
    joined = with_earlier_arms(tmp_path, CONTROLLED, "demo", arms_of(CONTROLLED, {"fipo": 1}, "demo", {"lr": "1e-3"}))
    assert {arm.name for arm in joined} == {"dapo", "fipo"}
    with pytest.raises(UsageError, match="may not differ in lr"):
        check_differences(differences_between(joined, CONTROLLED), CONTROLLED)


def test_more_seeds_of_an_arm_join_those_before(tmp_path: Path) -> None:
    recorded(tmp_path, {"dapo": 2})
    (arm,) = with_earlier_arms(tmp_path, CONTROLLED, "demo", arms_of(CONTROLLED, {"dapo": 2}, "demo", {}, 5))
    assert sorted(arm.configs) == [0, 1, 5, 6]
    assert [run.name for run in planned_runs([arm], tmp_path)] == [f"dapo-seed{seed}" for seed in (0, 1, 5, 6)]


RECIPE = load_family("recipe")


@pytest.mark.parametrize(
    ("family", "preset", "flags", "said"),
    [
        (CONTROLLED, "demo", {"lr": "1e-3"}, "its arm 'dapo' has other settings: lr 0.0003 there, 0.001 here"),
        (RECIPE, "demo", {}, "its family is 'controlled', not 'recipe'"),
        (CONTROLLED, "other.toml", {}, "its preset is 'demo', not 'other.toml'"),
    ],
)
def test_another_study_is_refused(
    tmp_path: Path, family: Family, preset: str, flags: dict[str, str], said: str
) -> None:
    recorded(tmp_path, {"dapo": 1})
    with pytest.raises(UsageError, match=said):
        with_earlier_arms(tmp_path, family, preset, arms_of(family, {"dapo": 1}, "demo", flags, 5))


def test_a_broken_study_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match=r"study\.json: expected JSON"):
        with_earlier_arms(tmp_path, CONTROLLED, "demo", arms_of(CONTROLLED, {"dapo": 1}, "demo", {}))


def test_every_plan_that_a_study_had_is_kept(tmp_path: Path) -> None:
    recorded(tmp_path, {"dapo": 2})
    recorded(tmp_path, {"dapo": 2})  # started again: the same plan
    recorded(tmp_path, {"dapo": 3})
    plans = read_json(tmp_path / "study.json")["plans"]
    assert [plan["seeds"] for plan in plans] == [{"dapo": [0, 1]}, {"dapo": [0, 1, 2]}]


def test_a_study_goes_on_with_the_files_it_began_with_alone(tmp_path: Path) -> None:
    arms = {}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(f"{name} = 1")
        flags = {"task": f"{tmp_path / name}/mine.py:Mine", "model": "any"}
        arms[name] = arms_of(CONTROLLED, {"dapo": 1}, "demo", flags)
    for _ in range(2):
        write_study(tmp_path, CONTROLLED, "demo", arms["one"], {"claims": None})
    with pytest.raises(UsageError, match="expected the files of --task and --reward that the study began with"):
        write_study(tmp_path, CONTROLLED, "demo", arms["two"], {"claims": None})


def test_arms_with_other_tasks_or_rewards_are_refused_even_as_confounds() -> None:
    family = load_family("recipe")
    arms = [*arms_of(family, {"dapo": 1}, "demo", {}), *arms_of(family, {"fipo": 1}, "demo", {"reward": "r.py:a=1"})]
    with pytest.raises(UsageError, match=r"expected arms with the same --reward, got dapo None, fipo r\.py:a=1"):
        check_differences(differences_between(arms, family), family)
