from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.config.task import DataSettings
from harness.errors import UsageError
from harness.model.policy import Policy
from harness.randomness import stream
from harness.tasks.math.task import MathTask, check_same_data, data_lines, math_task, read_data
from harness.tasks.task import Problem, belongs_to
from tests.harness.tasks import math_material as material


@pytest.fixture(scope="module")
def policy() -> Policy:
    return material.answering_policy()


def settings_of(folder: Path, **changes: Any) -> DataSettings:
    return DataSettings(**material.data_files(folder) | changes)


def made(settings: DataSettings, policy: Policy) -> MathTask:
    """The task, whose workers start only when it grades."""
    return math_task(read_data(settings), settings, policy)


@pytest.fixture(scope="module")
def task(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MathTask]:
    with closing(made(settings_of(tmp_path_factory.mktemp("data")), policy)) as made_once:
        yield made_once


def test_a_step_draws_distinct_problems_by_its_own_stream_until_none_is_left(task: MathTask) -> None:
    seen: set[str] = set()
    drawn = [task.draw_problems("train", 60, stream(0, "data", 3, round_), seen) for round_ in range(3)]
    assert [len(problems) for problems in drawn] == [60, 36, 0]
    assert len({problem.prompt_id for problems in drawn for problem in problems}) == 96 == len(seen)
    assert drawn[0] == task.draw_problems("train", 60, stream(0, "data", 3, 0), set())
    assert drawn[0] != task.draw_problems("train", 60, stream(0, "data", 4, 0), set())


def test_settings_are_chosen_by_training_problems_that_are_not_trained_on(task: MathTask) -> None:
    tuned = task.held_out("tune", 1000)
    assert 0 < len(tuned) < len(task.training) / 4
    assert all(belongs_to(problem, "tune") for problem in tuned)
    trained = task.draw_problems("tuning_train", 1000, stream(0, "data", 0, 0), set())
    assert len(trained) == len(task.training) - len(tuned)
    assert not set(trained) & set(tuned)
    reported = set(task.held_out("report", 1000))
    assert not reported & set(task.training)
    assert len(reported) == 8
    assert task.held_out("report", 3) == (*task.suites["aime24"][:3], *task.suites["aime25"][:3])


def test_answers_are_graded_in_the_form_that_was_asked_for(task: MathTask, policy: Policy, tmp_path: Path) -> None:
    with closing(made(settings_of(tmp_path, answer_format="boxed"), policy)) as boxed:
        for one, right, wrong in (
            (task, ["It is.\nAnswer: 2", "Answer: 2<|im_end|>", "Answer: $\\frac{4}{2}$"], ["Answer: 1", "2"]),
            (boxed, ["\\boxed{2}"], ["Answer: 2"]),
        ):
            one.self_test()
            grades = one.grade([(Problem("What?", "2"), response) for response in [*right, *wrong]])
            assert [grade.outcome for grade in grades] == ["right"] * len(right) + ["wrong"] * len(wrong)


def test_what_is_evaluated_on_is_not_trained_on_and_reported(policy: Policy, tmp_path: Path) -> None:
    training = material.write_parquet(tmp_path / "train.parquet", material.dapo_rows(material.problems(0, 20)))
    rows = [{"problem": problem, "answer": answer} for problem, answer in material.problems(17, 5)]
    mine = material.write_jsonl(tmp_path / "mine.jsonl", [*rows, {"question": "1?", "answer": "####"}])
    again = material.write_jsonl(tmp_path / "again.jsonl", rows[:1])
    task = made(DataSettings(train_data=training, eval_data=f"{mine},{again}"), policy)
    assert len(task.training) == 17
    assert len(task.held_out("report", 8)) == 5  # one problem of both benchmarks counts once
    data = task.facts["data"]
    assert (data["training"]["distinct"], data["training"]["evaluated_on"], data["training"]["prompts"]) == (20, 3, 17)
    assert data["evaluation"]["mine"]["prompts"] == 5
    assert data["evaluation"]["mine"]["prompt_ids"] == [problem.prompt_id for problem in task.suites["mine"]]
    assert data_lines(task.facts) == [
        f"training: 17 prompts of 20 rows ({training}); left out: 3 also evaluated on",
        f"mine: 5 prompts of 6 rows ({mine}); left out: 1 without a question or answer",
        f"again: 1 prompts of 1 rows ({again})",
    ]


