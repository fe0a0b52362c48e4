"""The responses of a step: prompts, rounds, rewards."""

import dataclasses

import numpy as np
import pytest

from harness.config.schema import Config, TaskSettings
from harness.errors import HarnessError, UsageError
from harness.model.policy import Policy
from harness.rollouts.collect import Rollouts, collect, informative
from harness.rollouts.scoring import overlong_penalty, score
from harness.tasks.task import Problem, belongs_to
from tests.harness.agreement import agree
from tests.harness.responses import group
from tests.harness.tiny import context, small_config
from tests.losses.published import golden
from tests.losses.published.golden import GOLDEN


def keys(rollouts: Rollouts, round_number: int = 0) -> list[tuple[str, int, list[int]]]:
    return [(*response.key, response.tokens) for group in rollouts.rounds[round_number] for response in group]


def dynamic(**changes: object) -> Config:
    return small_config(dynamic_sampling=True, **changes)


def test_without_dynamic_sampling_one_round_is_kept_whole(direct_policy: Policy) -> None:
    rollouts = collect(context(direct_policy, small_config(group_size=2, unfilled="stop")), 0)
    assert len(rollouts.rounds) == 1
    assert rollouts.kept == rollouts.rounds[0]
    assert rollouts.missing == 0
    assert not all(map(informative, rollouts.kept))


def test_dynamic_sampling_keeps_the_first_informative_groups_in_prompt_order(direct_policy: Policy) -> None:
    config = dynamic(prompts_per_step=8, minibatches=1, max_sampling_rounds=9)
    rollouts = collect(context(direct_policy, config), 0)
    found = [group for groups in rollouts.rounds for group in groups if informative(group)]
    assert rollouts.kept == found[:8]
    assert rollouts.missing == 0
    assert len(found) > 8, "nothing was cut: choose another size"
    # the last round was needed
    assert sum(map(informative, [group for groups in rollouts.rounds[:-1] for group in groups])) < 8


def test_prompts_that_settings_are_chosen_by_are_not_trained_on(direct_policy: Policy) -> None:
    drawn = [
        group[0].problem
        for step in range(8)
        for group in collect(context(direct_policy, small_config(eval_split="tune")), step).kept
    ]
    assert not any(belongs_to(problem, "tune") or belongs_to(problem, "report") for problem in drawn)


def test_no_prompt_is_drawn_twice_in_a_step(direct_policy: Policy) -> None:
    config = dynamic(group_size=2, prompts_per_step=16, max_sampling_rounds=3)
    rollouts = collect(context(direct_policy, config), 0)
    prompts = [group[0].problem.prompt_id for groups in rollouts.rounds for group in groups]
    assert len(rollouts.rounds) > 1
    assert len(set(prompts)) == len(prompts)
    assert [response.round for response in rollouts.responses] == sorted(r.round for r in rollouts.responses)


def test_rounds_end_at_their_limit_and_the_batch_stays_unfilled(direct_policy: Policy) -> None:
    rollouts = collect(context(direct_policy, dynamic(group_size=2, max_sampling_rounds=2)), 0)
    assert len(rollouts.rounds) == 2
    assert rollouts.missing == 4 - len(rollouts.kept) > 0


def test_an_unfilled_batch_can_stop_the_run(direct_policy: Policy) -> None:
    config = dynamic(group_size=2, max_sampling_rounds=1, unfilled="stop")
    with pytest.raises(HarnessError, match=r"^step 3: expected 4 groups .*--max_sampling_rounds") as raised:
        collect(context(direct_policy, config), 3)
    assert not isinstance(raised.value, UsageError)


@pytest.mark.parametrize("other", [{"seed": 1}, {"step": 1}])
def test_prompts_and_noise_are_keyed_by_seed_and_step(direct_policy: Policy, other: dict[str, int]) -> None:
    first = collect(context(direct_policy, small_config()), 0)
    again = collect(context(direct_policy, small_config()), 0)
    second = collect(context(direct_policy, small_config(seed=other.get("seed", 0))), other.get("step", 0))
    assert keys(first) == keys(again)
    assert {key[0] for key in keys(first)}.isdisjoint(key[0] for key in keys(second))


