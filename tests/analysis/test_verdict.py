import json
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.records.outcomes import outcomes
from analysis.records.records import read_study
from analysis.statistics.intervals import welch
from analysis.verdict.claim_verdicts import ClaimVerdict
from analysis.verdict.verdicts import Verdict, verdict
from tests.analysis import folders
from tests.analysis.agreement import agree
from tests.analysis.folders import ArmTruth, StudyTruth
from tests.analysis.test_claims import CLAIM, TREND

GRPO = ArmTruth("grpo", "grpo")
DAPO = ArmTruth("dapo")
FIPO = ArmTruth("fipo", "fipo")
BLAME = ArmTruth("blame", "dapo", "blame", pace=1.5)
RANDOM = ArmTruth("random_reward", "dapo", "random_reward", seeds=3, end=0.22)
OTHER = CLAIM.replace("better", "dapo_above_grpo").replace('"fipo"', '"dapo"').replace('= "dapo"\nm', '= "grpo"\nm')
EXPLORED = CLAIM.replace("better", "ends_better").replace('"primary"', '"exploratory"').replace("auc", "final_accuracy")


def written(folder: Path, *arms: ArmTruth, prompts: int = 24, steps: int = 2, claims: str = CLAIM) -> Path:
    return folders.write_study(
        folder / "study", folders.smaller(StudyTruth(arms, claims=claims), prompts=prompts, steps=steps)
    )


def verdict_of(folder: Path, *arms: ArmTruth, prompts: int = 24, steps: int = 2, claims: str = CLAIM) -> Verdict:
    records = read_study(written(folder, *arms, prompts=prompts, steps=steps, claims=claims))
    return verdict(records, outcomes(records))


def words(found: Verdict) -> dict[str, str]:
    return {item.claim.id: item.evidence.decision for item in found.claims}


def only(found: Verdict) -> ClaimVerdict:
    (item,) = found.claims
    return item


def test_equal_arms_are_undecided(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, GRPO, DAPO, FIPO, claims=CLAIM + OTHER)
    assert words(found) == {"better": "undecided", "dapo_above_grpo": "undecided"}
    assert found.sentence.startswith("Of 2 primary claims, undecided: ")
    assert "seeds per arm" in found.what_it_would_take
    assert "share one warm start" in found.what_it_would_take


def test_an_arm_against_its_own_records_differs_by_nothing(tmp_path: Path) -> None:
    same = replace(FIPO, loss_type="dapo", key="same")
    found = only(verdict_of(tmp_path, replace(DAPO, key="same"), same, claims=CLAIM.replace("0.01", "0.0"))).evidence
    assert (found.effect, found.p, found.p_paired, found.p_permutation) == (0.0, 1.0, 1.0, 1.0)


def test_a_large_difference_is_supported_with_its_numbers(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, DAPO, replace(FIPO, end=1.0, pace=1.5))
    item = only(found).evidence
    assert item.decision == "supported"
    assert 0.01 < item.low < item.effect < item.high
    assert f"{item.effect:+.3f} [{item.low:+.3f}, {item.high:+.3f}]" in found.sentence
    assert "supported: \N{LEFT DOUBLE QUOTATION MARK}FIPO is more accurate" in found.sentence


def test_a_claim_can_be_contradicted(tmp_path: Path) -> None:
    assert only(verdict_of(tmp_path, DAPO, replace(FIPO, end=0.2))).evidence.decision == "contradicted"


def test_a_tight_null_contradicts_a_claim_of_more(tmp_path: Path) -> None:
    """An advantage that lies within the margin is none, however sure its sign."""
    claims = CLAIM.replace("0.01", "0.5")
    assert only(verdict_of(tmp_path, DAPO, FIPO, claims=claims)).evidence.decision == "contradicted"


def test_the_level_counts_the_primary_claims_that_the_planned_arms_can_test(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, GRPO, DAPO, FIPO, claims=CLAIM + OTHER + EXPLORED + TREND)
    levels = {item.claim.id: item.evidence.level for item in found.claims}
    assert agree([levels["better"], levels["dapo_above_grpo"], levels["ends_better"]], [0.975, 0.975, 0.95])
    assert found.not_tested == {"the decay rate matters little": "needs a designed grid over fipo_decay_rate"}


def test_a_planned_arm_without_runs_keeps_its_place_in_the_correction(tmp_path: Path) -> None:
    study = written(tmp_path, replace(GRPO, seeds=0), DAPO, FIPO, claims=CLAIM + OTHER)
    records = read_study(study)
    found = verdict(records, outcomes(records))
    item = only(found)
    assert agree(item.evidence.level, 0.975)
    assert item.evidence.p is not None
    assert agree(item.p_corrected, min(1.0, 2 * item.evidence.p))
    assert list(found.not_tested.values()) == ["needs runs of grpo"]


def test_holm_is_over_the_primary_claims_alone(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, GRPO, DAPO, FIPO, replace(BLAME, seeds=2), claims=CLAIM + OTHER + EXPLORED)
    assert [item.is_primary for item in found.claims] == [True, True, False]
    smallest = min(found.primary, key=lambda item: item.evidence.p or 1.0)
    assert agree(smallest.p_corrected, min(1.0, 2 * (smallest.evidence.p or 1.0)))
    assert agree(found.claims[2].p_corrected, found.claims[2].evidence.p)


