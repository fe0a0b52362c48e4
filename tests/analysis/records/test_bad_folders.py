import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis.errors import RecordsError
from analysis.records.study import read
from tests.analysis import folders

RUN = "fipo-seed1"


def edit_line(number: int, text: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        lines[number - 1] = text
        (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")

    return damage


def change(number: int, **changes: object) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        row = json.loads(lines[number - 1]) | {key.replace("__", "/"): value for key, value in changes.items()}
        edit_line(number, json.dumps(row))(run)

    return damage


def written(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes(content) and None  # type: ignore[return-value]


def removed(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def table(**columns: list[object]) -> Callable[[Path], None]:
    return lambda run: pd.DataFrame(columns).to_parquet(run / "evals/step_000002.parquet")


def cut(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:-20]) and None  # type: ignore[return-value]


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (removed("config.json"), "config.json"),
    "no environment": (removed("environment.json"), "environment.json"),
    "an environment without prompts": (
        written("environment.json", b'{"data": {"evaluation": {"aime24": {}}}}'),
        "expected the prompt_ids of each benchmark",
    ),
    "half a config": (cut("config.json"), "config.json"),
    "a config of words": (written("config.json", b'{"schema_version": 1, "config": "small"}'), "config.json"),
    "another schema": (written("config.json", b'{"schema_version": 7}'), "schema_version 1"),
    "a status that is a list": (written("status.json", b"[]"), "status.json"),
    "a status of noise": (written("status.json", b"\xff\xfe\x00"), "status.json"),
    "no metrics": (removed("metrics.jsonl"), "metrics.jsonl"),
    "empty metrics": (written("metrics.jsonl", b""), "metrics.jsonl"),
    "noise as metrics": (written("metrics.jsonl", b"\x00\xffPAR1\n\x01"), "line 1 of"),
    "a broken line": (edit_line(1, '{"step": 0, "rollout/acc'), "line 1 of"),
    "a line that is a list": (edit_line(1, "[1, 2]"), "line 1 of"),
    "a word for a number": (change(2, rollout__accuracy="high"), "rollout/accuracy in line 2 of"),
    "a truth for a number": (change(1, rollout__accuracy=True), "rollout/accuracy in line 1 of"),
    "steps that fall": (change(2, step=0), "in line 2"),
    "other metrics": (written("metrics.jsonl", b'{"step": 0, "loss": 1}\n'), "was it written by harness?"),
    "half an evaluation": (cut("evals/step_000002.parquet"), "step_000002.parquet"),
    "an evaluation without columns": (table(step=[0]), "step_000002.parquet"),
    "an evaluation of words": (
        table(step=["x"], prompt_id=["p"], sample=[0], correct=[True], response_tokens=[1], truncated=[False]),
        "step_000002.parquet",
    ),
    "an evaluation with holes": (
        table(step=[2], prompt_id=["p"], sample=[0], correct=[None], response_tokens=[1], truncated=[False]),
        "step_000002.parquet, got holes",
    ),
    "no evaluation": (lambda run: shutil.rmtree(run / "evals"), "evals"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_run_is_one_line_that_names_the_file(damage: Callable[[Path], None], words: str, study: Path) -> None:
    damage(study / "runs" / RUN)
    with pytest.raises(RecordsError) as caught:
        read([study])
    assert words in str(caught.value)
    assert RUN in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["metrics.jsonl", "evals/step_000000.parquet", "config.json", "status.json"])
def test_a_file_cut_anywhere_reads_or_is_named(name: str, study: Path) -> None:
    """Never another exception, and never a run without one of its files."""
    path = study / "runs" / RUN / name
    whole = path.read_bytes()
    for end in range(0, len(whole), max(1, len(whole) // 10)):
        path.write_bytes(whole[:end])
        said, read_runs = "", set[str]()
        try:
            read_runs = set(read([study / "runs" / RUN]).folders)
        except RecordsError as error:
            said = str(error)
        assert RUN in said or (name == "metrics.jsonl" and RUN in read_runs)


def test_a_run_that_diverged_at_once_has_its_first_evaluation(study: Path) -> None:
    run = study / "runs" / RUN
    folders.let_diverge(run, 0)
    records = read([study])
    assert records.diverged == [RUN]
    assert RUN in set(records.evals["run"])
    assert RUN not in set(records.metrics["run"])


def mixed(study: Path, **changes: object) -> None:
    path = study / "runs" / RUN
    folders.write_json(path / "environment.json", folders.environment() | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_sha256": "c" * 64}, "other initial weights"),
        ({"eval_prompts_sha256": "c" * 64}, "other evaluation prompts"),
        ({"threads": 2}, "other numbers of threads"),
    ],
)
def test_mixed_runs_are_refused(changes: dict[str, object], words: str, study: Path) -> None:
    mixed(study, **changes)
    with pytest.raises(RecordsError, match=f"{words} in .*report them apart") as caught:
        read([study])
    assert RUN in str(caught.value)


@pytest.mark.parametrize("section", ["evaluation", "task"])
def test_runs_that_answer_otherwise_are_refused(section: str, study: Path) -> None:
    path = study / "runs" / RUN / "config.json"
    content = json.loads(path.read_text())
    content["config"][section] = {"eval_top_p": 0.7, "task": "another"}
    folders.write_json(path, content)
    with pytest.raises(RecordsError, match="expected runs that can be compared"):
        read([study])
