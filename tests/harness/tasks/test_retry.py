"""The retry tasks: what is asked, what is right, which step is wrong, and what demonstrations give up."""

import dataclasses
import re
from pathlib import Path

import pytest

from harness.backends.torch_setup import set_up_torch
from harness.model.policy import write_policy
from harness.randomness import stream
from harness.run.tiny_model import warm_started
from harness.tasks.demonstrated import Stage
from harness.tasks.retry import OPERATIONS, RETRIES, Persistence
from harness.tasks.task import Problem
from tests.harness import runs
from tests.harness.tiny import small_config

RETRY = RETRIES["retry"]
PROBLEM = Problem("342=7:", "7")  # 0 + 3 = 3, 3 x 4 = 12 = 2, 2 - 2 = 0; 0 + 3 + 4 = 7, 7 x 2 = 14 = 4
ON_TARGET = Problem("342=9:", "9")  # 0 + 3 + 4 + 2


@pytest.mark.parametrize("name", RETRIES)
def test_targets_can_be_reached_and_prompts_are_as_long_as_said(name: str) -> None:
    task = RETRIES[name]
    for problem in task.draw_problems("train", 100, stream(0, "data"), set()):
        digits, target = re.fullmatch(r"(\d+)=(\d):", problem.prompt).groups()  # type: ignore[union-attr]
        assert task.terms[0] <= len(digits) <= task.terms[1]
        assert target == problem.answer
        values = {0}
        for digit in map(int, digits):
            values = {new % 10 for value in values for new in (value + digit, value - digit, value * digit)}
        assert int(target) in values


def test_attempts_at_random_hit_about_one_time_in_six() -> None:
    generator, tries = stream(0, "attempts"), 4000
    problems = [RETRY.draw(generator) for _ in range(tries)]
    hits = sum(RETRY.attempt(one.prompt[:3], generator).endswith(one.answer) for one in problems)
    assert hits / tries == pytest.approx(0.176, abs=0.025)  # four standard errors; docs/retry.md rounds to .18


# of ON_TARGET: response, whether it is right, the answer that was read
GRADED = [
    ("a3=3a4=7a2=9#", True, "9"),
    ("b3=7c4=8a2=0?a3=3a4=7a2=9#", True, "9"),
    ("a3=4?a3=3a4=7a2=9#", True, "9"),  # what was given up does not count, right or wrong, complete or not
    ("???a3=3a4=7a2=9#", True, "9"),
    ("a3=3a4=7a2=9", False, None),  # never handed in
    ("a3=3a4=7a2=9?#", False, None),  # given up
    ("a3=3a4=7a2=9?", False, None),
    ("a3=3a4=7a2=9##", False, None),
    ("a3=3a4=7a2=9#a3=3a4=7a2=9#", False, None),
    ("a3=3a4=7a2=9#\n", False, None),
    ("a3=3a4=7b2=5#", False, "5"),  # a miss
    ("a3=3a4=7b2=9#", False, "9"),  # 7 - 2 = 5: the target is written, not reached
    ("a3=4a4=7a2=9#", False, "9"),  # right by two errors
    ("a3=3a4=7#", False, "7"),
    ("a3=3a4=7a2=9a0=9#", False, "9"),
    ("a4=4a3=7a2=9#", False, "9"),  # out of order
    ("a3=3a6=9#", False, "9"),
    ("d3=3a4=7a2=9#", False, "9"),
    ("9#", False, "9"),
    ("#", False, None),
    ("", False, None),
]


def test_right_is_what_is_handed_in_and_truly_reaches_the_target() -> None:
    grades = RETRY.grade([(ON_TARGET, response) for response, _, _ in GRADED])
    found = [
        (response, grade.outcome == "right", grade.answer)
        for (response, _, _), grade in zip(GRADED, grades, strict=True)
    ]
    assert found == GRADED


# of PROBLEM: response, its first wrong step
WRONG = [
    ("a3=3c4=2b2=0#", "#"),  # hands in a miss
    ("a3=3a4=7#", "#"),  # 7, but without the last number
    ("b3=7a4=1a2=3?b3=6", "b3=6"),  # 0 - 3 = 7
    ("a3=3a5=8", "a5=8"),  # 4 miscopied
    ("a3=3c4=2b2=0a1=1", "a1=1"),  # a number too many
    ("a3=3d4=7", "d4=7"),
    ("a3=3a4=", "a4="),
    ("a3=3\na4=7", "\na4="),
]


