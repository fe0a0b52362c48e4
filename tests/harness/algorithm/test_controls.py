import dataclasses

import pytest

from harness.algorithm.batching import plan_minibatches, token_advantages
from harness.model.policy import Policy
from harness.tasks.chain_sum import GRADED
from harness.tasks.task import Problem
from tests.harness.responses import group, response
from tests.harness.tiny import small_config

PROBLEM = Problem("a2b4c3:", "4")  # 2 + 4 + 3 = 9 = 4 mod 5

# a response, and the tokens of its first wrong step; $ is the end token
BLAMED = [
    ("a2b4=2c3=0#0$", "XXXXXX......."),
    ("a2=2b4=1c3=3#3$", "........XXXX..."),
    ("a2b4=1c3=3#4$", "......XXXX..."),
    ("a2b4=1c3=4#1$", "..........XXX"),  # the wrong answer, with the end token that it brings
    ("#3$", "XXX"),
    ("a2=2c3=0$", "....XXXXX"),  # ends with its wrong step
    ("a2=2c3=0", "....XXXX"),  # cut at the limit
    ("a2b4=2?a2=2b4=1c3=4#1$", "XXXXXX................"),
    ("a2b4=1c3=4#4$", "............."),  # every step right: no token to blame
    ("a2b4=1$", "......."),
    ("$", "."),
]


def credited(policy: Policy, text: str, advantage: float, control: str, **changes: int) -> list[float]:
    """The advantages of a response's tokens under the control."""
    one = response(policy, PROBLEM, text, reward=-1.0)
    one = dataclasses.replace(one, step=changes.pop("step", 0))
    return token_advantages(one, advantage, policy, GRADED, small_config(control=control, **changes))


@pytest.mark.parametrize(("text", "blamed"), BLAMED)
def test_negative_advantage_falls_on_the_first_wrong_step_or_is_spread_by_damp(
    random_policy: Policy, text: str, blamed: str
) -> None:
    blame = credited(random_policy, text, -0.7, "blame")
    assert blame == [-0.7 if mark == "X" else 0.0 for mark in blamed]
    assert credited(random_policy, text, -0.7, "damp") == pytest.approx([sum(blame) / len(text)] * len(text))
    for advantage, control in (
        *((0.7, control) for control in ("blame", "damp", "random_blame")),
        *((0.0, "blame"), (-0.7, "none"), (-0.7, "random_reward")),
    ):
        assert credited(random_policy, text, advantage, control) == [advantage] * len(text), control


def test_blame_reaches_the_minibatches(random_policy: Policy) -> None:
    rewards = [1.0, -1.0, -1.0, -1.0]
    texts = ["#4$", "a2b4=2c3=0#0$", "#3$", "a2b4=1c3=4#1$"]
    groups = [group(random_policy, PROBLEM, texts, rewards)]
    ((batch,),) = plan_minibatches(groups, random_policy, GRADED, small_config(control="blame"))
    places = [row.nonzero().squeeze(1).tolist() for row in batch.advantages]
    assert places == [[0, 1, 2], [0, 1, 2, 3, 4, 5], [0, 1, 2], [10, 11, 12]]
    assert [bool((row > 0).any()) for row in batch.advantages] == [True, False, False, False]


STEPS = [
    ("a2b4=2c3=0#0$", ["XXXXXX.......", "......XXXX...", "..........XXX"]),
    ("#3$", ["XXX"]),
    ("a2b4=1c3=4#4$", ["............."]),  # every step right
    ("a2b4=2?a2=2b4=1#1$", ["XXXXXX............", "......XXXXX.......", "...........XXXX...", "...............XXX"]),
]


@pytest.mark.parametrize(("text", "steps"), STEPS)
def test_random_blame_lays_blames_sum_on_one_step_drawn_by_seed_and_step(
    random_policy: Policy, text: str, steps: list[str]
) -> None:
    blame = sum(credited(random_policy, text, -0.7, "blame"))
    for key in ("seed", "step"):
        drawn = [credited(random_policy, text, -0.7, "random_blame", **{key: number}) for number in range(40)]
        assert drawn[3] == credited(random_policy, text, -0.7, "random_blame", **{key: 3})
        assert [sum(advantages) for advantages in drawn] == pytest.approx([blame] * 40)
        assert {"".join("X" if value else "." for value in advantages) for advantages in drawn} == set(steps)
