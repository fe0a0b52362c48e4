import re
import signal
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pyarrow.parquet as pq
import pytest

from harness.__main__ import main
from harness.cli.parser import kind
from harness.config.schema import section_of, sections
from tests.harness import runs
from tests.harness.command_line import outcome
from tests.harness.tiny import small_flags
from tests.waiting import wait_until


@pytest.fixture
def train_help(capsys: pytest.CaptureFixture[str]) -> str:
    """What `train --help` prints, in one line."""
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help"])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_lists_every_setting_with_its_description_and_what_it_takes(train_help: str) -> None:
    for section in sections().values():
        for name, field in section.model_fields.items():
            takes = f"[{kind(field.annotation)}]" if field.annotation is bool else kind(field.annotation)
            assert f"--{name} {takes} {field.description}" in train_help
    for shown in (
        "--loss_type grpo|dapo|",
        "--steps int ",
        "--delta float|none ",
        "--fipo_clip_high_only [true|false] ",
    ):
        assert shown in train_help


def test_help_shows_defaults_as_flags_spell_them(train_help: str) -> None:
    shown = dict(re.findall(r"--(\w+) (?!--)\S+ (?:(?! --\w+ ).)*?\(default: ([^)]*)\)", train_help))
    expected = {"seed": "0", "threads": "1", "epochs": "1", "beta": "0.0", "delta": "none", "temperature": "1.0"}
    expected |= {"allow_inert": "false", "fipo_clip_high_only": "true", "loss_type": "grpo", "steps": "20"}
    assert {name: shown[name] for name in expected} == expected
    assert shown.keys() == section_of().keys()


@pytest.mark.train
def test_the_published_pages_spelling_works_and_what_was_trained_is_not_trained_over(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = small_flags(model_folder, loss_type="fipo", steps=1, eval_every=2, output_dir=tmp_path / "run")
    page = ["--fipo_clip_high_only", "true", "--delta", "None", "--fipo_decay_rate", "32.0", "--epsilon", "0.2"]
    code, printed, errors = outcome(main, ["train", *flags, *page], capsys)
    assert (code, errors) == (0, [])
    assert sum("--delta 10" in line for line in printed) == 1
    assert sum(line.startswith("step 1/1  reward ") for line in printed) == 1
    assert sum(line.startswith(f"training {model_folder} (") for line in printed) == 1
    recorded = runs.read_json(tmp_path / "run" / "config.json")["config"]["loss"]
    assert (recorded["delta"], recorded["fipo_clip_high_only"], recorded["fipo_decay_rate"]) == (None, True, 32.0)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, printed, errors = outcome(main, ["train", *flags], capsys)
    assert (code, [line for line in printed if not line.startswith("note: ")], len(errors)) == (2, [], 1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.train
def test_what_may_follow_a_run_works_as_it_is_printed(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    *_, finished, report, evaluate, ui = outcome(
        main, ["train", *small_flags(model_folder, steps=2, output_dir=run)], capsys
    ).printed
    first, last = (
        fmean(row["correct"] for row in pq.read_table(run / "evals" / f"step_00000{step}.parquet").to_pylist())
        for step in (0, 2)
    )
    assert finished == f"finished: {run}; held-out accuracy {first:.3f} before, {last:.3f} after 2 steps"
    for line in (report, evaluate):
        subprocess.run(line.partition(":")[2], shell=True, check=True, capture_output=True)
    assert (tmp_path / "run-report" / "report.html").is_file()
    assert (tmp_path / "run-scores" / "results.json").is_file()
    assert ui.endswith(f" -m sweeps ui {tmp_path}")


@pytest.mark.train
def test_a_stopped_run_goes_on_with_the_command_that_it_prints(model_folder: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [sys.executable, "-m", "harness", "train", *small_flags(model_folder, steps=60, output_dir=run)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: (run / "metrics.jsonl").is_file() or process.poll() is not None, "no step")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 75
    (resume,) = re.fullmatch(r"stopped by SIGINT after \d+ of 60 steps; resume with: (.*)\n", said).groups()
    subprocess.run(resume, shell=True, check=True, capture_output=True)
    assert runs.read_json(run / "status.json")["state"] == "finished"


@pytest.mark.parametrize(
    ("flags", "notes"),
    [
        ("--loss_type fipo --delta 10 --epsilon_high 0.28", []),
        ("--loss_type fipo --epsilon_high 0.28", ["--delta none means neither dual clip"]),
        ("--loss_type dapo", ["--epsilon_high 0.2 is the published page's default; DAPO and FIPO have 0.28"]),
        ("--loss_type grpo --fipo_decay_rate 8", ["--fipo_decay_rate has no effect with --loss_type grpo"]),
        ("--loss_type cispo --epsilon_high 5", ["--epsilon_high has no effect with --loss_type cispo"]),
        ("--loss_type cispo --delta 5 --sequence_filter", []),
        ("--loss_type gspo --minibatches 1", ["with one update per rollout every ratio is 1"]),
    ],
)
def test_notes_are_given_where_they_concern_the_run(
    capsys: pytest.CaptureFixture[str], flags: str, notes: list[str]
) -> None:
    done = outcome(main, ["train", *flags.split(), "--dry_run"], capsys)
    found = [line.removeprefix("note: ") for line in done.printed if line.startswith("note: ")]
    assert [line.startswith(note) for line, note in zip(found, notes, strict=True)] == [True] * len(notes)


@pytest.mark.train
def test_evaluate_answers_into_a_folder_of_its_own(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, answers = tmp_path / "run", tmp_path / "answers"
    outcome(main, ["train", *small_flags(model_folder, steps=1, output_dir=run)], capsys)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    arguments = ["evaluate", run, "--samples", "3", "--output_dir", answers]
    code, printed, errors = outcome(main, arguments, capsys)
    assert (code, errors) == (0, [])
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    rows = pq.read_table(answers / "answers" / "part_000000.parquet").to_pylist()
    assert len(rows) == 8 * 3
    accuracy = sum(row["correct"] for row in rows) / len(rows)
    assert any(line.startswith(f"graded_chain_sum: avg@3 {accuracy:.4f} (se ") for line in printed)
    assert printed[-1] == f"answers and results: {answers}"
    for empty in (["--suite", "none"], ["--suite", ""], ["--eval_data", "none"], ["--suite", ","]):
        refused = outcome(main, ["evaluate", run, *empty, "--output_dir", tmp_path / "none"], capsys)
        assert (refused.exit_code, refused.printed, len(refused.errors)) == (2, [], 1)
        assert "got none: name " in refused.errors[0]
    assert not (tmp_path / "none").exists()