def test_first_wrong_step_is_found() -> None:
    spans = [(response, RETRY.first_wrong_step(PROBLEM, response) or ()) for response, _ in WRONG]
    assert [(response, response[slice(*span)]) for response, span in spans] == WRONG
    hit = "a3=3a4=7a2=9"
    assert RETRY.first_wrong_step(ON_TARGET, f"{hit}?{hit}#") == (12, 13)  # gives up a hit
    assert RETRY.first_wrong_step(ON_TARGET, f"{hit}#x") == (13, 14)
    for right in ("", "a3=3", "a3=3a4=7a2=9", "a3=3?a3=3a4=7b2=5?a3=3a4=7a2=9#"):
        assert RETRY.first_wrong_step(ON_TARGET, right) is None


@pytest.mark.parametrize("response", [response for response, _ in WRONG] + [response for response, _, _ in GRADED])
def test_steps_cover_a_response_without_gaps_or_overlaps(response: str) -> None:
    spans = RETRY.steps(response)
    assert "".join(response[start:end] for start, end in spans) == response
    wrong = RETRY.first_wrong_step(PROBLEM, response)
    assert wrong is None or wrong in spans


def shares_given_up(style: Persistence) -> tuple[float, float]:
    """Of 400 demonstrations: the share of misses and of hits that are given up. All calculate right."""
    generator = stream(0, "demonstrations")
    after_miss, after_hit = [], []
    for problem in RETRY.draw_problems("train", 400, stream(0, "data"), set()):
        response = RETRY.demonstration(problem, style, generator)
        assert re.fullmatch(rf"((?:[{OPERATIONS}]\d=\d){{3}}[?#])+", response)
        assert response.index("#") == len(response) - 1
        assert response.count("?") < style.attempts
        for value, end in re.findall(r"(\d)([?#])", response):
            (after_hit if value == problem.answer else after_miss).append(end == "?")
        for attempt in re.split("[?#]", response)[:-1]:
            assert RETRY.first_wrong_step(problem, attempt) is None
    return sum(after_miss) / len(after_miss), sum(after_hit) / len(after_hit)


def test_a_style_decides_what_is_given_up() -> None:
    assert shares_given_up(Persistence(1, 1.0, 1.0)) == (0, 0)
    assert shares_given_up(Persistence(1000, 1.0)) == (1, 0)  # every response right
    missed, hit = shares_given_up(Persistence(1000, 0.5, 0.25))
    assert missed == pytest.approx(0.5, abs=0.1)  # four standard errors of 400 or more attempts
    assert hit == pytest.approx(0.25, abs=0.17)  # and of about 120


def test_only_the_verified_task_shows_which_attempts_to_give_up() -> None:
    for name, is_verified in (("retry", True), ("retry_unverified", False)):
        styles = [style for stage in RETRIES[name].stages for _, style in stage.styles]
        assert all(style.after_hit == (0 if is_verified else style.after_miss) for style in styles)
        assert any(style.after_miss > 0 for style in styles)


def test_behaviour_is_the_shares_of_misses_and_of_hits_that_are_given_up() -> None:
    responses = ["a3=3b4=9b2=7?a3=3a4=7a2=9?a3=3a4=7a2=9#", "b3=7b4=3b2=1#", "b3=7?b3=7a4=1", "a3=3a4=7a2=9#", "", "?#"]
    # misses 7?, 1#, 7? and hits 9?, 9#, 9#; what was cut and what wrote no value are no attempts
    found = RETRY.behaviour([(ON_TARGET, response) for response in responses])
    assert found == {"retry_after_miss": pytest.approx(2 / 3), "retry_after_hit": pytest.approx(1 / 3)}
    assert RETRY.behaviour([(ON_TARGET, "b3=7b4=3b2=1#")]) == {"retry_after_miss": 0.0, "retry_after_hit": None}


@pytest.mark.train
def test_a_run_records_the_shares_of_its_responses_and_blames_a_step(tmp_path: Path) -> None:
    set_up_torch(threads=1)
    (tmp_path / "model").mkdir()
    stage = Stage((3, 3), ((1.0, Persistence(3, 0.9, 0.9)),), steps=40, lr=5e-3)
    write_policy(tmp_path / "model", warm_started(dataclasses.replace(RETRY, stages=(stage,)), 0))
    changes = {"task": "retry", "control": "blame", "max_response_tokens": 60, "loss_type": "dapo"}
    run = runs.trained(small_config(str(tmp_path / "model"), **changes, give_up_after=None), tmp_path / "run")
    responses = runs.rows(run, "rollouts")
    for line in runs.metrics(run):
        texts = [row for row in responses if row["step"] == line["step"] and row["round"] == 0]
        pairs = [(Problem(row["prompt"], row["target"]), row["text"]) for row in texts]
        found = {f"task/{name}": value for name, value in RETRY.behaviour(pairs).items()}
        assert found == {name: line[name] for name in found}
    assert any(line["task/retry_after_miss"] for line in runs.metrics(run))
