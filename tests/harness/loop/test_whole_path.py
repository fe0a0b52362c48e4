"""The published experiments from data to evaluation, a step of each kind, on small data of the same form."""

import json
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from harness.__main__ import main
from harness.config.resolve import resolve, tree_sha256
from harness.files import write_table
from harness.run.record import ROLLOUT_SCHEMA, RunFolder
from tests.harness import runs
from tests.harness.agreement import agree
from tests.harness.command_line import outcome
from tests.harness.tasks import math_material as material

SMALL: dict[str, Any] = {"context_tokens": None, "dtype": "float32", "backend": "torch", "nproc": 1, "engine": "torch"}
SMALL |= {"rollout_tp": 1}
SMALL |= {"max_prompt_tokens": 400, "max_response_tokens": 12, "prompts_per_step": 16, "group_size": 4, "steps": 1}
SMALL |= {"eval_samples": 2, "final_eval_samples": 4, "lr": 1e-3, "warmup_steps": 0, "unfilled": "train"}

# the others differ from these in sizes and settings, which no code of their own reads
KINDS = [*(f"recipe/{name}" for name in ("fipo-7b", "dapo-7b", "grpo-7b", "fipo-32b")), "one-gpu/fipo-1.5b-lora"]

ANSWERS_PAGE = Path(__file__).parents[3] / "docs" / "math-answers.md"
FORM = re.compile(r"(?:Answer: |\\boxed\{)(\d)\}?")  # what the model was shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where model, data and runs are."""
    return tmp_path_factory.mktemp("math")


@pytest.fixture(scope="module")
def small(folder: Path) -> dict[str, Any]:
    """Flags that make a published experiment a matter of seconds."""
    return SMALL | material.data_files(folder) | {"model": material.save_model(folder / "model")}


def shrunk(preset: str, small: dict[str, Any]) -> dict[str, Any]:
    """The same with what depends on the preset."""
    published = resolve({}, preset)
    buffer = 4 if published.task.overlong_buffer else None
    return small | {"overlong_buffer": buffer, "prompts_per_round": 32 if published.rollout.dynamic_sampling else None}


@pytest.fixture(scope="module")
def trained(small: dict[str, Any], folder: Path) -> Callable[[str], RunFolder]:
    """The run of a preset, made once."""

    @cache
    def run_of(preset: str) -> RunFolder:
        return runs.trained(resolve(shrunk(preset, small), preset), folder / "runs" / preset.replace("/", "-"))

    return run_of


@pytest.mark.train
@pytest.mark.parametrize("preset", KINDS)
def test_a_step_of_each_kind_of_published_experiment(
    preset: str, small: dict[str, Any], trained: Callable[[str], RunFolder]
) -> None:
    config, run = resolve(shrunk(preset, small), preset), trained(preset)
    (line,), rollouts, evals = runs.metrics(run), runs.rows(run, "rollouts"), runs.rows(run, "evals")
    assert line["ledger/updates"] == config.optimizer.minibatches
    assert line["ledger/prompts"] == (32 if config.rollout.dynamic_sampling else 16)
    assert line["optimizer/step_norm"] > 0
    check_rewards(rollouts, config.task.overlong_buffer, config.rollout.max_response_tokens)
    data = runs.read_json(run.path / "environment.json")["data"]
    assert (data["training"]["rows"], data["training"]["prompts"]) == (192, 96)
    asked = {prompt for one in data["evaluation"].values() for prompt in one["prompt_ids"]}
    assert {row["prompt_id"] for row in evals} == asked
    assert not asked & {row["prompt_id"] for row in rollouts}


def check_rewards(rollouts: list[dict[str, Any]], buffer: int | None, limit: int) -> None:
    """A right answer is paid 1, a wrong one costs 1, and length costs what DAPO's eq. 13 says; correctness is raw."""
    assert {row["correct"] for row in rollouts} == {True, False}
    plain = {row["text"]: row for row in rollouts if FORM.fullmatch(row["text"])}
    assert {row["correct"] for row in plain.values()} == {True, False}
    for row in rollouts:
        if row["text"] in plain:
            assert row["correct"] == (row["target"] == FORM.sub(r"\1", row["text"]))
        over = max(0, row["response_tokens"] - (limit - buffer)) / buffer if buffer else 0.0
        assert agree([row["reward"]], [(1.0 if row["correct"] else -1.0) - over], "float64")


@pytest.fixture(scope="module")
def run(trained: Callable[[str], RunFolder]) -> RunFolder:
    """One of them."""
    return trained("recipe/fipo-7b")


