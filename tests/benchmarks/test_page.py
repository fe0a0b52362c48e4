"""The table, the record and docs/speed.md say what was measured and nothing else."""

import re
from pathlib import Path

import pytest
import torch

from benchmarks import page
from benchmarks.page import Record, Row, read, significant, table
from benchmarks.step import report as step

MISSED = Row("a loss beside another", 6.0, "1/s", peer=6.5, target=1.0)
MACHINE = {
    "device": "Some CPU",
    "cpu_capability": "AVX512",
    "cores": 2,
    "torch": "2.13.0",
    "transformers": "5.19.0",
    "python": "3.11.7",
    "commit": "0123456789ab-dirty",
    "measured_at": "2026-01-02T03:04",
}


@pytest.fixture
def record() -> Record:
    """Made up: ours trains 100 tokens in 1, 2 and 4 seconds, TRL half as many; FLOPs fit a limit of 400 tokens/s."""
    flops = {"generation": 1e9, "update": 3e9}
    ours = [
        {"trained_tokens": 100, "cpu_s": s, "phases": {"generation": s / 4, "update": 3 * s / 4}, "flops": flops}
        for s in (1.0, 2.0, 4.0)
    ]
    theirs = [{"trained_tokens": 50, "cpu_s": s} for s in (1.0, 2.0, 4.0)]
    rows = list(step.figures(step.FORMS[0], ours, theirs, rate=16e9))
    return Record("speed-some-cpu.json", MACHINE, [*rows, MISSED])


@pytest.mark.parametrize(
    ("row", "ratio", "last"),
    [
        (Row("a", 10.0, peer=5.0, limit=40.0, target=2.0), 2.0, ("2", "0.25", "at least 2: met")),
        (MISSED, 6.0 / 6.5, ("0.923", "", "at least 1: NOT MET")),
        (Row("a", 1.0), None, ("", "", "")),
    ],
)
def test_ours_is_compared_with_peer_limit_and_target(row: Row, ratio: float | None, last: tuple[str, ...]) -> None:
    assert row.ratio == ratio
    assert row.cells()[-3:] == last


def test_columns_that_no_row_fills_are_left_out() -> None:
    assert (
        table([Row("a", 1.25, "s")]) == "| figure | ours | unit |\n| ------ | ---- | ---- |\n| a      | 1.25 | s    |"
    )


def test_a_step_is_set_beside_trls_and_the_machines_limit(record: Record) -> None:
    first, generation, update, _ = record.rows
    assert (first.ours, first.peer, first.ratio) == (50.0, 25.0, 2.0)
    assert first.limit == 16e9 * 100 / 4e9
    assert (generation.ours, update.ours) == (25.0, 75.0)
    assert generation.limit == pytest.approx(100 * 3 * 1e9 / 16e9 / 7.0)


def test_the_page_says_what_the_record_says(record: Record) -> None:
    text = page.page(record)
    top = " ".join(text.partition("\n## ")[0].split())
    for words in (
        "2026-01-02 at 03:04, commit `0123456789ab-dirty`: Some CPU (AVX512), 2 cores;",
        "Python 3.11.7, torch 2.13.0, transformers 5.19.0. What",
        "benchmarks/results/speed-some-cpu.json",
        "Targets missed: 1 of 2.",
    ):
        assert words in top
    assert "None" not in text
    for row in record.rows:
        assert significant(row.ours) in text
    assert "| tiny model, 64 tokens each | 25 (2.68) | 75 (8.04) |" in text


def test_the_repositorys_page_is_that_of_the_record_that_it_names() -> None:
    text = (page.ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    (name,) = re.findall(r"benchmarks/results/(speed-.+\.json)", text)
    assert text == page.page(read(page.RESULTS / name))
    assert len(text.split()) <= 900


def test_what_is_saved_is_read_again_with_hardware_and_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    found = page.save([MISSED])
    assert read(tmp_path / found.name) == found
    assert found.rows == [MISSED]
    assert found.machine["torch"] == torch.__version__
    assert found.machine["device"]
