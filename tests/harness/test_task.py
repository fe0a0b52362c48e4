import pytest

from harness.chain_sum import GRADED, KEYED, TASKS, ChainSum, terms_of
from harness.evaluation import held_out_problems
from harness.randomness import stream
from harness.task import Problem, draw_distinct, split_of


@pytest.mark.parametrize("task", TASKS)
def test_training_and_evaluation_share_no_prompt(task: str) -> None:
    training = draw_distinct(TASKS[task], "train", 2000, stream(0, "data"))
    held_out = held_out_problems(task, 256)
    assert {problem.prompt_id for problem in training}.isdisjoint(problem.prompt_id for problem in held_out)
    assert {split_of(problem) for problem in training} == {"train"}
    assert {split_of(problem) for problem in held_out} == {"eval"}


def test_held_out_prompts_are_the_same_for_all_and_grow_from_the_front() -> None:
    assert held_out_problems("graded_chain_sum", 8) == held_out_problems("graded_chain_sum", 64)[:8]


def test_drawn_problems_are_distinct_within_and_across_rounds() -> None:
    short = ChainSum(modulus=2, terms=(3, 4), stages=())  # 8 + 16 problems in all
    seen: set[str] = set()
    first = draw_distinct(short, "train", 8, stream(0, "first"), seen)
    second = draw_distinct(short, "train", 8, stream(0, "second"), seen)
    assert len({problem.prompt for problem in first + second}) == 16
    assert seen == {problem.prompt_id for problem in first + second}


def test_a_task_that_runs_out_of_prompts_says_so() -> None:
    with pytest.raises(ValueError, match="too few train prompts: expected 20 new ones"):
        draw_distinct(ChainSum(modulus=2, terms=(3, 3), stages=()), "train", 20, stream(0, "data"))


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
