import json
import re
from pathlib import Path

import pytest

from harness.__main__ import main
from tests.harness.command_line import outcome
from tests.harness.preflight.test_findings import SWIFT, VERL


def test_published_dapo_and_fipo_differ_in_more_than_the_loss(
    launches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [launches / "dapo_32b.sh", launches / "fipo_32b.sh"]
    done = outcome(main, ["preflight", *files, "--json"], capsys)
    read = json.loads("\n".join(done.printed))
    confounds = [one for one in read["differences"] if one["kind"] == "confound"]
    assert (done.exit_code, done.errors) == (1, [])
    assert [(one["name"], one["values"], one["lines"]) for one in confounds] == [
        ("responses per update", [512, 1024], [39, 39]),
        ("updates per rollout", [16, 8], [39, 39]),
        ("prompts per sampling round", [1536, 2048], [18, 18]),
    ]
    losses = {one["name"]: one["values"] for one in read["differences"] if one["kind"] == "loss"}
    assert losses["loss_type"] == ["dapo", "fipo"]
    assert losses["fipo_safety_threshold"] == [None, 10.0]
    assert not losses.keys() & {"epsilon", "epsilon_high", "delta", "beta", "averaging"}
    printed = "\n".join(outcome(main, ["preflight", *files], capsys).printed).replace(f"{launches}/", "")
    page = (Path(__file__).parents[3] / "docs/preflight.md").read_text(encoding="utf-8")
    example = re.search(r"^    \.\.\.\n(.*?)^\w", page, re.M | re.S)
    assert example is not None
    lines = [line.strip() for line in example[1].splitlines() if "--fipo_" not in line]  # these name Python's place
    assert len(lines) > 40
    assert {*lines} <= {line.strip() for line in printed.splitlines()}


def test_launches_of_two_libraries_are_compared(launches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = outcome(main, ["preflight", launches / "clean_trl.yaml", launches / "clean_swift.sh", "--json"], capsys)
    read = json.loads("\n".join(done.printed))
    rows = {one["name"]: one["values"] for one in read["differences"]}
    assert [one["settings"]["responses_per_update"] for one in read["launches"]] == [None, 128]
    expected = {"averaging": ["sequence_mean", "token_mean"], "delta": [None, 10], "beta": [0.0, 0.04]}
    expected |= {"updates per rollout": [2, 4], "schedule of the rate": ["linear", "cosine"]}
    assert {name: rows[name] for name in expected} == expected
    assert not {"top_k", "LoRA rank", "dynamic sampling"} & rows.keys()  # off in both, under other names of off


PYTHON = "GRPOTrainer('a/b', reward, GRPOConfig(gradient_accumulation_steps=4, weight_decay=0), load_dataset('c/d'))"


@pytest.mark.parametrize(
    ("other", "processes", "expected"),  # rows: their kinds and values
    [
        (
            "GRPOTrainer(get(), reward, GRPOConfig(gradient_accumulation_steps=8), load_dataset('c/d'))",
            [],
            {"gradient_accumulation_steps": ("confound", [4, 8]), "model": ("confound", ["a/b", "get()"])},
        ),
        (
            VERL + "optim.weight_decay=0.1 data.train_files=c/d",
            [],
            {
                "responses per update": ("unknown", [None, 2048]),
                "model": ("confound", ["a/b", "~/models/deepseek-llm-7b-chat"]),
                "weight decay": ("confound", [0, 0.1]),
                "reward": ("confound", ["reward", "naive"]),
            },
        ),
        (SWIFT + "--dataset c/d", ["--processes", "2"], {"responses per update": ("confound", [64, 8])}),
        (SWIFT + "--dataset x", [], {"model": ("unknown", ["a/b", None]), "training data": ("confound", ["c/d", "x"])}),
    ],
)
def test_a_value_that_is_not_known_is_no_confound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str, processes: list[str], expected: dict[str, object]
) -> None:
    (tmp_path / "one.py").write_text(PYTHON)
    theirs = tmp_path / ("two.py" if "GRPOConfig" in other else "two.sh")
    theirs.write_text(other)
    done = outcome(main, ["preflight", tmp_path / "one.py", theirs, "--json", *processes], capsys)
    read = json.loads("\n".join(done.printed))
    rows = {one["name"]: (one["kind"], one["values"]) for one in read["differences"]}
    assert {name: rows[name] for name in expected} == expected
    assert "training data" not in rows or "training data" in expected


@pytest.mark.parametrize(
    ("ours", "theirs", "code", "label"),
    [
        ("--learning_rate $LR", "--learning_rate 1e-5", 1, "UNKNOWN"),
        ("--learning_rate $LR", "--learning_rate $LR", 0, None),
        ("--learning_rate 1e-6", "--learning_rate 1e-5", 1, "CONFOUND"),
        ("--no_shuffle_dataset", "--shuffle_dataset=false", 0, None),
        ("--use_peft --lora_r 8", "--use_peft yes --lora_r 8", 0, None),
    ],
)
def test_what_may_confound_a_comparison_fails_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ours: str, theirs: str, code: int, label: str | None
) -> None:
    (tmp_path / "one.sh").write_text(f"trl grpo --num_iterations 2 --seed 1 {ours}")
    (tmp_path / "two.sh").write_text(f"trl grpo --num_iterations 2 --seed 1 {theirs}")
    files = [tmp_path / "one.sh", tmp_path / "two.sh"]
    done = outcome(main, ["preflight", *files], capsys)
    assert (done.exit_code, done.printed[-1].endswith(f"1 {label}".lower())) == (code, label is not None)
    assert [line.split()[-1] for line in done.printed if line.startswith("learning rate")] == ([label] if label else [])
    read = json.loads("\n".join(outcome(main, ["preflight", *files, "--json"], capsys).printed))
    kinds = [one["kind"] for one in read["differences"]]
    assert kinds == ([label.lower()] if label else [])


def test_the_exit_code_stands_in_the_help_and_on_the_pages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["preflight", "--help"])
    docs = Path(__file__).parents[3] / "docs"
    texts = [capsys.readouterr().out, (docs / "preflight.md").read_text(), (docs / "commands.md").read_text()]
    for text in texts:
        assert re.search(r"an error, a warning, a confound or an unknown difference", " ".join(text.split()))
