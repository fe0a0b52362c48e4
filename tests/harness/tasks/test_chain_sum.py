"""Chain sums: how they are drawn and split, graded step by step, and demonstrated."""

import dataclasses

import pytest

from harness.model.policy import Policy
from harness.randomness import stream
from harness.run.tiny_model import BATCH, demonstrations
from harness.tasks.chain_sum import CHAIN_SUMS, GRADED, KEYED, ChainSum, Style, terms_of
from harness.tasks.task import TRAINED_ON, Problem, Split, belongs_to, draw_distinct
from harness.tasks.tiny import DEMONSTRATED


@pytest.mark.parametrize("task", DEMONSTRATED)
@pytest.mark.parametrize("split", ["report", "tune"])
def test_training_and_evaluation_share_no_prompt(task: str, split: Split) -> None:
    training = draw_distinct(DEMONSTRATED[task], TRAINED_ON[split], 2000, stream(0, "data"))
    held_out = DEMONSTRATED[task].held_out(split, 256)
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
    with pytest.raises(ValueError, match="expected 20 different prompts of the split train, found"):
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


PROBLEM = Problem("a2b4c3:", "4")  # 2 + 4 + 3 = 9 = 4 mod 5

ANSWERS = {"#4": "4", "a2b4=1c3=4#4": "4", "a2b4=1?a2=2#0": "0"}
ANSWERS |= dict.fromkeys(("##", "", "4", "#", "#4#4", "#3?#4", "#4a", "#44", "#4\n"))

RIGHT = [
    "#4",
    "a2b4=1c3=4#4",
    "a2=2b4=1c3=4#4",
    "a2b4c3=4#4",
    "a2=2b4=1?a2=2b4=1c3=4#4",  # begun again
    "a2b4=1#4",  # stops early; all that it says is right
    "a2b4=1",  # cut at the limit
    "",
]

# response, its first wrong step
WRONG = [
    ("a2b4=2c3=0#0", "a2b4=2"),  # 2 + 4 = 1 mod 5
    ("a2=2b4=1c3=3#3", "c3=3"),
    ("a2=2b4=1c3=3#4", "c3=3"),  # right by two errors
    ("a2=2c3=0#0", "c3=0"),  # skips b4
    ("b4=4c3=2#2", "b4=4"),
    ("a2b3=0c3=3#3", "a2b3=0"),  # b4 miscopied as b3
    ("a2=2b4=1b4=0#0", "b4=0"),  # b4 twice
    ("#3", "#3"),
    ("a2b4=1c3=4#1", "#1"),
    ("#4a", "#4a"),
    ("a2b4=1=1#4", "=1"),
    ("a2b4#4", "a2b4"),  # no sum
    ("a2b4=", "a2b4="),
    ("a2bb=1#4", "a2bb=1"),
    ("a2b4=11#4", "1"),
    ("a2b4=1??a2=2#4", "?"),
    ("a2b4=2?a2=2b4=1c3=4#4", "a2b4=2"),  # a slip, mended later
    ("a2b4=1?b4=4c3=2#2", "?b4=4"),  # begun again in the middle
    ("a2b4c3=4d0=4#4", "d0=4"),  # a term that the prompt has not
]


def test_answer_is_what_stands_after_the_only_hash() -> None:
    assert {response: GRADED.extract_answer(response) for response in ANSWERS} == ANSWERS


def test_first_wrong_step_is_found() -> None:
    assert [response for response in RIGHT if GRADED.first_wrong_step(PROBLEM, response)] == []
    spans = [(response, GRADED.first_wrong_step(PROBLEM, response) or ()) for response, _ in WRONG]
    assert [(response, response[slice(*span)]) for response, span in spans] == WRONG
    assert GRADED.first_wrong_step(PROBLEM, "a2b4=11#4") == (6, 7)
    assert GRADED.first_wrong_step(PROBLEM, "a2=2b4=1b4=0#0") == (8, 12)


STYLES = [(name, style) for name, task in CHAIN_SUMS.items() for stage in task.stages for _, style in stage.styles]


def problems(task: ChainSum) -> list[Problem]:
    return draw_distinct(task, "train", 50, stream(0, "data"))


@pytest.mark.parametrize(("name", "style"), STYLES)
@pytest.mark.parametrize("checked", [0.0, 1.0])
def test_demonstrations_are_right_by_the_tasks_own_grader(name: str, style: Style, checked: float) -> None:
    task, generator = CHAIN_SUMS[name], stream(0, "demonstrations")
    style = dataclasses.replace(style, checked=checked)
    slips = 0
    for problem in problems(task):
        response = task.demonstration(problem, style, generator)
        assert task.extract_answer(response) == problem.answer
        wrong = task.first_wrong_step(problem, response)
        slips += wrong is not None
        assert wrong is None or wrong[1] <= response.index("?")
    assert (slips > 0) == (checked > 0 and bool(style.sizes))


@pytest.mark.parametrize("name", CHAIN_SUMS)
def test_a_style_decides_the_sizes_of_steps(name: str) -> None:
    task, generator = CHAIN_SUMS[name], stream(0, "demonstrations")
    problem = problems(task)[0]
    assert task.demonstration(problem, Style(), generator) == f"#{problem.answer}"
    by_twos = task.demonstration(problem, Style((0, 1)), generator).split("=")[:-1]
    # each part but the first begins with the running sum of the part before it
    assert {len(terms_of(part.lstrip("0123456789"))) for part in by_twos[:-1]} == {2}


@pytest.mark.parametrize("name", DEMONSTRATED)
def test_warm_start_shows_no_held_out_prompt(name: str, random_policy: Policy) -> None:
    stage = DEMONSTRATED[name].stages[0]
    batches = [demonstrations(random_policy, DEMONSTRATED[name], stage, (0, 0, step)) for step in range(10)]
    shown = [random_policy.tokenizer.decode(prompt) for batch in batches for prompt, _ in batch]
    assert len(shown) == 10 * BATCH
    assert all(belongs_to(Problem(prompt, ""), "train") for prompt in shown)


def test_warm_start_batches_are_keyed_by_their_step(random_policy: Policy) -> None:
    task = CHAIN_SUMS["graded_chain_sum"]
    first, again, other = (demonstrations(random_policy, task, task.stages[0], (0, 0, step)) for step in (3, 3, 4))
    assert first == again
    assert first != other
