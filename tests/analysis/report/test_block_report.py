"""The report of a study of several blocks, made by the command, read back as its reader would."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import pandas as pd
import pytest

from analysis.__main__ import main
from tests.analysis.block_folders import BlockTruth, claim, write_block_study
from tests.analysis.page_check import check_page


@pytest.fixture(scope="module")
def report(block_study: Path) -> Path:
    assert main(["report", str(block_study)]) == 0
    return block_study / "report"


@pytest.fixture(scope="module")
def page(report: Path) -> str:
    return (report / "report.html").read_text()


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", page)))


def test_every_block_has_the_figures_that_it_can_have_and_no_others(report: Path, page: str) -> None:
    drawn = {path.stem for path in (report / "figures").glob("*.png")}
    unvaried = {f"{kind}_{block}" for block in ("preset", "controls", "negative", "stress") for kind in ("outcomes",)}
    assert drawn == {
        "claims",
        "levels_rates",
        "levels_pair",
        "gains_controls",
        "gains_stress",
        *unvaried,
        *(name.replace("outcomes", "learning_curves") for name in unvaried),
        *(name.replace("outcomes", "length_and_entropy") for name in unvaried),
        *(name.replace("outcomes", "effective_tokens") for name in unvaried),
    }
    assert page.count("<img ") == len(drawn)
    check_page(page)
    assert "nan" not in text_of(page).lower().split()


def test_blocks_whose_length_a_claim_asks_about_show_accuracy_against_it(tmp_path: Path) -> None:
    blocks = {name: BlockTruth({"dapo": (0.8,), "fipo": (0.9,)}, seeds=2) for name in ("preset", "controls")}
    asked = claim("longer", "preset/fipo", "preset/dapo", "final_response_tokens")
    folder = write_block_study(tmp_path / "s", blocks, asked, steps=4, prompts=8)
    assert main(["report", str(folder)]) == 0
    drawn = {path.stem for path in (folder / "report/figures").glob("*.png") if "length" in path.stem}
    drawn -= {f"length_and_entropy_{block}" for block in blocks}
    assert drawn == {"accuracy_against_length_preset", "length_path_preset"}
    points = pd.read_csv(folder / "report/figures/length_path_preset_points.csv")
    assert points["run"].nunique() == 4


def test_a_setting_that_never_acted_is_marked_at_its_values(tmp_path: Path) -> None:
    folder = write_block_study(tmp_path / "s", {"rates": BlockTruth({"fipo": (0.8, 0.8)}, "delta", (3.0, 10.0))})
    for path in (folder / "runs").glob("rates.fipo.1-*/metrics.jsonl"):
        path.write_text(re.sub(r'"loss/clip_fraction_dual": [^,]*', '"loss/clip_fraction_dual": 0.0', path.read_text()))
    assert main(["report", str(folder)]) == 0
    answer = json.loads((folder / "report/verdict.json").read_text())
    assert [(row["setting"], row["value"]) for row in answer["never_acted"]] == [("delta", 10.0)]


def test_levels_are_paired_with_the_baseline_at_the_same_level(report: Path) -> None:
    levels = pd.read_csv(report / "figures/levels_rates_levels.csv").set_index(["arm", "place"])
    scores = pd.read_csv(report / "scores.csv")
    rates = scores[scores["block"] == "rates"].pivot(index="seed", columns=["arm", "place"], values="final_accuracy")
    for place in range(3):
        difference = (rates["fipo"][place] - rates["dapo"][place]).mean()
        assert levels.loc[("fipo", place), "difference"] == pytest.approx(difference)
        assert levels.loc[("dapo", place), "difference"] == 0
    assert levels.loc[("fipo", 2), "collapsed"] > 0


def test_the_table_of_levels_ends_with_the_own_best_one(report: Path, page: str) -> None:
    table = text_of(page.split('id="levels"')[1].split("</section>")[0])
    scores = pd.read_csv(report / "scores.csv")
    rates = scores[(scores["block"] == "rates") & (scores["arm"] == "dapo")]
    at = rates.pivot(index="seed", columns="place", values="final_accuracy")
    means = [f"{value:.3f}" for value in [*at.mean(), at[1].mean()]]  # each seed's others like the second level best
    head = "Arm 0.0001 0.0002 0.0004 own best Collapsed runs"
    assert re.search(rf"{re.escape(head)} DAPO {' .*?'.join(means)} ", table)


def test_the_first_screen_has_a_sentence_a_claim_the_cost_and_what_was_not_tested(page: str) -> None:
    first = text_of(page.split("<nav")[0])
    for words in ("fipo_above_dapo is so", "Cost: ", "generated tokens", "Not tested: not_run is so", "[P1]"):
        assert words in first
    assert "Identical: the switch changed no update. unit_weights_do_nothing is so" in first
    assert page.split("<nav")[0].count("<img ") == 1


def test_gains_stand_beside_how_hard_it_trained(page: str) -> None:
    section = text_of(page.split('id="gains"')[1].split("</section>")[0])
    for words in ("Gain over DAPO", "Share of the gain of FIPO, wide weights", "mean per sign", "Gradient norm"):
        assert words in section


def test_a_study_that_is_not_complete_says_so_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = {"stress": BlockTruth({"dapo": (0.2,), "fipo_wide": (0.2,), "sign_mean": (0.2,)})}
    folder = write_block_study(tmp_path / "s", truth, steps=4, prompts=8)
    shutil.rmtree(folder / "runs" / "stress.dapo-seed5")
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("The study is not complete: 1 run of 18")
    assert json.loads((folder / "report/verdict.json").read_text())["complete"] is False
    page = text_of((folder / "report/report.html").read_text())
    assert "1 run of 18 to come, so nothing here may be quoted yet." in page
    assert "ranks need at least 8 seeds" in page
