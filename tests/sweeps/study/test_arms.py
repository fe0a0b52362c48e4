import argparse
from pathlib import Path

import pytest

from harness import UsageError
from sweeps import arms_of, load_family
from sweeps.comparison import arm_seeds
from tests.sweeps.family_files import ARMS, HEAD, written


def options(**changes: object) -> argparse.Namespace:
    return argparse.Namespace(**{"losses": "grpo,dapo", "controls": "", "seeds": 3} | changes)


@pytest.mark.parametrize(
    ("changes", "seeds"),
    [
        ({}, {"grpo": 3, "dapo": 3}),
        ({"losses": "fipo"}, {"fipo": 3}),
        ({"controls": "blame,random_reward:2"}, {"grpo": 3, "dapo": 3, "blame": 3, "random_reward": 2}),
        ({"losses": "", "controls": "blame:1"}, {"blame": 1}),
    ],
)
def test_seeds_per_arm(changes: dict[str, object], seeds: dict[str, int]) -> None:
    assert arm_seeds(options(**changes)) == seeds


def test_flags_apply_to_every_arm_and_seed() -> None:
    arms = arms_of(load_family("controlled"), {"grpo": 2, "fipo": 1}, "demo", {"lr": "0.01"}, first_seed=7)
    configs = [(arm.name, seed, config) for arm in arms for seed, config in arm.configs.items()]
    assert [(name, seed) for name, seed, _ in configs] == [("grpo", 7), ("grpo", 8), ("fipo", 7)]
    assert {config.optimizer.lr for _, _, config in configs} == {0.01}
    assert [config.run.seed for _, _, config in configs] == [7, 8, 7]


def test_a_flag_that_an_arm_sets_itself_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^--epsilon_high is set by arm 'dapo' of family 'controlled' \(0.28\)"):
        arms_of(load_family("controlled"), {"dapo": 1}, "demo", {"epsilon_high": "0.3"})
    # no arm of this comparison sets it
    (dapo,) = arms_of(load_family("controlled"), {"dapo": 1}, "demo", {"fipo_decay_rate": "8"})
    assert dapo.any_config.loss.fipo_decay_rate == 8.0


@pytest.mark.parametrize(
    ("more", "arm", "named"),
    [
        ("", "ppo", "expected arms among one, two, got 'ppo'"),
        ('[controls.three]\nlike = "missing"', "three", "expected arms among one, two, three, got 'missing'"),
        ("learning_rate = 1", "two", "arm 'two' sets 'learning_rate', which is no setting's name"),
        ('like = "two"', "two", "arm 'two' is like itself: two -> two"),
        ('like = "three"\n[arms.three]\nlike = "two"', "two", "arm 'two' is like itself: two -> three -> two"),
    ],
)
def test_a_wrong_arm_is_blamed_on_its_family_in_one_line(tmp_path: Path, more: str, arm: str, named: str) -> None:
    family = load_family(written(tmp_path, HEAD + ARMS + more))
    with pytest.raises(UsageError, match=f"^family 'own': {named}$"):
        arms_of(family, {arm: 1}, "demo", {})
