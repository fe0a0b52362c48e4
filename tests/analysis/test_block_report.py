"""The report of a study of several blocks, made by the command, read back as its reader would."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.figures.block_charts import BLOCK_CHARTS
from tests.analysis.block_folders import BlockTruth, write_block_study


@pytest.fixture(scope="module")
def report(block_study: Path) -> Path:
    assert main(["report", str(block_study)]) == 0
    return block_study / "report"


@pytest.fixture(scope="module")
def verdict(report: Path) -> dict[str, list[dict[str, object]]]:
    content: dict[str, list[dict[str, object]]] = json.loads((report / "verdict.json").read_text())
    return content


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", page)))


def test_the_abstract_has_ten_sentences_each_with_its_rows(report: Path, verdict: dict[str, list[str]]) -> None:
    sentences = verdict["abstract"]
    assert len(sentences) == 10
    table = (report / "report.html").read_text().partition("<h3>Verdicts</h3>")[2]
    rows = set(re.findall(r"<tr><td>([PECMB]\d*)</td>", table))
    for sentence in sentences:
        named = re.findall(r"\[([PECMB]\d*)(?:-([PECMB]\d*))?\]", sentence)
        assert named, sentence
        assert {key for pair in named for key in pair if key} <= rows


def test_a_null_names_what_would_have_been_found(verdict: dict[str, list[str]]) -> None:
    (sentence,) = [one for one in verdict["abstract"] if "[P1]" in one]
    assert re.search(r"whether fipo_above_dapo is so is undecided \(.*; an effect of 0\.\d+ would", sentence, re.I)


def test_all_figures_are_drawn_and_stand_in_the_page(report: Path) -> None:
    page = (report / "report.html").read_text()
    assert {path.stem for path in (report / "figures").glob("*.png")} == set(BLOCK_CHARTS)
    assert page.count("<img ") == len(BLOCK_CHARTS)
    assert "<script" not in page
    assert "nan" not in text_of(page).lower().split()


def test_the_mechanism_stands_beside_how_hard_it_trained(report: Path) -> None:
    page = text_of((report / "report.html").read_text())
    assert "Gradient norm" in page
    assert "share of the wide weights' own gain" in page


def test_what_a_plan_needs_is_written(report: Path) -> None:
    parts = json.loads((report / "variance.json").read_text())
    assert {"difference", "single", "auc"} <= set(parts)
    assert set(parts["difference"]) == {"warm_start", "seed", "prompt", "seed_prompt", "sample"}


def test_the_report_verifies(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(report)]) == 0
    assert "verified" in capsys.readouterr().out


def test_figures_alone(block_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", str(block_study), "--only", "variance", "--output_dir", str(tmp_path / "f")]) == 0
    assert [path.name for path in (tmp_path / "f/figures").glob("*.png")] == ["variance.png"]
    assert main(["figures", str(block_study), "--only", "history", "--output_dir", str(tmp_path / "g")]) == 2
    assert "expected figures of a study of blocks (robustness" in capsys.readouterr().err
    assert not (tmp_path / "g").exists()


def test_a_study_that_could_see_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No credit seen, every arm of the stress collapsed, and one run missing."""
    truth = {
        "controls": BlockTruth({"dapo": (0.8,), "blame": (0.8,), "random_blame": (0.8,)}),
        "stress": BlockTruth({"dapo": (0.2,), "fipo_wide": (0.2,), "wide_sign_mean": (0.2,)}),
    }
    folder = write_block_study(tmp_path / "s", truth, steps=4, prompts=8)
    shutil.rmtree(folder / "runs" / "stress.dapo-seed5")
    assert main(["report", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Not complete: 35 of 36 scores.")
    verdict = json.loads((folder / "report" / "verdict.json").read_text())
    assert verdict["complete"] is False
    words = {row["id"]: row["verdict"] for row in verdict["claims"]}
    assert words["token_weights_above_sign_means"] == "undecided, the positive control was not told"
    assert words["wide_above_dapo_under_stress"] == "undecided, too few seeds for ranks"
    page = text_of((folder / "report" / "report.html").read_text())
    assert "every claim about token credit is undecided" in page
    assert "so few seeds can find nothing at this level" in page
    assert "Runs left out: stress.dapo-seed5 (not started)" in page
    assert "no bounded interval" in page
