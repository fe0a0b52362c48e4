"""Claims of a study of several blocks on folders whose truth is known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.errors import RecordsError
from analysis.records.blocks import BlockStudy, read_block_study
from analysis.statistics.intervals import paired_t
from analysis.verdict.block_controls import NO_CREDIT, block_controls
from analysis.verdict.block_verdicts import block_verdicts, is_about_credit, over_warm_starts, scored
from tests.analysis.block_folders import STANDARD, BlockTruth, write_block_study


@pytest.fixture(scope="module")
def found(block_study: Path) -> BlockStudy:
    return read_block_study(block_study)


def test_every_planned_score_is_there(found: BlockStudy) -> None:
    assert found.is_complete
    assert found.planned == sum(len(one.ends) * len(one.levels) * one.seeds for one in STANDARD.values())
    assert found.of("again")["seed"].tolist() == list(range(102, 108))
    assert set(found.of("rates", "dapo")["level"]) == {1e-4, 2e-4, 4e-4}


def test_true_effects_are_found_and_nulls_are_not(found: BlockStudy) -> None:
    words = {row.claim.id: row.word.split(",")[0] for row in block_verdicts(found)}
    assert words == {
        "fipo_above_dapo": "undecided",
        "wide_above_dapo_under_stress": "supported",
        "token_weights_above_sign_means": "undecided",
        "placement_of_blame": "supported",
        "wide_holds_over_more_rates": "supported",
        "fipo_above_dapo_at_own_best": "undecided",
        "decay_rate_matters_little": "supported",
        "token_weights_above_shuffled": "supported",
    }


def test_keys_name_primary_and_exploratory_claims(found: BlockStudy) -> None:
    assert [row.key for row in block_verdicts(found)] == ["P1", "P2", "P3", "P4", "P5", "P6", "E1", "E2"]


def test_differences_are_taken_seed_by_seed(found: BlockStudy) -> None:
    row = next(row for row in block_verdicts(found) if row.claim.id == "placement_of_blame")
    scores = {arm: found.of("controls", arm).set_index("seed")["auc"] for arm in ("blame", "random_blame")}
    by_hand = paired_t(scores["blame"].to_numpy(float), scores["random_blame"].to_numpy(float), 1 - 0.05 / 6)
    assert (row.evidence.effect, row.evidence.low, row.evidence.high) == pytest.approx(
        (by_hand.difference, by_hand.low, by_hand.high)
    )
    assert row.evidence.level == pytest.approx(1 - 0.05 / 6)


def test_the_warm_start_as_the_unit_has_two_degrees_of_freedom() -> None:
    differences = pd.Series([1.0, 2.0, 3.0, 3.0, 4.0, 5.0], index=[0, 1, 2, 3, 4, 5])
    found = over_warm_starts(differences, 3, 0.95)
    means = np.array([2.0, 3.0, 4.0])
    by_hand = paired_t(means, np.zeros(3))
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high))
    assert found.difference == pytest.approx(3.0)


def test_a_collapsed_run_moves_the_evidence_to_ranks(found: BlockStudy) -> None:
    run = found.of("controls", "blame")["run"].iloc[0]
    fell = replace(found, scores=found.scores.assign(collapsed=found.scores["run"] == run))
    row = next(row for row in block_verdicts(fell) if row.claim.id == "placement_of_blame")
    assert (row.evidence.method, row.collapsed) == ("shift", (run,))
    assert row.detectable is None
    # six signs can reject nothing at one in 120: the smallest two-sided p of ranks is 2/64
    assert row.word == "undecided, too few seeds for ranks"
    assert "no interval" in row.effect


def test_a_collapse_at_a_rate_that_no_seed_is_scored_at_does_not_count(found: BlockStudy) -> None:
    rows = found.of("rates", "fipo")
    at_worst = rows.loc[rows["level"] == 4e-4, "run"]
    fell = replace(found, scores=found.scores.assign(collapsed=found.scores["run"].isin(at_worst)))
    row = next(row for row in block_verdicts(fell) if row.claim.id == "fipo_above_dapo_at_own_best")
    assert row.collapsed == ()


def test_a_collapse_at_the_rate_that_a_seed_is_scored_at_counts(found: BlockStudy) -> None:
    rows = found.of("rates", "fipo")
    at_best = rows.loc[rows["level"] == 2e-4, "run"]
    fell = replace(found, scores=found.scores.assign(collapsed=found.scores["run"].isin(at_best)))
    row = next(row for row in block_verdicts(fell) if row.claim.id == "fipo_above_dapo_at_own_best")
    assert set(row.collapsed) == set(at_best)


def test_without_the_positive_control_claims_about_credit_are_undecided(found: BlockStudy) -> None:
    seen, blind = block_verdicts(found, True), block_verdicts(found, False)
    changed = {row.claim.id for row, other in zip(seen, blind, strict=True) if row.word != other.word}
    assert changed == {"token_weights_above_sign_means", "placement_of_blame", "token_weights_above_shuffled"}
    assert changed == {row.claim.id for row in seen if is_about_credit(row.claim)}
    words = {row.word for row in blind if is_about_credit(row.claim)}
    assert words == {"undecided, the positive control was not told"}


def test_a_trend_is_the_change_along_each_seeds_line(found: BlockStudy) -> None:
    row = next(row for row in block_verdicts(found) if row.claim.is_trend)
    table = found.by_level("decay_rate", "fipo_wide", "final_accuracy")
    first = np.polyfit(np.log2(table.columns.to_numpy(float)), table.iloc[0].to_numpy(float), 1)[0] * 8
    assert scored(found, row.claim).differences.iloc[0] == pytest.approx(first)


def test_controls_say_what_they_show(found: BlockStudy) -> None:
    controls = {row.key: row for row in block_controls(found)}
    assert {key: row.passed for key, row in controls.items()} == dict.fromkeys(("C1", "C2", "C3", "C4"), True)
    assert "in 3 of 3 seeds" in controls["C3"].sentence
    assert controls["C4"].evidence is not None
    assert controls["C4"].evidence.n == (6, 0)


def test_failing_controls_are_said_to_fail(tmp_path: Path) -> None:
    truth = dict(STANDARD)
    truth["controls"] = BlockTruth({"dapo": (0.80,), "blame": (0.80,)})
    truth["negative"] = BlockTruth({"dapo": (0.80,), "random_reward": (0.85,), "unit_weights": (0.7,)}, seeds=3)
    truth["again"] = BlockTruth({"dapo_again": (0.9,)}, first_seed=102)
    kept = {name: truth[name] for name in ("controls", "negative", "again")}
    controls = {row.key: row for row in block_controls(read_block_study(write_block_study(tmp_path / "s", kept)))}
    assert {key: row.passed for key, row in controls.items()} == dict.fromkeys(("C1", "C2", "C3", "C4"), False)
    assert controls["C1"].sentence.startswith(NO_CREDIT)
    assert "about 1 report in 20" in controls["C4"].sentence


def test_runs_of_one_warm_start_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    folder = write_block_study(tmp_path / "s", {"preset": STANDARD["preset"]}, steps=2, prompts=4)
    for seed, allowed in ((1, True), (3, False)):  # seed 3 shares its warm start with seed 0, seed 1 shares with seed 4
        for other in (seed, seed + 3) if allowed else (seed,):
            path = folder / f"runs/preset.fipo-seed{other}/environment.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"model_sha256": "c" * 64}))
            if allowed:
                beside = folder / f"runs/preset.dapo-seed{other}/environment.json"
                beside.write_text(path.read_text())
        if allowed:
            read_block_study(folder)
    with pytest.raises(RecordsError, match="other initial weights"):
        read_block_study(folder)


def test_a_design_without_cells_is_refused(tmp_path: Path) -> None:
    folder = write_block_study(tmp_path / "s", {"preset": STANDARD["preset"]}, steps=2, prompts=4)
    content = json.loads((folder / "study.json").read_text())
    del content["design"]["blocks"]["preset"]["cells"]
    (folder / "study.json").write_text(json.dumps(content))
    with pytest.raises(RecordsError, match="expected blocks with cells"):
        read_block_study(folder)
