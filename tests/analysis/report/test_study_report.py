"""The report of a comparison, made by the command."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from analysis.__main__ import main
from analysis.figures.catalogue import STUDY, study_figures
from analysis.records.provenance import environment_rows
from analysis.records.study import read
from analysis.report.page import Shown
from analysis.report.study import study_page, study_source
from analysis.verdict.findings import findings
from analysis.verdict.sentences import headline, statement
from tests.analysis import folders
from tests.analysis.page_check import check_page

FIGURES = set(STUDY) - {"levels", "gains", "ladder", "retries", "credit"}  # what the demo has no data for
ROOT = Path(__file__).parents[3]
TWO_LINES = 270  # letters of a caption in two lines of the page at 1280 px


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def page(demo_report: Path) -> str:
    return (demo_report / "report.html").read_text()


def test_every_figure_is_written_as_png_pdf_and_csv_and_stands_in_the_page_once(demo_report: Path, page: str) -> None:
    check_page(page)
    own = {"report.html", "report.json", "verdict.json", "scores.csv", "figures"}
    assert {path.name for path in demo_report.iterdir()} == own
    names = {path.name for path in (demo_report / "figures").iterdir()}
    assert {f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf")} <= names
    for name in FIGURES:
        assert any(re.fullmatch(rf"{name}_\w+\.csv", other) for other in names)
    assert all(name.split(".")[0].startswith(tuple(FIGURES)) for name in names)
    assert page.count("<figure>") == len(FIGURES)
    assert page.count(" --only ") == len(FIGURES)


def test_same_records_same_figures_in_a_process_with_other_hashes(
    demo_study: Path, demo_report: Path, tmp_path: Path
) -> None:
    only = ["--only", "learning_curves", "--only", "claims"]
    command = [sys.executable, "-W", "error", "-m", "analysis", "figures", str(demo_study), *only, "--output_dir"]
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    subprocess.run([*command, str(tmp_path)], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    again, first = files_of(tmp_path / "figures"), files_of(demo_report / "figures")
    assert len(again) == 2 * 2 + 2 + 2
    assert again == {name: first[name] for name in again}


def test_the_first_screen_has_verdict_effects_cost_and_what_was_not_tested(demo_study: Path, page: str) -> None:
    first, found = page.split("<nav")[0], findings(read([demo_study]))
    assert first.count("<img ") == 1
    shown = first.replace("&#x27;", "'")
    assert headline(found) in shown
    assert all(statement(item) in shown for item in found.verdicts)
    assert "Cost: 23 runs, " in shown
    assert "Not tested: " in shown
    assert "Runs left out: grpo-seed5 (failed)." in shown
    assert "The study is not complete: 1 run of " in shown


def test_everything_else_is_folded(page: str) -> None:
    below = page.split("</nav>")[1].split("</main>")[0]
    assert below.count("<section>") == below.count("<section><details>") > 10
    assert not re.sub(r"<section>.*?</section>", "", below, flags=re.DOTALL).strip()


def test_captions_take_two_lines_and_every_figure_has_a_text_for_the_blind(demo_study: Path) -> None:
    for figure in study_figures(findings(read([demo_study]))):
        assert len(figure.caption) <= TWO_LINES, figure.name
        assert len(figure.alt) > 20
        assert "nan" not in figure.caption + figure.alt


def test_runs_are_listed_once_with_their_claims_and_those_left_out_with_the_reason(
    demo_report: Path, page: str
) -> None:
    listed = page.split('id="runs"')[1].split("</section>")[0]
    runs = [f"{arm}-seed{seed}" for arm in ("grpo", "dapo", "fipo", "blame") for seed in range(5)]
    assert all(run in listed for run in [*runs, "random_reward-seed2"])
    assert page.count("blame-seed3") == 1
    assert hashlib.sha256((demo_report.parent / "claims.toml").read_bytes()).hexdigest() in listed
    left_out = page.split('id="not-used"')[1].split("</section>")[0]
    assert "grpo-seed5</td><td>failed</td><td>3</td><td>loss is &lt;nan&gt;" in left_out
    assert "grpo-seed6</td><td>not started" in left_out


def test_the_terminal_shows_the_sentences_and_the_path(demo_study: Path, demo_report: Path) -> None:
    lines = (demo_study / "printed.txt").read_text().splitlines()
    found = findings(read([demo_study]))
    assert lines[: len(found.notes)] == found.notes
    assert headline(found) in lines
    assert lines[-1] == str(demo_report / "report.html")


def test_confounds_unclean_trees_and_gpus_are_said_plainly(study: Path) -> None:
    difference = {"field": "delta <10>", "values": {"dapo": None, "fipo": 10.0}, "allowed": False}
    description = json.loads((study / "study.json").read_text())
    folders.write_json(study / "study.json", description | {"family": "recipe", "differences": [difference]})
    assert "gpu" not in dict(environment_rows(read([study])))
    gpu = {"gpu": "NVIDIA H200", "gpu_driver": "570.86.15", "cuda": "12.8", "cudnn": 91002, "nccl": "2.27.5"}
    environment = folders.environment() | {"commit": "f" * 40, "dirty_diff_sha256": "d" * 64} | gpu
    folders.write_json(study / "runs/fipo-seed0/environment.json", environment)
    found = findings(read([study]))
    drawn = study_figures(found, ["claims", "outcomes"])
    shown = [Shown(one.name, one.title, one.caption, one.details, one.alt, {}, b"") for one in drawn]
    html = study_page(found, shown, study_source(found.study, "study"))
    assert html.count("CONFOUNDED: the arms also differ in delta &lt;10&gt;.") == len(shown)
    assert "2 different commits" in html
    assert "1 of 10 runs from a tree with uncommitted changes" in html
    assert "not recorded (9 runs); NVIDIA H200, driver 570.86.15, CUDA 12.8 (1 runs)" in html


def test_what_no_report_wrote_is_left_alone(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    for command in ("report", "figures"):
        for output in (tmp_path / "mine", tmp_path / "mine/notes.txt"):
            assert main([command, str(study), "--output_dir", str(output)]) == 2
            assert capsys.readouterr().err.count("\n") == 1
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
    assert main(["figures", *runs, *only, "--output_dir", str(tmp_path / "out")]) == 0
    # One arm alone has no claim to draw.
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "out/figures/outcomes.png")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "nowhere"], "expected a study folder with study.json, got nowhere"),
        (["figures", "nowhere"], "expected a study folder"),
        (["figures", "nowhere", "--only", "history"], "expected figures among claims, "),
        (["figures", "one", "two"], "expected a run or study with one/config.json"),
        (["report"], "required: RUNS"),
        (["draw"], "invalid choice"),
        ([], "required"),
    ],
)
def test_wrong_use_gets_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(arguments)
    except SystemExit as left:
        code = int(str(left.code))
    error = capsys.readouterr().err
    assert code == 2
    assert words in error
    assert error.count("\n") == 1
