import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.__main__ import main
from analysis.figures import canvas as panels
from analysis.figures import claims as figures_claims
from analysis.figures import figures_ladder, figures_length, figures_microscope
from analysis.figures import outcomes as figures_outcomes
from analysis.figures import training as figures
from analysis.figures.chart import Chart
from analysis.figures.charts import charts
from analysis.records.outcomes import OUTCOMES
from analysis.records.provenance import source_of
from analysis.records.study import read_study
from analysis.report.comparison import report_html
from analysis.report.page import MOST_CSV_BYTES, Shown
from analysis.report.saving import with_palette
from analysis.report.tables import HEADINGS
from analysis.verdict.findings import findings
from tests.analysis import folders
from tests.analysis.page_check import check_page

FIGURES = {
    "learning_curves",
    "claims",
    "outcomes",
    "accuracy_against_tokens",
    "accuracy_against_length",
    "length_path",
    "training_dynamics",
    "response_lengths",
    "clipping_and_weights",
    "influence_weights",
    "microscope",
}
ROOT = Path(__file__).parents[2]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_figure_is_written_as_png_pdf_and_csv(demo_report: Path) -> None:
    names = {path.name for path in (demo_report / "figures").iterdir()}
    assert {f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf")} <= names
    for name in FIGURES:
        assert any(re.fullmatch(rf"{name}_\w+\.csv", other) for other in names)


def test_same_records_same_figures_in_a_process_with_other_hashes(
    demo_study: Path, demo_report: Path, tmp_path: Path
) -> None:
    only = ["--only", "learning_curves", "--only", "claims"]
    command = [sys.executable, "-W", "error", "-m", "analysis", "figures", str(demo_study), *only, "--output_dir"]
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    subprocess.run([*command, str(tmp_path)], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    again, first = files_of(tmp_path / "figures"), files_of(demo_report / "figures")
    assert len(again) == 2 * 2 + 2 + 1
    assert again == {name: first[name] for name in again}


def shown_of(chart: Chart, report: Path) -> Shown:
    paths = [report / f"figures/{chart.name}_{part}.csv" for part in chart.tables]
    tables = {path.name: path.read_bytes() if path.stat().st_size <= MOST_CSV_BYTES else None for path in paths}
    image = (report / f"figures/{chart.name}.png").read_bytes()
    return Shown(chart.name, chart.title, chart.caption, chart.alt, image, tables)


def test_same_records_same_report(demo_study: Path, demo_report: Path) -> None:
    study = read_study(demo_study)
    found, source = findings(study), source_of(study, str(demo_study))
    shown = [shown_of(chart, demo_report) for chart in charts(found)]
    assert report_html(found, shown, source) == (demo_report / "report.html").read_text()
    assert json.loads((demo_report / "verdict.json").read_text()) == found.verdict.as_json()


def test_the_last_lines_are_the_verdict_what_it_would_take_and_the_path(demo_report: Path) -> None:
    answer = json.loads((demo_report / "verdict.json").read_text())
    last = (demo_report.parent / "printed.txt").read_text().splitlines()[-3:]
    assert last == [answer["sentence"], answer["what_it_would_take"], str(demo_report / "report.html")]


def test_the_report_shows_every_figure_run_and_commit(demo_report: Path) -> None:
    html = (demo_report / "report.html").read_text()
    images = html.split("<figure>")[1:]
    assert len(images) == len(FIGURES)
    runs = [f"{arm}-seed{seed}" for arm in ("grpo", "dapo", "fipo", "blame") for seed in range(5)]
    claims = (demo_report.parent / "claims.toml").read_bytes()
    for image in images:
        assert f"commit {folders.COMMIT}" in image
        assert hashlib.sha256(claims).hexdigest() in image
        assert "python -m analysis figures " in image
        assert 'alt="' in image
        assert ".csv" in image
        assert all(run in image.split("</figure>")[0] for run in [*runs, "random_reward-seed2"])
        assert "grpo-seed5" not in image.split("</figure>")[0]


def test_the_report_lists_runs_that_did_not_enter(demo_report: Path) -> None:
    left_out = (demo_report / "report.html").read_text().split('id="not-used"')[1].split("</section>")[0]
    assert "grpo-seed5</td><td>failed</td><td>3</td><td>loss is &lt;nan&gt;" in left_out
    assert "grpo-seed6</td><td>not started" in left_out


def test_the_first_screen_answers(demo_report: Path) -> None:
    html = (demo_report / "report.html").read_text()
    first = html.split("<section")[0]
    assert 'class="verdict"' in first
    assert "AUC (primary)" in first
    assert first.count("<img") == 1
    assert "Runs left out: grpo-seed5 (failed), grpo-seed6 (not started)" in first


def test_the_report_is_whole_and_needs_no_network(demo_report: Path) -> None:
    html = (demo_report / "report.html").read_text()
    check_page(html)


def test_confounds_and_unclean_trees_are_said_plainly(study: Path) -> None:
    difference = {"field": "delta <10>", "values": {"dapo": None, "fipo": 10.0}, "allowed": False}
    description = json.loads((study / "study.json").read_text())
    folders.write_json(study / "study.json", description | {"family": "recipe", "differences": [difference]})
    environment = folders.environment() | {"commit": "f" * 40, "dirty_diff_sha256": "d" * 64}
    folders.write_json(study / "runs/fipo-seed0/environment.json", environment)
    found = findings(read_study(study))
    names = ["learning_curves", "outcomes"]
    shown = [Shown(chart.name, chart.title, chart.caption, chart.alt, b"", {}) for chart in charts(found, names)]
    html = report_html(found, shown, source_of(found.study, "study"))
    assert html.count("CONFOUNDED: the arms also differ in delta &lt;10&gt;.") == 2
    assert "2 different commits" in html
    assert "1 of 10 runs from a tree with uncommitted changes" in html


def test_regenerating_touches_only_its_own_files(demo_report: Path) -> None:
    own = {"report.html", "report.json", "verdict.json", "figures", "tables"}
    assert {path.name for path in demo_report.iterdir()} == own
    assert all(name.split(".")[0].startswith(tuple(FIGURES)) for name in files_of(demo_report / "figures"))


def test_a_folder_that_no_report_wrote_is_left_alone(study: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    assert main(["report", str(study), "--output_dir", str(tmp_path / "mine")]) == 2
    assert files_of(tmp_path / "mine") == {"notes.txt": b"mine"}


def test_figures_carry_their_source_in_their_files(demo_report: Path) -> None:
    with Image.open(demo_report / "figures/claims.png") as image:
        about = image.info["Description"]
    for words in (f"commit {folders.COMMIT}", "sha256", "--only claims", "fipo-seed4", "23 runs"):
        assert words in about
    assert b"--only claims" in (demo_report / "figures/claims.pdf").read_bytes()


def test_loose_runs_get_figures_without_a_study(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(study / "runs/dapo-seed0"), str(study / "runs/dapo-seed1")]
    only = ["--only", "outcomes", "--only", "claims"]
    assert main(["figures", *runs, *only, "--output_dir", str(tmp_path)]) == 0
    # One arm alone has no claim to draw.
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "figures/outcomes.png")]
    assert (tmp_path / "figures/outcomes.pdf").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "nowhere"], "expected a study folder with study.json, got nowhere"),
        (["figures", "nowhere"], "expected a study folder"),
        (["figures", "one", "two"], "expected a run or study with one/config.json"),
        (["report"], "required: RUNS"),
        (["draw"], "invalid choice"),
        ([], "required"),
    ],
)
def test_wrong_use_gets_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with_exit = None
    try:
        code = main(arguments)
    except SystemExit as left:
        code, with_exit = int(str(left.code)), left
    error = capsys.readouterr().err
    assert code == 2, with_exit
    assert words in error
    assert error.count("\n") == 1


