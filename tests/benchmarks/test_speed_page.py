"""docs/speed.md says what a record says and nothing else, and the repository's page is that of its newest record."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import future_kl, padding, size, table
from benchmarks.__main__ import PARTS
from benchmarks.page import DOCS, drawn, main, written
from benchmarks.record import Record, newest_record, read_record
from benchmarks.sections import SECTIONS, markdown, page
from benchmarks.step import page as step
from benchmarks.table import Row, significant
from benchmarks.timing import Timing
from tests.harness.command_line import outcome

MACHINE = {
    "device": "Some CPU",
    "cpu_capability": "AVX512",
    "cores": 2,
    "threads": 1,
    "torch": "2.13.0",
    "transformers": "5.19.0",
    "trl": None,
    "cuda": None,
    "python": "3.11.7",
    "commit": "0123456789ab-dirty",
    "measured_at": "2026-01-02T03:04",
    "command": "python -m benchmarks --save",
}
MISSED = Row("make demo, warm start included", 345.6, "s", at_most=300)


def step_rows() -> Iterator[Row]:
    phases = ("generation", "log-probabilities", "update", "optimizer", "everything else")
    for number, form in enumerate(step.FORMS, start=1):
        whole = 10.0 * number
        made = {"trained_tokens": 8192, "cpu_s": whole, "wall_s": 1.1 * whole}
        spent = {"parts": dict(zip(phases, (4.0, 2.0, 3.5, 0.4, 0.1), strict=True)), "flops": {"generation": 1e11}}
        yield from step.beside(form, [made], [made | {"cpu_s": 4 * whole}])
        yield from step.parts(form, [made | spent], 1e11)


def sampling_rows() -> Iterator[Row]:
    yield Row("sampling, 64 tokens each: tokens per CPU second, median", 7e4, "", at_least=1.7, peer=3e4)
    for prompts, cost in ((4, 31.7), (256, 11.9)):
        yield Row(f"sampling, {prompts} prompts x 8: CPU time per token, minimum", cost, "us")


def future_kl_rows() -> Iterator[Row]:
    names = (future_kl.WHOLE, future_kl.SUM, future_kl.COPY, future_kl.MATRIX)
    for length in (1024, 4096):
        times = {
            name: Timing(2e-3 * length * place, 1e-3 * length * place) for place, name in enumerate(names, start=1)
        }
        yield from future_kl.of_length(length, times, 1e-3 * length, "cpu")


def made_up() -> Record:
    """All parts but the recording, whose section has another part."""
    growth = [size.Growth("CPU time", "ms", [1.0, 2.5]), size.Growth("peak memory", "MiB", [1.0, 2.0])]
    parts = {
        "step": list(step_rows()),
        "sampling": list(sampling_rows()),
        "padding": list(padding.figures("long", padding.of_long(4))),
        "size": list(size.figures("log-probabilities of a response, tokens", [1024, 2048], growth)),
        "overhead": [Row("the harness itself, of a step, tiny model", 4.2, "%", at_most=5.0)],
        "runs": [MISSED],
        "future_kl": list(future_kl_rows()),
        "losses": [Row("FIPO / DAPO at 4,096", 1.5, "times", at_most=1.6)],
    }
    return Record("speed-some-cpu.json", MACHINE, parts)


@pytest.fixture
def record() -> Record:
    return made_up()


def kept(record: Record, path: Path) -> Path:
    rows = [{"part": part} | dataclasses.asdict(row) for part, found in record.parts.items() for row in found]
    path.write_text(json.dumps({"machine": dict(record.machine), "rows": rows}), encoding="utf-8")
    return path


def test_every_part_has_one_section() -> None:
    parts = [part for section in SECTIONS for part in section.parts]
    assert set(PARTS) <= set(parts)
    assert len(parts) == len(set(parts))


def test_a_page_has_a_section_and_a_plot_for_what_was_measured(record: Record) -> None:
    plots = drawn(record)
    assert list(plots) == [name for section in SECTIONS for name in section.plots]
    assert all(image.startswith(b"\x89PNG") and len(image) < 100_000 for image in plots.values())
    text = page(record, plots)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        section.title for section in SECTIONS if record.rows(*section.parts)
    ]
    assert re.findall(r"\(figures/(\w+)\.png\)", text) == list(plots)


def test_what_was_not_measured_has_neither(record: Record) -> None:
    of_gpu = dataclasses.replace(record, parts={"future_kl": record.parts["future_kl"], "step": []})
    plots = drawn(of_gpu)
    assert list(plots) == ["speed_losses"]
    assert re.findall(r"^## (.+)$", page(of_gpu, plots), re.MULTILINE) == ["Losses"]


def test_a_missed_target_is_told_at_the_top_and_in_bold(record: Record) -> None:
    top, _, sections = page(record, ()).partition("\n## ")
    assert f"- **NOT MET**: {MISSED.figure}: 346 s, target at most 300" in top
    assert f"| {MISSED.figure} | 346 s | at most 300 | **NOT MET** |" in sections
    missed = [row for row in record.rows(*record.parts) if row.verdict == "NOT MET"]
    assert top.count("**NOT MET**") == len(missed) < sections.count("| met |")
    met = dataclasses.replace(record, parts={"losses": record.parts["losses"]})
    assert "All 1 targets are met." in page(met, ())


def test_the_machine_its_versions_and_the_date_are_told(record: Record) -> None:
    top = " ".join(page(record, ()).partition("\n## ")[0].split())
    for words in (
        "`python -m benchmarks --save`",
        "2026-01-02 at 03:04",
        "commit `0123456789ab` with uncommitted changes",
        "Some CPU (AVX512), 2 cores, 1 thread where",
        "Python 3.11.7, torch 2.13.0, transformers 5.19.0.",
        "benchmarks/results/speed-some-cpu.json",
    ):
        assert words in top
    assert "None" not in top


def test_the_same_record_gives_the_same_bytes(record: Record, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        path = kept(record, tmp_path / record.name)
        main([str(path), "--folder", str(folder)])
    one, other = ({p.name: p.read_bytes() for p in sorted(folder.rglob("*.*"))} for folder in folders)
    assert one == other
    assert len(one) == 1 + len(drawn(record))


def test_plots_of_an_earlier_record_are_taken_away(record: Record, tmp_path: Path) -> None:
    written(record, tmp_path)
    (tmp_path / "figures" / "learning_curves.png").write_bytes(b"")
    written(dataclasses.replace(record, parts={"runs": [MISSED]}), tmp_path)
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["learning_curves.png", "speed_runs.png"]


def test_every_number_of_the_tables_is_the_records(record: Record) -> None:
    rows = {row.figure: row for row in record.rows(*record.parts)}
    seen = set()
    for block in re.findall(r"(?:^\|.*\n)+", page(record, ()), re.MULTILINE):
        head, _, *lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines()]
        for line in lines:
            cells = dict(zip((name.strip() for name in head), line, strict=True))
            row = rows[cells["figure"]]
            seen.add(row.figure)
            for name, value in (("ours", row.value), ("peer", row.peer), ("floor", row.floor), ("ratio", row.ratio)):
                assert cells.get(name, "").partition(" ")[0] == significant(value)
            assert cells.get("target", "") == row.target
            assert cells.get("met", "").strip("*") == row.verdict
    assert seen == set(rows)


def test_no_figure_is_written_by_hand() -> None:
    for section in SECTIONS:
        words = " ".join([section.title, section.words, *section.plots.values()])
        assert not re.search(r"\d", re.sub(r"float\d+", "", words))


def test_columns_that_no_row_fills_are_left_out() -> None:
    assert markdown([Row("a", 1.25, "s")]) == "| figure | ours |\n| --- | ---: |\n| a | 1.25 s |"


def test_the_newest_record_is_the_last_that_was_measured(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    kept(record, tmp_path / "speed-z.json")
    later = kept(
        dataclasses.replace(record, machine=MACHINE | {"measured_at": "2026-01-03T00:00"}), tmp_path / "speed-a.json"
    )
    assert newest_record() == later
    assert read_record(later).rows("runs") == [MISSED]


@pytest.mark.parametrize("content", [None, '{"machine": {}, "rows": [{"figure": "a"}]}'])
def test_what_is_no_record_is_refused_in_one_line(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "record.json"
    if content:
        path.write_text(content, encoding="utf-8")
    refused = outcome(main, [str(path)], capsys)
    assert refused.exit_code == 2
    assert len(refused.errors) == 1


def test_without_a_record_there_is_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    refused = outcome(main, [], capsys)
    expected = "error: expected a record benchmarks/results/speed-*.json, found none: run make bench"
    assert (refused.exit_code, refused.errors) == (2, [expected])


def test_the_repositorys_page_is_that_of_its_newest_record() -> None:
    record = read_record(newest_record())
    plots = drawn(record)
    assert (DOCS / "speed.md").read_text(encoding="utf-8") == page(record, plots)
    assert sorted(path.stem for path in (DOCS / "figures").glob("speed_*.png")) == sorted(plots)