def test_fewer_than_five_seeds_claim_nothing_however_large_the_difference(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, DAPO, replace(FIPO, end=1.0, pace=1.0, seeds=4))
    assert (only(found).evidence.decision, only(found).reason) == ("undecided", "insufficient seeds")
    assert found.sentence.startswith("Insufficient seeds")


def test_one_seed_is_enough_for_a_report_and_for_no_interval(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, replace(DAPO, seeds=1), replace(FIPO, seeds=1))
    json.dumps(found.as_json(), allow_nan=False)
    assert only(found).evidence.decision == "undecided"


def test_without_fixed_claims_every_pair_is_exploratory(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, GRPO, DAPO, FIPO, BLAME, claims="")
    assert set(words(found)) == {"dapo_above_grpo", "fipo_above_grpo", "fipo_above_dapo"}
    assert not found.primary
    assert "exploratory" in found.question
    assert any("No claims were fixed" in note for note in found.notes)


# ---- diverged runs are data ----


def test_a_diverged_run_counts_at_its_last_evaluation(tmp_path: Path) -> None:
    records = read_study(written(tmp_path, DAPO, replace(FIPO, diverged=(2,)), steps=6))
    row = outcomes(records).set_index("run").loc["fipo-seed2"]
    last = records.evals[(records.evals["run"] == "fipo-seed2") & (records.evals["step"] == 2)]
    accuracy = last.groupby("prompt_id")["correct"].mean().mean()
    recorded = records.metrics.loc[records.metrics["run"] == "fipo-seed2", "rollout/accuracy"]
    assert len(recorded) == 3
    assert agree(row["final_accuracy"], accuracy)
    assert agree(row["auc"], (recorded.sum() + 3 * accuracy) / 6)


def test_with_divergence_medians_decide_and_the_estimate_without_stands_beside(tmp_path: Path) -> None:
    records = read_study(written(tmp_path, DAPO, replace(FIPO, seeds=6, diverged=(2,)), steps=6))
    table = outcomes(records)
    found = verdict(records, table)
    item = only(found)
    assert item.diverged == ("fipo-seed2",)
    assert (item.evidence.method, item.evidence.n) == ("shift", (6, 5))
    assert item.without_diverged is not None
    rest = table[table["run"] != "fipo-seed2"]
    plain = welch(*(rest.loc[rest["arm"] == arm, "auc"] for arm in ("fipo", "dapo")))
    assert agree(item.without_diverged.effect, plain.difference)
    assert item.without_diverged.n == (5, 5)
    notes = "\n".join(found.notes)
    assert "fipo-seed2" in notes
    assert "median" in notes
    assert "Runs left out" not in notes


def test_a_run_that_collapsed_diverged_too(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, DAPO, replace(FIPO, end=0.1), prompts=60)
    assert len(only(found).diverged) == 5
    assert only(found).without_diverged is None


# ---- planted controls ----


def test_the_positive_control_is_found(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, DAPO, FIPO, BLAME)
    assert found.positive.passed is True
    assert found.positive.baseline == "dapo"
    assert "token credit could have been seen" in found.sentence


def test_a_comparison_blind_to_its_positive_control_says_so(tmp_path: Path) -> None:
    found = verdict_of(tmp_path, DAPO, FIPO, replace(BLAME, pace=DAPO.pace, key="dapo"), RANDOM)
    assert found.positive.passed is False
    assert "his comparison could not have seen token credit" in found.sentence


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


# ---- notes ----


def test_what_is_amiss_is_noted(tmp_path: Path) -> None:
    study = written(tmp_path, DAPO, FIPO, steps=6)
    path = study / "runs/dapo-seed1/metrics.jsonl"
    path.write_text(path.read_text()[:-40])
    folders.write_json(study / "runs/dapo-seed2/status.json", {"state": "preempted", "reason": "signal"})
    description = json.loads((study / "study.json").read_text())
    folders.write_json(study / "study.json", description | {"primary_outcome": "beauty"})
    records = read_study(study)
    notes = "\n".join(verdict(records, outcomes(records)).notes)
    assert "'beauty'" in notes
    assert "dapo-seed1 (5)" in notes
    assert "dapo-seed2 (preempted)" in notes


def test_claims_fixed_after_a_run_began_are_noted(tmp_path: Path) -> None:
    study = written(tmp_path, DAPO, FIPO)
    early = folders.environment() | {"started_at": "2026-11-22T10:59:59+00:00"}
    folders.write_json(study / "runs/fipo-seed1/environment.json", early)
    records = read_study(study)
    (note,) = verdict(records, outcomes(records)).notes
    assert note.startswith("The claims were fixed at 2026-11-22T11:00:00+00:00, after 1 run had begun, fipo-seed1")


@pytest.mark.parametrize(("at", "noted"), [("2026-11-22T12:30:00+00:00", True), ("2026-11-22T11:30:00+00:00", False)])
def test_seeds_added_after_a_look_are_noted(at: str, noted: bool, tmp_path: Path) -> None:
    study = written(tmp_path, DAPO, FIPO)
    description = json.loads((study / "study.json").read_text())
    plans = [{"at": "2026-11-22T11:00:00+00:00", "seeds": {}}, {"at": at, "seeds": {}}]
    folders.write_json(study / "study.json", description | {"plans": plans})
    records = read_study(study)
    assert any("The plan was changed 1 time" in note for note in verdict(records, outcomes(records)).notes) == noted