def test_an_unknown_schema_version_is_one_line_and_writes_nothing(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    description = json.loads((study / "study.json").read_text())
    folders.write_json(study / "study.json", description | {"schema_version": 99})
    assert main(["report", str(study)]) == 2
    assert "expected schema_version 1" in capsys.readouterr().err
    assert not (study / "report").exists()


def test_an_output_that_is_a_file_is_one_line(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("mine")
    assert main(["report", str(study), "--output_dir", str(tmp_path / "taken")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "taken").read_text() == "mine"


MODULES = [figures, figures_claims, figures_ladder, figures_length, figures_microscope, figures_outcomes, panels]


@pytest.mark.parametrize("module", MODULES)
def test_figures_compute_no_statistic_read_nothing_and_save_nothing(module: object) -> None:
    source = inspect.getsource(module)  # type: ignore[arg-type]
    sources = r"analysis\.(statistics|records|outcomes|length|curves)|scipy|statsmodels|savefig|read_"
    forbidden = sources + r"|\.(mean|std|median|quantile)\("
    assert not re.search(forbidden, source)


def test_a_palette_keeps_frequent_colors_and_comes_near_to_rare_ones() -> None:
    few = np.zeros((40, 40, 3), dtype=np.uint8)
    few[:20] = (238, 238, 241)
    assert np.array_equal(np.asarray(with_palette(Image.fromarray(few)).convert("RGB")), few)
    many = np.random.default_rng(0).integers(0, 256, (60, 200, 3), dtype=np.uint8)
    many[:30] = (238, 238, 241)  # a band that must keep its grey among 6,000 other colours
    drawn = np.asarray(with_palette(Image.fromarray(many)).convert("RGB"))
    assert (drawn[:30] == many[:30]).all()
    assert np.abs(drawn.astype(int) - many).max() <= 64


def test_every_outcome_has_a_heading() -> None:
    assert set(HEADINGS) == set(OUTCOMES)