def test_two_benchmarks_may_not_differ_in_an_answer(tmp_path: Path) -> None:
    one, other = ([{"problem": "What?", "answer": answer}] for answer in ("33", "34"))
    given = ",".join(
        material.write_jsonl(tmp_path / f"{name}.jsonl", rows) for name, rows in (("a", one), ("b", other))
    )
    with pytest.raises(UsageError, match="got '33' in a and '34' in b"):
        read_data(DataSettings(eval_data=given), trains=False)
    same = material.write_jsonl(tmp_path / "c.jsonl", one)
    assert list(read_data(DataSettings(eval_data=f"{tmp_path / 'a.jsonl'},{same}"), trains=False).suites) == ["a", "c"]
    with pytest.raises(UsageError, match="needs --eval_data, got none"):
        read_data(DataSettings(eval_data=","), trains=False)


def test_what_is_evaluated_on_is_not_trained_on_under_another_system_message(tmp_path: Path) -> None:
    def asked(before: str, text: str) -> dict[str, Any]:
        turns = [{"role": "system", "content": before}, {"role": "user", "content": text}]
        return {"prompt": turns, "reward_model": {"ground_truth": "9"}}

    train = material.write_jsonl(
        tmp_path / "train.jsonl", [asked("Base 10.", "5 + 4?"), asked("Base 16.", "5 + 4?"), asked("", "6 + 3?")]
    )
    rows = [asked("Be brief.", "5 +  4?"), asked("", "5 + 4?")]
    evaluation = material.write_jsonl(tmp_path / "mine.jsonl", rows)
    data = read_data(DataSettings(train_data=train, eval_data=evaluation))
    assert [question.text for question in data.trained_on] == ["6 + 3?"]


def test_choosing_settings_needs_problems_to_choose_by(policy: Policy, tmp_path: Path) -> None:
    few = material.write_parquet(tmp_path / "few.parquet", material.dapo_rows(material.problems(0, 1)))
    task = made(settings_of(tmp_path, train_data=few), policy)
    assert not belongs_to(task.training[0], "tune")
    with pytest.raises(UsageError, match="--eval_split tune: expected problems of --train_data"):
        task.held_out("tune", 8)


def test_prompts_over_the_limit_are_counted_and_reported(policy: Policy, tmp_path: Path) -> None:
    rows = material.dapo_rows([*material.problems(0, 4), ("What is " + "1 + " * 300 + "1?", "1")])
    changes = {"train_data": material.write_parquet(tmp_path / "t.parquet", rows)}
    task = made(settings_of(tmp_path, **changes, max_prompt_tokens=300), policy)
    assert (len(task.training), task.facts["data"]["training"]["too_long"]) == (4, 1)
    assert "; left out: 1 over --max_prompt_tokens" in data_lines(task.facts)[0]
    short = settings_of(tmp_path, **changes, max_prompt_tokens=5)
    for flag, trains in (("train_data", True), ("eval_data", False)):
        with pytest.raises(UsageError, match=f"prompts of --{flag} within it, but all"):
            math_task(read_data(short, trains), short, policy)


def test_other_data_than_a_runs_are_refused(task: MathTask, policy: Policy, tmp_path: Path) -> None:
    check_same_data(task.facts, task.facts)
    settings = settings_of(tmp_path)
    material.write_parquet(tmp_path / "aime24.parquet", material.dapo_rows(material.problems(11, 4)))
    with pytest.raises(UsageError, match="aime24: "):
        check_same_data(task.facts, made(settings, policy).facts)