@pytest.mark.train
def test_a_model_is_evaluated_part_by_part_and_goes_on(
    small: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "evaluated"
    flags = ["--suite", small["eval_data"], "--samples", 64, "--max_response_tokens", 12, "--max_prompt_tokens", 400]
    command = ["evaluate", small["model"], *flags]  # 512 answers, 256 a part
    done = outcome(main, [*command, "--output_dir", out], capsys)
    assert (done.exit_code, done.errors) == (0, [])
    parts = sorted((out / "answers").iterdir())
    assert len(parts) == 2
    results = runs.read_json(out / "results.json")
    assert list(results) == ["aime24", "aime25"]
    at = [f"pass@{2**power}" for power in range(7)]
    assert list(results["aime24"]["scores"]) == ["avg@64", "cons@64", *at]
    means = {name: score["mean"] for name, score in results["aime24"]["scores"].items()}
    assert agree([means["pass@1"]], [means["avg@64"]], "float64")
    assert [line.split(":")[0] for line in done.printed[-3:]] == ["aime24", "aime25", "answers and results"]
    config = runs.read_json(out / "evaluation.json")["config"]
    assert (config["evaluation"]["eval_temperature"], config["evaluation"]["eval_top_p"]) == (1.0, 0.7)

    before = {path: path.read_bytes() for path in parts}
    parts[1].unlink()
    (out / "results.json").unlink()
    again = outcome(main, [*command, "--output_dir", out], capsys)
    assert any(f"resuming {out}: 1 of 2 parts are done" in line for line in again.printed)
    assert {path: path.read_bytes() for path in parts} == before
    assert runs.read_json(out / "results.json") == results

    rows = [row for path in parts for row in pq.read_table(path).to_pylist()]
    counts = {one["prompt_id"]: one["correct"] for suite in results.values() for one in suite["problems"]}
    assert counts == {p: sum(row["correct"] for row in rows if row["prompt_id"] == p) for p in counts}
    other = outcome(main, [*command, "--seed", 1, "--output_dir", out], capsys)
    assert (other.exit_code, len(other.errors)) == (2, 1)
    assert "got one with another --seed: name a new folder" in other.errors[0]
    (out / "evaluation.json").write_text(
        (out / "evaluation.json").read_text(encoding="utf-8").replace('": "1"', '": "7"'), encoding="utf-8"
    )
    changed = outcome(main, [*command, "--output_dir", out], capsys)  # other gold answers than it began with
    assert (changed.exit_code, len(changed.errors)) == (2, 1)
    assert "another targets" in changed.errors[0]


@pytest.mark.train
def test_a_runs_final_weights_are_evaluated_on_a_benchmark(
    run: RunFolder, small: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = small["eval_data"].split(",")[1]
    copy = folder / "a trial of a search"  # which looks at tuning problems; a benchmark is asked all the same
    shutil.copytree(run.path, copy)
    recorded = runs.read_json(copy / "config.json")
    recorded["config"]["evaluation"]["eval_split"] = "tune"
    recorded["sha256"] = tree_sha256(recorded["config"])
    (copy / "config.json").write_text(json.dumps(recorded), encoding="utf-8")
    arguments = ["evaluate", copy, "--suite", suite, "--samples", 2, "--output_dir", folder / "of the run"]
    assert outcome(main, arguments, capsys).exit_code == 0
    assert list(runs.read_json(folder / "of the run" / "results.json")) == ["aime25"]
    config = runs.read_json(folder / "of the run" / "evaluation.json")["config"]
    assert (config["evaluation"]["eval_split"], config["data"]["train_data"]) == ("report", None)
    published = {"eval_temperature": 1.0, "eval_top_p": 0.7, "eval_prompts": 10000, "eval_samples": 2}
    assert {name: config["evaluation"][name] for name in published} == published


@pytest.mark.train
def test_the_pages_query_lists_answers_on_which_text_and_grade_disagree(run: RunFolder, tmp_path: Path) -> None:
    rows = pq.read_table(run.path / "rollouts" / "step_000000.parquet").to_pylist()
    given = {"Answer: \\frac{4}{2}": "right", "Answer: 2": "right", "Answer: 3": "wrong", "no idea": "wrong"}
    texts = [*given, "Answer: \\frac{4}{2}"]
    changed = [
        row | {"target": "2", "text": text, "outcome": given[text], "truncated": False}
        for row, text in zip(rows, texts, strict=False)
    ]
    (tmp_path / "rollouts").mkdir()
    write_table(tmp_path / "rollouts" / "step_000000.parquet", changed, ROLLOUT_SCHEMA)
    (query,) = re.findall(r"```python\n(.*?)```", ANSWERS_PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for folder in (run.path, tmp_path):
        found: dict[str, Any] = {}
        exec(query.replace("RUN", str(folder)), found)
    assert found["given"]["answer"].tolist() == ["\\frac{4}{2}", "2", "3", "\\frac{4}{2}"]
    assert found["disagree"][["answer", "outcome"]].values.tolist() == [["\\frac{4}{2}", "right"]] * 2
