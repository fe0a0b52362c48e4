from typing import get_args

import pytest

from harness.config.task import TaskName
from harness.randomness import stream
from harness.tasks.chain_sum import CHAIN_SUMS, GRADED, KEYED, ChainSum, terms_of
from harness.tasks.task import TRAINED_ON, Problem, Split, belongs_to, draw_distinct


@pytest.mark.parametrize("task", CHAIN_SUMS)
@pytest.mark.parametrize("split", ["report", "tune"])
def test_training_and_evaluation_share_no_prompt(task: str, split: Split) -> None:
    training = draw_distinct(CHAIN_SUMS[task], TRAINED_ON[split], 2000, stream(0, "data"))
    held_out = CHAIN_SUMS[task].held_out(split, 256)
    assert {problem.prompt_id for problem in training}.isdisjoint(problem.prompt_id for problem in held_out)
    assert not any(belongs_to(problem, split) for problem in training)
    assert all(belongs_to(problem, split) for problem in held_out)


def test_prompts_that_choose_settings_are_none_that_results_are_reported_on() -> None:
    tuning, training = GRADED.held_out("tune", 256), TRAINED_ON["tune"]
    assert {p.prompt_id for p in tuning}.isdisjoint(p.prompt_id for p in GRADED.held_out("report", 4096))
    drawn = draw_distinct(CHAIN_SUMS["graded_chain_sum"], training, 2000, stream(0, "data"))
    assert not any(belongs_to(problem, "report") for problem in drawn)


def test_held_out_prompts_are_the_same_for_all_and_grow_from_the_front() -> None:
    assert GRADED.held_out("report", 8) == GRADED.held_out("report", 64)[:8]


def test_drawn_problems_are_distinct_within_and_across_rounds() -> None:
    short = ChainSum(name="small", modulus=2, terms=(3, 4), stages=())  # 8 + 16 problems in all
    seen: set[str] = set()
    first = draw_distinct(short, "train", 8, stream(0, "first"), seen)
    second = draw_distinct(short, "train", 8, stream(0, "second"), seen)
    assert len({problem.prompt for problem in first + second}) == 16
    assert seen == {problem.prompt_id for problem in first + second}


def test_a_task_that_runs_out_of_prompts_says_so() -> None:
    with pytest.raises(ValueError, match="too few train prompts: expected 20 new ones"):
        draw_distinct(ChainSum(name="small", modulus=2, terms=(3, 3), stages=()), "train", 20, stream(0, "data"))


@pytest.mark.parametrize("task", [GRADED, KEYED])
def test_answer_is_the_sum_of_the_digits(task: ChainSum) -> None:
    for problem in draw_distinct(task, "train", 100, stream(0, "data")):
        digits = [int(character) for character in problem.prompt if character.isdigit()]
        assert task.terms[0] <= len(digits) <= task.terms[1]
        assert max(digits) < task.modulus
        assert problem.answer == str(sum(digits) % task.modulus)
        assert [letter for letter, _ in terms_of(problem.prompt)] == list("abcdefghijklmn"[: len(digits)])


def test_prompt_id_is_the_prompts_hash() -> None:
    # printf 'a2b4c3:' | sha256sum
    assert Problem("a2b4c3:", "4").prompt_id == "5ae58bb711a72de3"
    assert Problem("a2b4c3:", "0").prompt_id == "5ae58bb711a72de3"


def test_every_task_of_the_config_is_there() -> None:
    assert {GRADED.name, KEYED.name, "math"} == set(get_args(TaskName))
