import pytest

from harness.config.resolve import resolve
from harness.config.schedule import samples_at
from harness.model.policy import Policy
from harness.rollouts.held_out import evaluate
from harness.tasks.chain_sum import GRADED
from tests.harness.tiny import context, small_config


@pytest.mark.parametrize(
    ("steps", "eval_every", "expected"),
    [
        (6, 2, [1, 0, 8, 0, 8, 0, 8]),
        (7, 3, [1, 0, 0, 8, 0, 0, 8, 8]),  # the end is always evaluated
        (2, 5, [8, 0, 8]),
    ],
)
def test_the_last_evaluations_take_more_samples(steps: int, eval_every: int, expected: list[int]) -> None:
    config = resolve({"steps": steps, "eval_every": eval_every, "eval_prompts": 10})
    assert [samples_at(step, config) for step in range(steps + 1)] == expected


def test_the_split_decides_the_prompts(direct_policy: Policy) -> None:
    tuned = {one.prompt_id for one in evaluate(context(direct_policy, small_config(eval_split="tune")), 0, 1)}
    assert tuned == {problem.prompt_id for problem in GRADED.held_out("tune", 8)}
    assert tuned.isdisjoint(one.prompt_id for one in evaluate(context(direct_policy, small_config()), 0, 1))


def test_answers_are_graded_and_keyed_by_seed_and_step(direct_policy: Policy) -> None:
    config = small_config()
    answers = evaluate(context(direct_policy, config), 0, 4)
    right = {problem.prompt_id: problem.answer for problem in GRADED.held_out("report", 8)}
    assert [(one.prompt_id, one.sample) for one in answers] == [(key, j) for key in right for j in range(4)]
    for one in answers:
        assert one.correct == (one.answer == right[one.prompt_id])
        assert one.answer is None or one.text == f"#{one.answer}"
    assert {one.correct for one in answers} == {False, True}
    texts = [one.text for one in answers]
    assert texts == [one.text for one in evaluate(context(direct_policy, config), 0, 4)]
    assert texts != [one.text for one in evaluate(context(direct_policy, config), 1, 4)]
    assert texts != [one.text for one in evaluate(context(direct_policy, small_config(seed=1)), 0, 4)]


def test_how_answers_are_batched_changes_none(direct_policy: Policy) -> None:
    one_by_one = small_config(prompts_per_step=2, group_size=2)
    assert evaluate(context(direct_policy, one_by_one), 0, 4) == evaluate(context(direct_policy, small_config()), 0, 4)


def test_fewer_samples_are_the_first_of_more(direct_policy: Policy) -> None:
    more, fewer = (evaluate(context(direct_policy, small_config()), 0, samples) for samples in (4, 2))
    assert [one for one in more if one.sample < 2] == fewer


def test_a_cut_answer_is_none(direct_policy: Policy) -> None:
    answers = evaluate(context(direct_policy, small_config(max_response_tokens=2)), 0, 2)
    assert {(one.truncated, one.answer, one.correct) for one in answers} == {(True, None, False)}
