import dataclasses

import pytest

from harness.model.policy import Policy
from harness.randomness import stream
from harness.run.tiny_model import BATCH, demonstrations
from harness.tasks.chain_sum import CHAIN_SUMS, ChainSum, Style, terms_of
from harness.tasks.task import Problem, belongs_to, draw_distinct

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


@pytest.mark.parametrize("name", CHAIN_SUMS)
def test_warm_start_shows_no_held_out_prompt(name: str, random_policy: Policy) -> None:
    stage = CHAIN_SUMS[name].stages[0]
    batches = [demonstrations(random_policy, CHAIN_SUMS[name], stage, (0, 0, step)) for step in range(10)]
    shown = [random_policy.tokenizer.decode(prompt) for batch in batches for prompt, _ in batch]
    assert len(shown) == 10 * BATCH
    assert all(belongs_to(Problem(prompt, ""), "train") for prompt in shown)


def test_warm_start_batches_are_keyed_by_their_step(random_policy: Policy) -> None:
    task = CHAIN_SUMS["graded_chain_sum"]
    first, again, other = (demonstrations(random_policy, task, task.stages[0], (0, 0, step)) for step in (3, 3, 4))
    assert first == again
    assert first != other