def test_a_cut_response_is_wrong(direct_policy: Policy) -> None:
    whole = collect(context(direct_policy, small_config(max_response_tokens=3)), 0).responses
    cut = collect(context(direct_policy, small_config(max_response_tokens=2)), 0).responses
    right = [(long, short) for long, short in zip(whole, cut, strict=True) if long.correct]
    assert right
    for long, short in right:
        assert short.text == long.text  # the answer is there, its end is not
        assert short.truncated
        assert (short.correct, short.score) == (False, -1.0)


def test_reward_is_score_and_overlong_penalty(direct_policy: Policy) -> None:
    config = small_config(max_response_tokens=4, overlong_buffer=2, overlong_factor=0.5)
    for response in collect(context(direct_policy, config), 0).responses:
        # free up to 2 tokens
        assert response.reward == response.score - 0.25 * max(0, len(response.tokens) - 2)
        assert response.score == (1.0 if response.correct else -1.0)


def test_dynamic_sampling_looks_at_the_score_without_penalty(random_policy: Policy) -> None:
    right_or_wrong = group(random_policy, Problem("a1:", "1"), ["#1$", "#1$"], [1.0, 1.0])
    punished = [right_or_wrong[0], dataclasses.replace(right_or_wrong[1], reward=0.5)]
    assert not informative(punished)


def test_filter_keeps_the_groups_that_dapo_keeps(random_policy: Policy) -> None:
    seen = set()
    for vector in map(golden.load, golden.ADVANTAGE_VECTORS):
        rewards, kept = vector["in__rewards"].tolist(), vector["official__dapo_group_kept"].tolist()
        groups = [group(random_policy, Problem("a1:", "1"), ["#1$"] * len(row), row) for row in rewards]
        assert [informative(group) for group in groups] == kept
        seen |= set(kept)
    assert seen == {True, False}


def test_a_round_may_ask_more_prompts_than_are_trained_on(direct_policy: Policy) -> None:
    """DAPO draws three times as many at once (gen_prompt_bsz); surplus groups are cut by the order of their prompts."""
    rollouts = collect(context(direct_policy, dynamic(prompts_per_round=24, max_sampling_rounds=9)), 0)
    assert [len(groups) for groups in rollouts.rounds] == [24]
    assert rollouts.kept == [group for group in rollouts.rounds[0] if informative(group)][:4]
    small = collect(context(direct_policy, dynamic(max_sampling_rounds=1)), 0)
    assert keys(small) == keys(rollouts)[: len(keys(small))]  # the first of them are the same
    plain = collect(context(direct_policy, small_config(prompts_per_round=24)), 0)
    assert len(plain.rounds[0]) == 4  # nothing is filtered, so nothing more is asked
    assert keys(plain) == keys(small)


@pytest.mark.parametrize("wrong_reward", [-1.0, 0.0, -0.5])
def test_a_wrong_answer_is_paid_as_the_recipe_says(direct_policy: Policy, wrong_reward: float) -> None:
    responses = collect(context(direct_policy, small_config(wrong_reward=wrong_reward)), 0).responses
    assert {(one.correct, one.reward) for one in responses} == {(True, 1.0), (False, wrong_reward)}


COIN = TaskSettings(control="random_reward")


def test_overlong_penalty_is_the_authors_under_their_32b_settings() -> None:
    with np.load(GOLDEN / "overlong_32b.npz") as arrays:
        buffer, factor, limit = (arrays[f"cfg__{name}"].item() for name in ("buffer", "factor", "max_len"))
        lengths, expected = arrays["in__length"].tolist(), arrays["official__penalty"]
    settings = TaskSettings(overlong_buffer=int(buffer), overlong_factor=float(factor))
    assert expected.min() < -0.5
    assert agree([overlong_penalty(length, int(limit), settings) for length in lengths], expected, "float64")
    assert overlong_penalty(20, 20, TaskSettings()) == 0.0


def test_random_reward_is_a_keyed_coin_whatever_the_answer() -> None:
    keys = [(0, step, "prompt", sample) for step in range(100) for sample in range(20)]
    tosses = [score(True, COIN, *key) for key in keys]
    assert tosses == [score(False, COIN, *key) for key in keys]
    assert set(tosses) == {-1.0, 1.0}
    assert abs(np.mean(tosses)) < 4 / np.sqrt(len(keys))
    assert tosses != [score(True, COIN, 1, *key[1:]) for key in keys]
