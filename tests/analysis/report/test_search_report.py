import json
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.figures.catalogue import SEARCH
from tests.analysis import folders, search_folders
from tests.analysis.page_check import check_page
from tests.analysis.search_folders import SearchTruth

ENDS: dict[tuple[str, int], tuple[str, str | None]] = {
    ("fipo", 3): ("infeasible", "loss is <nan> at step 7"),
    ("fipo", 5): ("failed", "killed three times"),
    ("dapo", 2): ("over", ""),
    ("dapo", 6): ("pruned", "stopped by asha"),
    ("dapo", 8): ("failed", None),
    ("dapo", 7): ("running", ""),
}
FIGURES = {"winners", "slices"}


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search over two losses with its winners, reported."""
    folder = tmp_path_factory.mktemp("search") / "both"
    truth = SearchTruth(losses=("dapo", "fipo"), trials=10, ends=ENDS)
    search_folders.write_search(folder, truth)
    arms = (folders.ArmTruth("dapo"), folders.ArmTruth("fipo", "fipo"))
    winners = folders.smaller(folders.StudyTruth(arms), steps=2, prompts=4, final_samples=2)
    folders.write_study(folder / "winners", winners)
    with redirect_stdout(StringIO()) as printed:
        assert main(["report", str(folder)]) == 0
    (folder / "printed.txt").write_text(printed.getvalue())
    return folder


@pytest.fixture(scope="module")
def html(search: Path) -> str:
    return (search / "report/report.html").read_text()


def test_every_figure_is_written_as_png_pdf_and_csv(search: Path) -> None:
    names = {path.name for path in (search / "report/figures").iterdir()}
    assert {name.split(".")[0] for name in names if name.endswith("png")} == FIGURES
    for name in FIGURES:
        assert f"{name}.pdf" in names
        assert any(re.fullmatch(rf"{name}_\w+\.csv", other) for other in names)


def test_failed_trials_are_marked_and_not_dropped(search: Path) -> None:
    slices = pd.read_csv(search / "report/figures/slices_trials.csv")
    of_fipo = slices[slices["loss"] == "fipo"]
    assert of_fipo.drop_duplicates("trial")["outcome"].value_counts().to_dict() == {
        "feasible": 8,
        "infeasible": 1,
        "failed": 1,
    }
    assert of_fipo.loc[of_fipo["seed"].isna(), "outcome"].unique().tolist() == ["infeasible", "failed"]


def test_the_first_screen_says_what_was_found_and_what_to_quote(search: Path, html: str) -> None:
    first, subtitle = html.split("<nav")[0], html.split("<main")[0]
    assert "of DAPO, 10 trials each; " in subtitle
    assert "of FIPO, 10 trials each, by tpe, on 2 tuning seeds." in subtitle
    for words in (
        "Not finished: 1 trial of DAPO still open",
        "FIPO: the best of 10 trials is trial",
        "biased upwards",
        f"python -m harness train --preset {search}/best/fipo.json",
        "On fresh seeds: ",
        "On 5 fresh seeds its settings reach",
        '<th scope="col" class="number">On fresh seeds</th>',
        'href="../winners/report/report.html"',
    ):
        assert words in first
    assert (search / "winners/report/report.html").is_file()


def test_search_json_is_the_summary(search: Path) -> None:
    summary = json.loads((search / "report/search.json").read_text())
    assert summary["trials"]["dapo"] == {"failed": 1, "feasible": 6, "over a limit": 1, "pruned": 1, "running": 1}
    best = {item["loss"]: item for item in summary["best"]}
    trials = pd.read_parquet(search / "trials.parquet")
    assert best["fipo"]["value"] == trials.loc[trials["loss"] == "fipo", "value"].max()


def test_the_printed_lines_are_the_sentences_and_the_path(search: Path) -> None:
    lines = (search / "printed.txt").read_text().splitlines()
    assert lines[0].startswith("On fresh seeds: ")
    assert lines[1].startswith("DAPO: the best of 9 trials is trial")
    assert lines[-1] == str(search / "report/report.html")


def test_the_page_is_whole_and_says_how_its_figures_are_drawn_again(html: str) -> None:
    check_page(html)
    assert html.count("<figure>") == len(FIGURES)
    commands = set(re.findall(r"python -m analysis figures \S+ --only (\w+)", html))
    assert commands == set(SEARCH)


def test_winners_that_have_not_finished_are_a_note(tmp_path: Path) -> None:
    folder = search_folders.write_search(tmp_path / "one", SearchTruth(trials=1, seeds=1))
    arms = [{"name": "fipo", "loss_type": "fipo", "control": "none", "seeds": [0], "settings": {}}]
    folders.write_json(folder / "winners/study.json", {"schema_version": 1, "arms": arms})
    assert main(["report", str(folder)]) == 0
    page = (folder / "report/report.html").read_text()
    assert "The runs on fresh seeds cannot be reported: expected at least one finished run" in page
    assert not (folder / "winners/report").exists()


def test_figures_of_the_other_kind_are_one_line(
    search: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["figures", str(search), "--only", "outcomes"]) == 2
    assert "expected figures among winners, " in capsys.readouterr().err
    assert main(["figures", str(search / "winners"), "--only", "slices", "--output_dir", str(tmp_path)]) == 2
    assert "expected figures among claims, " in capsys.readouterr().err
