"""A run goes on, and is made again, with the prompts that it began with or not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.__main__ import main
from harness.config.schema import Config
from harness.loop import train
from tests.harness import runs
from tests.harness.backends.pairings import stop_after
from tests.harness.command_line import outcome
from tests.harness.model.networks import change_json
from tests.harness.tasks import math_material as material
from tests.harness.tiny import small_config

pytestmark = pytest.mark.train

Change = Callable[[Path], None]


def other_template(folder: Path) -> None:
    path = folder / "model" / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8").replace("helpful", "thorough"), encoding="utf-8")


def other_tokens(folder: Path) -> None:
    """The same texts in other tokens: all but the first merges are gone."""
    path = folder / "model" / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["merges"] = content["model"]["merges"][:10]
    path.write_text(json.dumps(content), encoding="utf-8")


def other_rope(folder: Path) -> None:
    """The same weights, another network."""
    parameters = {"rope_type": "default", "rope_theta": 500_000.0}
    change_json(folder / "model" / "config.json", rope_parameters=parameters)


def other_questions(folder: Path) -> None:
    material.write_parquet(folder / "train.parquet", material.dapo_rows(material.problems(500, 96), times=2))


def math_config(folder: Path, **changes: Any) -> Config:
    """A LoRA run, whose checkpoints hold neither model nor tokenizer."""
    task = {"task": "math", **material.data_files(folder), "max_prompt_tokens": 400, "max_response_tokens": 8}
    shape = {"lora_rank": 2, "control": "random_reward", "steps": 3, "checkpoint_every": 1}
    return small_config(str(folder / "model"), **task | shape | changes)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, data and such a run, stopped after two of three steps."""
    folder = tmp_path_factory.mktemp("stopped")
    material.save_model(folder / "model")
    with pytest.raises(Exception, match="stopped after 2 steps"):
        train(math_config(folder), folder / "run", stop_after(2))
    return folder


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_template, "prompts_sha256"),
        (other_tokens, "tokens_sha256"),
        (other_rope, "model_config_sha256"),
        (other_questions, "--train_data|train_prompts"),
    ],
)
def test_other_prompts_are_refused_before_anything_is_drawn(
    change: Change, named: str, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = stopped.with_name("kept")
    shutil.copytree(stopped, kept)
    try:
        change(stopped)
        for command in (["resume", stopped / "run"], ["reproduce", stopped / "run", "--output_dir", stopped / "again"]):
            done = outcome(main, command, capsys)
            assert (done.exit_code, len(done.errors)) == (2, 1)
            assert any(name in done.errors[0] for name in named.split("|"))
        assert not (stopped / "again").exists()
        assert len(list((stopped / "run" / "rollouts").iterdir())) == 2
    finally:
        shutil.rmtree(stopped)
        kept.rename(stopped)


def test_the_difference_is_named(stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other").mkdir()
    shutil.copytree(stopped / "model", tmp_path / "other" / "model")
    other_template(tmp_path / "other")
    config = math_config(tmp_path / "other", steps=1, prompt_date="2024-07-26")
    other = runs.trained(config, tmp_path / "run").path
    printed = outcome(main, ["diff", stopped / "run", other], capsys).printed
    for name in ("prompt_date", "train_prompts_sha256", "eval_prompts_sha256", "eval_tokens_sha256"):
        assert any(line.strip().startswith(f"{name}:") for line in printed), name
