import json
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.outcomes import outcomes
from analysis.records import read_study
from analysis.verdict import Verdict, verdict
from tests.analysis import folders
from tests.analysis.folders import ArmTruth, StudyTruth

DAPO = ArmTruth("dapo")
FIPO = ArmTruth("fipo", "fipo")
BLAME = ArmTruth("blame", "dapo", "blame", pace=1.5)
RANDOM = ArmTruth("random_reward", "dapo", "random_reward", seeds=3, end=0.22)


def verdict_of(folder: Path, *arms: ArmTruth, prompts: int = 24) -> Verdict:
    truth = folders.smaller(StudyTruth(arms), prompts=prompts, steps=2)
    records = read_study(folders.write_study(folder / "study", truth))
    return verdict(records, outcomes(records))


def test_equal_arms_are_undecided(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, ArmTruth("grpo", "grpo"), DAPO, FIPO)
    assert [item.word for item in found.comparisons] == ["undecided"] * 3
    assert found.sentence.startswith("Undecided: with 5 seeds per arm no difference between GRPO, DAPO and FIPO")
    assert "seeds per arm" in found.what_it_would_take
    assert "share one warm start" in found.what_it_would_take


def test_an_arm_against_its_own_records_differs_by_nothing(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, replace(DAPO, key="same"), replace(FIPO, loss_type="dapo", key="same"))
    (item,) = found.comparisons
    assert (item.difference, item.p, item.p_paired, item.p_permutation) == (0.0, 1.0, 1.0, 1.0)
    assert "no number of seeds within reach" in found.what_it_would_take


def test_a_large_difference_is_supported_with_its_numbers(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, DAPO, replace(FIPO, end=1.0, pace=1.5))
    (item,) = found.comparisons
    assert (item.arm, item.baseline, item.word) == ("fipo", "dapo", "supported")
    assert item.low < item.difference < item.high
    assert f"{item.difference:+.3f} [{item.low:+.3f}, {item.high:+.3f}]" in found.sentence
    assert "the evidence supports FIPO above DAPO" in found.sentence


def test_a_claim_can_be_contradicted(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, DAPO, replace(FIPO, end=0.2))
    assert found.comparisons[0].word == "contradicted"
    assert "FIPO below DAPO" in found.sentence


def test_fewer_than_five_seeds_claim_nothing_however_large_the_difference(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, DAPO, replace(FIPO, end=1.0, pace=1.0, seeds=4))
    (item,) = found.comparisons
    assert item.word == "insufficient seeds"
    assert item.p is item.p_holm is item.p_paired is item.p_permutation is None
    assert found.sentence.startswith("Insufficient seeds")


def test_one_seed_is_enough_for_a_report_and_for_no_interval(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, replace(DAPO, seeds=1), replace(FIPO, seeds=1))
    assert "no interval from one seed" in found.sentence
    json.dumps(found.as_json(), allow_nan=False)


def test_holm_is_over_the_pairs_of_losses_and_not_over_the_controls(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, ArmTruth("grpo", "grpo"), DAPO, FIPO, replace(BLAME, seeds=2))
    assert {(item.arm, item.baseline) for item in found.comparisons} == {
        ("dapo", "grpo"),
        ("fipo", "grpo"),
        ("fipo", "dapo"),
    }
    smallest = min(found.comparisons, key=lambda item: item.p or 1.0)
    assert smallest.p_holm == pytest.approx(min(1.0, 3 * (smallest.p or 1.0)))


def test_the_positive_control_is_found(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, DAPO, FIPO, BLAME)
    assert found.positive.passed is True
    assert found.positive.comparison is not None
    assert (found.positive.comparison.arm, found.positive.comparison.baseline) == ("blame", "dapo")
    assert "token credit could have been seen" in found.sentence


def test_a_comparison_blind_to_its_positive_control_says_so(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, DAPO, FIPO, replace(BLAME, pace=DAPO.pace, key="dapo"), RANDOM)
    assert found.positive.passed is False
    assert "this comparison could not have seen token credit" in found.sentence


def test_without_a_positive_control_nobody_knows(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, DAPO, FIPO)
    assert found.positive.passed is found.negative.passed is None
    assert "is not known, since no positive control finished" in found.sentence


def test_a_random_reward_that_teaches_nothing_passes(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, DAPO, FIPO, RANDOM, prompts=200)
    assert found.negative.passed is True


def test_a_random_reward_that_teaches_is_in_the_verdict(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, DAPO, FIPO, replace(RANDOM, end=0.7), prompts=200)
    assert found.negative.passed is False
    assert "a random reward raised accuracy too" in found.sentence


def test_what_is_amiss_is_noted(tmp_path: Path) -> None:
    truth = folders.smaller(StudyTruth((DAPO, replace(FIPO, end=0.1)), fields={"primary_outcome": "beauty"}))
    study = folders.write_study(tmp_path / "study", truth)
    environment = folders.environment() | {"model_sha256": "c" * 64}
    folders.write_json(study / "runs/dapo-seed0/environment.json", environment)
    path = study / "runs/dapo-seed1/metrics.jsonl"
    path.write_text(path.read_text()[:-40])
    folders.write_json(study / "runs/dapo-seed2/status.json", {"state": "preempted", "reason": "signal"})
    records = read_study(study)
    notes = "\n".join(verdict(records, outcomes(records)).notes)
    assert "'beauty'" in notes
    assert "dapo-seed1 (5)" in notes
    assert "2 different initial models" in notes
    assert "dapo-seed2 (preempted)" in notes
    assert "Ended no better than they began: fipo-seed0" in notes
    assert "medians of AUC" in notes
