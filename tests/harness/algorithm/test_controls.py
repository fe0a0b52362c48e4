import dataclasses
import inspect
from typing import Any

import pytest

from harness.algorithm import batching, controls
from harness.algorithm.batching import plan_minibatches, token_advantages
from harness.model.policy import Policy
from harness.tasks.chain_sum import GRADED
from harness.tasks.task import Problem
from tests.harness.responses import four_groups, group, response
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


@pytest.mark.parametrize(("text", "blamed"), BLAMED)
def test_negative_advantage_falls_on_the_first_wrong_step(random_policy: Policy, text: str, blamed: str) -> None:
    one = response(random_policy, PROBLEM, text, reward=-1.0)
    advantages = token_advantages(one, -0.7, random_policy, GRADED, small_config(control="blame"))
    assert advantages == [-0.7 if mark == "X" else 0.0 for mark in blamed]


@pytest.mark.parametrize("text", [text for text, _ in BLAMED])
@pytest.mark.parametrize(
    ("advantage", "control"),
    [(0.7, "blame"), (0.0, "blame"), (0.7, "damp"), (0.7, "random_blame"), (-0.7, "none"), (-0.7, "random_reward")],
)
def test_other_advantages_are_left_alone(random_policy: Policy, text: str, advantage: float, control: str) -> None:
    one = response(random_policy, PROBLEM, text)
    assert token_advantages(one, advantage, random_policy, GRADED, small_config(control=control)) == [advantage] * len(
        text
    )


def test_blame_reaches_the_minibatches(random_policy: Policy) -> None:
    rewards = [1.0, -1.0, -1.0, -1.0]
    texts = ["#4$", "a2b4=2c3=0#0$", "#3$", "a2b4=1c3=4#1$"]
    groups = [group(random_policy, PROBLEM, texts, rewards)]
    ((batch,),) = plan_minibatches(groups, random_policy, GRADED, small_config(control="blame"))
    places = [row.nonzero().squeeze(1).tolist() for row in batch.advantages]
    assert places == [[0, 1, 2], [0, 1, 2, 3, 4, 5], [0, 1, 2], [10, 11, 12]]
    assert [bool((row > 0).any()) for row in batch.advantages] == [True, False, False, False]


def test_blame_changes_no_weight(random_policy: Policy) -> None:
    groups = four_groups(random_policy)
    blamed, plain = (
        plan_minibatches(groups, random_policy, GRADED, small_config(control=control)) for control in ("blame", "none")
    )
    for (ours,), (theirs,) in zip(blamed, plain, strict=True):
        assert not ours.advantages.equal(theirs.advantages)


@pytest.mark.parametrize(("text", "blamed"), BLAMED)
def test_damp_spreads_blames_sum_over_the_response(random_policy: Policy, text: str, blamed: str) -> None:
    one = response(random_policy, PROBLEM, text, reward=-1.0)
    advantages = token_advantages(one, -0.7, random_policy, GRADED, small_config(control="damp"))
    assert advantages == pytest.approx([-0.7 * blamed.count("X") / len(text)] * len(text))


STEPS = [
    ("a2b4=2c3=0#0$", ["XXXXXX.......", "......XXXX...", "..........XXX"]),
    ("#3$", ["XXX"]),
    ("a2b4=2?a2=2b4=1#1$", ["XXXXXX............", "......XXXXX.......", "...........XXXX...", "...............XXX"]),
]


@pytest.mark.parametrize(("text", "steps"), STEPS)
def test_random_blame_lays_blames_sum_on_one_step(random_policy: Policy, text: str, steps: list[str]) -> None:
    seen = set()
    for seed in range(40):
        one = response(random_policy, PROBLEM, text, reward=-1.0)
        config = small_config(control="random_blame", seed=seed)
        advantages = token_advantages(one, -0.7, random_policy, GRADED, config)
        assert advantages == token_advantages(one, -0.7, random_policy, GRADED, config)
        blame = token_advantages(one, -0.7, random_policy, GRADED, small_config(control="blame"))
        assert sum(advantages) == pytest.approx(sum(blame))
        seen.add("".join("X" if value else "." for value in advantages))
    assert seen == set(steps)


def test_the_random_step_depends_on_the_training_step(random_policy: Policy) -> None:
    one = response(random_policy, PROBLEM, STEPS[2][0], reward=-1.0)
    config = small_config(control="random_blame")
    drawn = {
        tuple(token_advantages(dataclasses.replace(one, step=step), -0.7, random_policy, GRADED, config))
        for step in range(40)
    }
    assert len(drawn) == len(STEPS[2][1])


def test_random_blame_spares_a_response_whose_steps_are_right(random_policy: Policy) -> None:
    one = response(random_policy, PROBLEM, "a2b4=1c3=4#4$", reward=-1.0)
    for control in ("damp", "random_blame"):
        assert set(token_advantages(one, -0.7, random_policy, GRADED, small_config(control=control))) == {0.0}


# a change of the controls' source that a test above must notice
MUTANTS = [
    ("total = advantage * sum(blamed)", "total = advantage"),
    ("[total / len(blamed)] * len(blamed)", "[total] * len(blamed)"),
    ("total / count if it", "total if it"),
    ("task.steps(response.text)", "task.steps(response.text)[:1]"),
    ("response.step, *response.key", "0, *response.key"),
    ('stream(seed, "random_blame"', 'stream(0, "random_blame"'),
]


@pytest.mark.parametrize(("code", "mutant"), MUTANTS)
def test_a_mutant_of_the_controls_is_caught(
    random_policy: Policy, monkeypatch: pytest.MonkeyPatch, code: str, mutant: str
) -> None:
    source = inspect.getsource(controls)
    assert code in source
    changed: dict[str, Any] = {"__name__": "harness.controls_mutant"}
    exec(compile(source.replace(code, mutant), "mutant", "exec", dont_inherit=True), changed)
    monkeypatch.setattr(batching, "credited", changed["credited"])
    with pytest.raises(AssertionError):
        check_controls(random_policy)


def check_controls(policy: Policy) -> None:
    for text, blamed in BLAMED:
        test_damp_spreads_blames_sum_over_the_response(policy, text, blamed)
    for text, steps in STEPS:
        test_random_blame_lays_blames_sum_on_one_step(policy, text, steps)
    test_the_random_step_depends_on_the_training_step(policy)
