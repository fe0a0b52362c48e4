"""Tasks of Reasoning Gym: drawn alike in every process, graded by its verifiers, and refused in a line."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.resolve import resolve
from harness.errors import UsageError
from harness.randomness import stream
from harness.tasks.drawn import DrawnTask, drawn_task
from harness.tasks.gym import Gym
from tests.harness import runs
from tests.harness.tasks import math_material as material

pytest.importorskip("reasoning_gym", reason="needs reasoning-gym: make test-gym")


def task_of(name: str, settings: str | None = None) -> DrawnTask:
    flags = {"task": f"reasoning_gym:{name}", "task_settings": settings, "model": "any"}
    return drawn_task(resolve(flags), material.answering_policy())


@pytest.fixture(scope="module")
def countdown() -> Iterator[Gym]:
    with closing(Gym("countdown", min_numbers=3, max_numbers=3)) as gym:
        yield gym


def test_training_and_evaluation_questions_are_disjoint_and_the_same_for_a_seed() -> None:
    held_out, trained = [], []
    for _ in range(2):
        with closing(task_of("countdown", '{"min_numbers": 3, "max_numbers": 3}')) as task:
            task.self_test()
            held_out.append(task.held_out("report", 8))
            trained.append(task.draw_problems("train", 32, stream(0, "data", 0, 0), set()))
    assert held_out[0] == held_out[1]
    assert trained[0] == trained[1]
    assert not set(held_out[0]) & set(trained[0])
    assert "<answer>answer here</answer>" in trained[0][0].prompt


@pytest.mark.parametrize("name", ["polynomial_multiplication", "list_functions"])
def test_a_seed_gives_the_same_question_in_every_process(name: str) -> None:
    """Without a fixed hash seed the first differs from process to process, and without a global seed the second."""
    drawn = []
    for _ in range(2):
        with closing(Gym(name)) as gym:
            drawn.append([gym.question(np.random.default_rng(seed)) for seed in range(4)])
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("response", "outcome", "lenient"),
    [
        ("So it is.\n<answer>{}</answer>", "right", True),
        ("<answer>1</answer> No: <answer> ({}) </answer><|im_end|>", "right", True),
        ("<answer>{}</answer> or rather <answer>1</answer>", "wrong", False),
        ("So it is.\n{}<|im_end|>", "wrong", True),
        ("{}\nSo it is.", "wrong", False),
        ("<answer>{} = 5</answer>", "wrong", False),
        ("<answer>(</answer>", "wrong", False),
        ("", "wrong", False),
    ],
)
def test_how_an_answer_is_read(countdown: Gym, response: str, outcome: str, lenient: bool) -> None:
    question = countdown.question(np.random.default_rng(0))
    grade = countdown.grade(question, response.format(question.answer))
    assert (grade.outcome, grade.is_right_leniently) == (outcome, lenient)


def test_a_verifier_that_hangs_is_ended_and_the_next_answer_graded(
    countdown: Gym, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = countdown.question(np.random.default_rng(0))
    monkeypatch.setattr(countdown.workers, "limit_s", 2.0)
    grade = countdown.grade(question, "<answer>9**9**9**9</answer>")
    assert (grade.outcome, grade.why) == ("unchecked", "time")
    assert countdown.grade(question, f"<answer>{question.answer}</answer>").outcome == "right"


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("countdwn", None, "countdwn"),
        ("countdown", '{"numbers": 3}', "'numbers'"),
        ("countdown", '{"seed": 3}', "'seed'"),
        ("countdown", '{"min_numbers": 1}', "its settings: min_numbers must be greater than 1"),
        ("countdown", '{"min_numbers": "few"}', "its settings: "),
        ("composite", None, "its settings: Must specify at least one dataset"),
        ("game_of_life_halting", None, "expected a verifier that refuses the answer 'nonsense'"),
    ],
)
def test_wrong_names_and_settings_are_refused_in_a_line(name: str, settings: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=f"--task reasoning_gym:{name} with --task_settings .*{words}") as raised:
        task_of(name, settings)
    assert "\n" not in str(raised.value)


@pytest.mark.train
def test_a_model_is_trained_on_a_task(tmp_path: Path) -> None:
    flags: dict[str, Any] = {"prompts_per_step": 4, "group_size": 4, "minibatches": 2, "steps": 2, "eval_prompts": 4}
    flags |= {"max_prompt_tokens": 400, "max_response_tokens": 6, "final_eval_samples": 1, "give_up_after": None}
    flags |= {"loss_type": "fipo", "model": material.save_model(tmp_path / "model"), "task": "reasoning_gym:chain_sum"}
    run = runs.trained(resolve(flags), tmp_path / "run")
    assert "reasoning-gym" in runs.read_json(run.path / "environment.json")["packages"]
    assert len(runs.metrics(run)) == 2
    assert {row["correct"] for row in runs.rows(run, "rollouts")} == {False}
