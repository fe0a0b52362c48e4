"""Chain sums: how they are drawn and split, graded step by step, and demonstrated."""

import pytest

from harness.errors import UsageError
from harness.model.policy import Policy
from harness.randomness import stream
from harness.run.tiny_model import BATCH, demonstrations
from harness.tasks.chain_sum import GRADED, ChainSum, Style, terms_of
from harness.tasks.task import TRAINED_ON, Problem, Split, belongs_to
from harness.tasks.tiny import DEMONSTRATED

PROBLEM = Problem("a2b4c3:", "4")  # 2 + 4 + 3 = 9 = 4 mod 5


@pytest.mark.parametrize("task", DEMONSTRATED)
@pytest.mark.parametrize("split", ["report", "tune"])
def test_training_and_evaluation_share_no_prompt(task: str, split: Split) -> None:
    training = DEMONSTRATED[task].draw_problems(TRAINED_ON[split], 2000, stream(0, "data"), set())
    held_out = DEMONSTRATED[task].held_out(split, 256)
    assert all(belongs_to(problem, split) for problem in held_out)
    assert not any(belongs_to(problem, split) or belongs_to(problem, "report") for problem in training)
    assert held_out[:8] == DEMONSTRATED[task].held_out(split, 8)


def test_drawn_problems_are_distinct_within_and_across_rounds_until_none_is_left() -> None:
    short = ChainSum(name="small", modulus=2, terms=(3, 4), stages=())  # 8 + 16 problems in all
    seen: set[str] = set()
    first = short.draw_problems("train", 8, stream(0, "first"), seen)
    second = short.draw_problems("train", 8, stream(0, "second"), seen)
    assert len({problem.prompt for problem in first + second}) == 16
    assert seen == {problem.prompt_id for problem in first + second}
    with pytest.raises(UsageError, match="expected 20 different prompts of the split train, found"):
        short.draw_problems("train", 20, stream(0, "third"), seen)


def test_answer_is_the_sum_of_the_digits() -> None:
    for problem in GRADED.draw_problems("train", 100, stream(0, "data"), set()):
        digits = [int(character) for character in problem.prompt if character.isdigit()]
        assert GRADED.terms[0] <= len(digits) <= GRADED.terms[1]
        assert max(digits) < GRADED.modulus
        assert problem.answer == str(sum(digits) % GRADED.modulus)
        assert [letter for letter, _ in terms_of(problem.prompt)] == list("abcdefghijklmn"[: len(digits)])


def test_prompt_id_is_the_prompts_hash() -> None:
    # printf 'a2b4c3:' | sha256sum
    assert {Problem("a2b4c3:", answer).prompt_id for answer in "04"} == {"5ae58bb711a72de3"}


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


@pytest.mark.parametrize("style", {style for stage in GRADED.stages for _, style in stage.styles})
def test_demonstrations_are_right_and_their_style_decides_the_sizes_of_steps(style: Style) -> None:
    generator = stream(0, "demonstrations")
    sizes = set()
    for problem in GRADED.draw_problems("train", 50, stream(0, "data"), set()):
        response = GRADED.demonstration(problem, style, generator)
        assert GRADED.extract_answer(response) == problem.answer
        assert GRADED.first_wrong_step(problem, response) is None
        # each part but the first begins with the running sum of the part before it; the last step takes what is left
        sizes |= {len(terms_of(part.lstrip("0123456789"))) for part in response.split("=")[:-2]}
    assert sizes == {size for size, share in enumerate(style.sizes, start=1) if share}


@pytest.mark.parametrize("name", DEMONSTRATED)
def test_warm_start_batches_are_keyed_by_their_step_and_show_no_held_out_prompt(
    name: str, random_policy: Policy
) -> None:
    stage = DEMONSTRATED[name].stages[0]
    batches = [demonstrations(random_policy, DEMONSTRATED[name], stage, (0, 0, step)) for step in [*range(10), 3]]
    shown = [random_policy.tokenizer.decode(prompt) for batch in batches for prompt, _ in batch]
    assert len(shown) == 11 * BATCH
    assert all(belongs_to(Problem(prompt, ""), "train") for prompt in shown)
    assert batches[3] == batches[-1] != batches[4]
