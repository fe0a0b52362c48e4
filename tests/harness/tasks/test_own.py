"""A task and rewards of the user's own: the page's example, what is recorded of them, and how they fail."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from harness.__main__ import main
from harness.compare.repeat import reproduce
from harness.config.resolve import resolve
from harness.errors import HarnessError, UsageError
from harness.loop import train
from harness.resume import resume
from harness.run.history import read_history
from harness.tasks.drawn import DrawnTask, drawn_task
from harness.tasks.own_files import own_files
from harness.tasks.rewards import rewards_of
from harness.tasks.task import Question, belongs_to
from harness.tasks.worked_sums import WorkedSums
from tests.harness import runs
from tests.harness.tasks import math_material as material

PAGE = Path(__file__).parents[3] / "docs/your-own-task.md"
TASK, REWARDS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
SMALL: dict[str, Any] = {"prompts_per_step": 4, "group_size": 4, "minibatches": 2, "steps": 2, "eval_prompts": 4}
SMALL |= {"max_prompt_tokens": 200, "max_response_tokens": 6, "final_eval_samples": 1, "give_up_after": None}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return material.save_model(tmp_path_factory.mktemp("own") / "model")


def settings(folder: Path, model: str, **changes: Any) -> dict[str, Any]:
    """Flags of a run of the page's task and reward, whose files are written into the folder."""
    (folder / "my_task.py").write_text(TASK, encoding="utf-8")
    (folder / "my_rewards.py").write_text(REWARDS, encoding="utf-8")
    own = {"task": f"{folder}/my_task.py:Multiples", "reward": f"{folder}/my_rewards.py:correct=1.0,brevity=0.5"}
    return SMALL | {"loss_type": "fipo", "model": model} | own | changes


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("my_rewards.py", "def brevity(response, answer): ...", "--reward: brevity failed on '': TypeError"),
        ("my_rewards.py", "def brevity(prompt, response, answer): return float('nan')", "expected a finite number"),
        ("my_task.py", TASK.replace("return bool", "return 3 if not response else bool"), r"grade\(\)"),
    ],
)
def test_what_fails_at_the_first_try_is_wrong_use_and_leaves_no_run(
    tmp_path: Path, model: str, name: str, text: str, words: str
) -> None:
    given = settings(tmp_path, model)
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        runs.trained(resolve(given), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def spoil(folder: Path) -> None:
    """The user goes on editing."""
    (folder / "my_task.py").write_text("raise SystemError", encoding="utf-8")
    (folder / "my_rewards.py").unlink()


@pytest.mark.train
def test_the_pages_task_and_reward_are_trained_recorded_reproduced_and_resumed(tmp_path: Path, model: str) -> None:
    config = resolve(settings(tmp_path, model))
    run = runs.trained(config, tmp_path / "run")
    assert (run.path / "code/my_task.py").read_text(encoding="utf-8") == TASK
    rows = runs.rows(run, "rollouts")
    for row in rows:
        brevity = max(0.0, 1.0 - len(row["text"]) / 200)
        assert dict(row["rewards"]) == {"correct": 1.0 if row["correct"] else -1.0, "brevity": brevity}
        assert row["reward"] == pytest.approx(dict(row["rewards"])["correct"] + 0.5 * brevity)
    means = [line["reward/brevity"] for line in runs.metrics(run)]
    of_first = [dict(row["rewards"])["brevity"] for row in rows if row["step"] == 0]
    assert means[0] == pytest.approx(sum(of_first) / len(of_first))

    stopped = stop_after_one(settings(tmp_path, model, checkpoint_every=1), tmp_path / "stopped")
    spoil(tmp_path)
    assert reproduce(read_history(run.path), tmp_path / "again", 2, runs.ignore) is None
    evaluated = ["evaluate", run.path, "--samples", "1", "--eval_prompts", "4", "--output_dir"]
    main([*map(str, evaluated), str(tmp_path / "scores")])
    suite = material.data_files(tmp_path)["eval_data"].split(",")[0]
    main([*map(str, evaluated), str(tmp_path / "suite"), "--suite", suite, "--max_prompt_tokens", "400"])
    assert all((tmp_path / name / "results.json").is_file() for name in ("scores", "suite"))
    looked = ["microscope", run.path, "--losses", "fipo_wide", "--steps", "1", "--updates", "1", "--continuations", "2"]
    main([*map(str, looked), "--responses", "16", "--group", "4", "--prefixes", "2"])
    assert (run.path / "microscope/step_000001.json").is_file()
    again = resume(stopped, runs.ignore)
    assert [row["text"] for row in runs.rows(again, "rollouts")] == [row["text"] for row in rows]

    (tmp_path / "again/code/my_task.py").write_text(TASK + "\n", encoding="utf-8")
    (tmp_path / "again/status.json").write_text('{"state": "preempted"}', encoding="utf-8")
    with pytest.raises(UsageError, match="expected the task code that the run began with"):
        resume(tmp_path / "again", runs.ignore)


def stop_after_one(flags: dict[str, Any], path: Path) -> Path:
    class Enough(Exception): ...

    def stop(_metrics: Any) -> None:
        raise Enough

    with pytest.raises(Enough):
        train(resolve(flags), path, stop)
    return path


def drawn(**flags: Any) -> DrawnTask:
    return drawn_task(resolve({"model": "any", **flags}), material.answering_policy())


def test_drawn_questions_are_split_and_the_same_for_a_seed() -> None:
    task = drawn(**SMALL, task="worked_sums")
    held_out = task.held_out("report", 8)
    assert held_out == task.held_out("report", 8)
    assert all(belongs_to(problem, "report") for problem in held_out)
    assert "You add numbers." in held_out[0].prompt


@pytest.mark.parametrize(
    ("response", "right", "wrong_step"),
    [
        ("3 + 8 = 11\n11 + 5 = 16", True, None),
        ("3 + 8 = 12\n12 + 5 = 17", False, "3 + 8 = 12\n"),
        ("3 + 8 = 11\n11 + 4 = 15", False, "11 + 4 = 15"),
        ("3 + 8 = 11", False, "3 + 8 = 11"),
        ("16", True, "16"),
        ("3 + 8 = 11\nso\n16", True, "so\n"),
        ("", False, None),
    ],
)
def test_worked_sums(response: str, right: bool, wrong_step: str | None) -> None:
    task, question = WorkedSums(), Question("3 + 8 + 5", "16")
    assert task.grade(question, response) is right
    span = task.first_wrong_step(question, response)
    assert (span and response[slice(*span)]) == wrong_step
    assert "".join(response[slice(*step)] for step in task.steps(response)) == response


QUESTION = "    def question(self, generator):\n        return Question(str(generator.integers(9999)), '1')\n"
GRADE = "    def grade(self, question, response):\n        return response == '1'\n"
HEAD = "import random\nfrom harness.tasks.task import Grade, Question\nclass Mine:\n"


def mine(question: str = "str(generator.integers(9999))", grade: str = "response == '1'") -> str:
    """A task with other expressions for the question's text and for the grade."""
    return HEAD + QUESTION.replace("str(generator.integers(9999))", question) + GRADE.replace("response == '1'", grade)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (None, "No such file or directory"),
        ("import nothing_of_the_name", r"does not run: ModuleNotFoundError: .*, line 1"),
        ("x = (", "does not run: SyntaxError: .*, line 1"),
        (mine().replace("Mine", "Other"), "expected Mine in .*my.py, which has Other: name one"),
        (HEAD + QUESTION, "expected the methods question, grade, got no grade"),
        (mine("1 / 0"), "ZeroDivisionError.*, line 5"),
        (mine("str(random.random())"), "the same question from the same generator"),
        (mine(grade="True"), "an empty response wrong"),
        (mine(grade="Grade('correct')"), "a valid Grade for ''"),
        (mine("5"), "a Question of two texts"),
        ("import sys\nsys.exit(3)", "does not run: SystemExit: 3, line 2"),
        ("import beside", "imports beside from its own folder"),
        (mine(grade="response.nothing"), "failed on '': AttributeError.*, line 7"),
    ],
)
def test_a_faulty_task_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str | None, words: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "beside.py").touch()
    if code is not None:
        (tmp_path / "my.py").write_text(code, encoding="utf-8")
    with pytest.raises(HarnessError, match=words) as raised:
        drawn(task=f"{tmp_path}/my.py:Mine").self_test()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("value", "number"), [("numpy.float32(0.5)", 0.5), ("numpy.int64(2)", 2.0), ("True", 1.0)])
def test_numbers_of_any_kind_are_rewards(tmp_path: Path, value: str, number: float) -> None:
    (tmp_path / "my.py").write_text(f"import numpy\ndef mine(prompt, response, answer):\n    return {value}\n")
    assert rewards_of(f"{tmp_path}/my.py:mine=2").parts("", "", "", 1.0) == {"mine": number}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("1 / 0", "--reward: mine failed on 'so it is': ZeroDivisionError: division by zero, line 2"),
        ("import numpy; return numpy.zeros((2, 2))", "expected a finite number .*, got array"),
        ("return float('nan')", "expected a finite number for the response 'so it is', got nan"),
        ("return [1.0]", r"expected a finite number for the response 'so it is', got \[1.0\]"),
        ("pass", "got None"),
    ],
)
def test_a_faulty_reward_ends_the_run_naming_function_and_response(tmp_path: Path, body: str, words: str) -> None:
    (tmp_path / "my.py").write_text(f"def mine(prompt, response, answer):\n    {body}\n", encoding="utf-8")
    rewards = rewards_of(f"{tmp_path}/my.py:mine=1,correct=2")
    with pytest.raises(HarnessError, match=words) as raised:
        rewards.parts("What?", "so it is", "5", 1.0)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"task": "maths"}, "--task: expected graded_chain_sum, .*FILE.py:CLASS, got 'maths'"),
        ({"task": "my_task.py"}, "FILE.py:CLASS"),
        ({"task": "worked_sums", "task_settings": "[1]"}, "--task_settings: expected a JSON object"),
        ({"task_settings": "{}"}, "--task_settings needs a task with arguments, got graded_chain_sum"),
        ({"reward": "my.py:brevity=0"}, "a finite weight other than 0"),
        ({"reward": "my.py:brevity=1e999"}, "a finite weight other than 0"),
        ({"reward": "my.py:a=1,a=2"}, "expected each name once"),
        ({"reward": "my.py:brevity=much"}, "--reward: expected FILE.py:NAME=WEIGHT"),
    ],
)
def test_mistyped_flags(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve(flags)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"task_settings": '{"smallest": 1}'}, "--task worked_sums with --task_settings .*smallest"),
        ({"task_settings": '{"largest": 3}'}, "lower --eval_prompts or --prompts_per_step, or make more questions"),
        ({"max_prompt_tokens": 8}, "--max_prompt_tokens 8: expected prompts within it, got 100 longer ones"),
    ],
)
def test_settings_that_a_task_cannot_do_are_refused(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        drawn(task="worked_sums", **flags).held_out("report", 64)


def test_reasoning_gym_missing_is_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install reasoning-gym==0\.1\.25"):
        drawn(task="reasoning_gym:countdown")


def test_files_of_one_name_in_two_folders_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").touch()
    config = resolve({"model": "any", "task": f"{tmp_path}/a/mine.py:T", "reward": f"{tmp_path}/b/mine.py:r=1"})
    with pytest.raises(UsageError, match=r"named otherwise than --task's, got two named mine\.py"):
        own_files(config)


def test_held_out_questions_do_not_depend_on_how_the_path_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_task.py").write_text(TASK, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    spelled = [f"{tmp_path}/my_task.py:Multiples", "my_task.py:Multiples", "./my_task.py:Multiples"]
    first, *others = [drawn(task=name).held_out("report", 256) for name in spelled]  # as many as by default
    assert others == [first, first]
