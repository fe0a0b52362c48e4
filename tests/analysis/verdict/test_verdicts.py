"""Claims on studies whose scores are known; a claim's word, and why it is no other."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.records.claims import Claim, Claims
from analysis.statistics.intervals import paired_t
from analysis.verdict.notes import notes
from analysis.verdict.verdicts import BLIND, CEILING, Verdict, not_tested, over_warm_starts, verdicts
from tests.analysis.agreement import agree
from tests.analysis.verdict.made import CLAIM, Made, study_of

BASE = [0.70, 0.72, 0.69, 0.74, 0.71, 0.73, 0.68, 0.70, 0.75]
NOISE = [0.004, -0.003, 0.001, 0.002, -0.004, 0.0, 0.003, -0.002, -0.001]
TREND = replace(CLAIM, baseline=None, parameter="fipo_safety_threshold", start=2.0, end=8.0)
LENGTH = replace(CLAIM, metric="final_response_tokens", margin=1.0)


def above(shift: float, seeds: int = 9) -> list[float]:
    """DAPO's scores moved, with a little noise of their own."""
    return [base + shift + noise for base, noise in zip(BASE[:seeds], NOISE[:seeds], strict=True)]


def only(claim: Claim, *blocks: Made, **given: Any) -> Verdict:
    """The verdict on one claim about blocks named a, b, ..."""
    sees = given.pop("sees_effects", None)
    study, scores = study_of(dict(zip("abc", blocks, strict=False)), [claim], **given)
    (found,) = verdicts(study, scores, sees)
    return found


def two(shift: float, seeds: int = 9, **made: Any) -> Made:
    return Made({"dapo": BASE[:seeds], "fipo": above(shift, seeds)}, **made)


@pytest.mark.parametrize(
    ("shift", "margin", "word"),
    [(0.05, 0.0, "supported"), (-0.05, 0.0, "contradicted"), (0.0, 0.0, "undecided"), (0.0, 0.5, "contradicted")],
)
def test_the_interval_of_the_pairs_decides(shift: float, margin: float, word: str) -> None:
    found = only(replace(CLAIM, margin=margin), two(shift))
    assert found.word == found.decision == word
    by_hand = paired_t(above(shift), BASE)
    assert agree([found.evidence.low, found.evidence.high], [by_hand.low, by_hand.high])
    assert found.effect == f"{by_hand.difference:+.3f} [{by_hand.low:+.3f}, {by_hand.high:+.3f}]"


def test_arms_that_are_bit_for_bit_the_same_are_called_identical() -> None:
    found = only(replace(CLAIM, kind="equivalent", margin=0.1), Made({"dapo": BASE, "fipo": BASE}))
    assert (found.word, found.decision) == ("identical: the switch changed no update", "identical")
    assert found.effect == "no difference in any number"
    assert found.evidence.p is None
    assert not only(CLAIM, Made({"dapo": BASE, "fipo": [*BASE[:8], 0.8]})).identical


@pytest.mark.parametrize(
    ("shares", "word"),
    [
        ((0.0, 0.0, 0.0), "undecided: fipo_safety_threshold never acted"),
        ((0.1, 0.0, 0.0), "supported, though fipo_safety_threshold never acted at 4 and 8"),
        ((0.1, 0.1, 0.1), "supported"),
    ],
)
def test_a_setting_that_never_acted_decides_nothing(shares: tuple[float, ...], word: str) -> None:
    levels = tuple(above(shift) for shift in (0.0, 0.1, 0.2))
    block = Made(
        {"fipo": levels}, "fipo", ("fipo_safety_threshold",), (2.0, 4.0, 8.0), columns={"safety_share": shares}
    )
    assert only(TREND, block).word == word
    said = [note for note in notes(*study_of({"a": block}, [TREND])) if "never acted" in note]
    assert len(said) == (0.0 in shares)


def answers(study: Any, tokens: dict[str, list[int]]) -> Any:
    """The study with right answers of these lengths, a prompt each, by arm."""
    table = pd.concat(
        [
            study.evals[study.evals["arm"].str.contains(arm)].assign(prompt_id=f"p{i}", response_tokens=length)
            for arm, lengths in tokens.items()
            for i, length in enumerate(lengths)
        ]
    )
    return replace(study, evals=table)


@pytest.mark.parametrize(
    ("tokens", "limit", "word"),
    [
        ({"dapo": [20, 30, 40], "fipo": [20, 30, 40]}, 72, CEILING),  # the prompt says how long a right answer is
        ({"dapo": [20, 30, 40], "fipo": [27, 35, 48]}, 72, "contradicted"),  # it does not, and there is no difference
        ({"dapo": [20, 30, 40], "fipo": [27, 35, 48]}, 31, CEILING),  # no answer may be longer
    ],
)
def test_a_claim_of_longer_answers_at_the_ceiling_is_not_testable(
    tokens: dict[str, list[int]], limit: int, word: str
) -> None:
    length = {"final_response_tokens": {"dapo": 30.0, "fipo": 30.0}}
    study, scores = study_of({"a": two(0.0, columns=length)}, [LENGTH])
    configs = {run: {"rollout": {"max_response_tokens": limit}} for run in study.configs}
    (found,) = verdicts(replace(answers(study, tokens), configs=configs), scores)
    assert found.word == word


def test_too_few_seeds_claim_nothing_however_large_the_difference() -> None:
    fell = frozenset({("fipo", 1)})
    four, seven, eight = only(CLAIM, two(0.5, 4)), *(only(CLAIM, two(0.05, n, collapsed=fell)) for n in (7, 8))
    assert four.word == "undecided: fewer than 5 seeds"
    assert seven.word == "undecided: ranks need at least 8 seeds"
    assert eight.word == "supported, by ranks, since runs collapsed"
    assert seven.collapsed == eight.collapsed == ("a.fipo.0-seed1",)


def test_collapsed_runs_without_shared_seeds_decide_nothing_and_say_so() -> None:
    apart = Made({"fipo": above(0.5)}, first_seed=50, collapsed=frozenset({("fipo", 51)}))
    claim = replace(CLAIM, arm="b/fipo", baseline="a/dapo")
    found = only(claim, Made({"dapo": BASE}), apart)
    assert found.word == "undecided: runs collapsed, and the arms share too few seeds"


def test_what_holds_with_seeds_as_units_alone_says_so_in_the_same_line() -> None:
    by_start = [0.01, 0.05, 0.09] * 3
    moved = [base + shift for base, shift in zip(BASE, by_start, strict=True)]
    found = only(CLAIM, Made({"dapo": BASE, "fipo": moved}), warm_starts=3)
    assert found.word == "supported, with seeds as units but not with warm starts as units"
    assert only(CLAIM, two(0.05), warm_starts=3).word == "supported"
    assert only(CLAIM, two(0.05)).over_starts is None


def test_the_warm_start_as_the_unit_has_two_degrees_of_freedom() -> None:
    found = over_warm_starts(pd.Series([1.0, 2.0, 3.0, 3.0, 4.0, 5.0]), 3, 0.95)
    by_hand = paired_t(np.array([2.0, 3.0, 4.0]), np.zeros(3))
    assert found is not None
    assert agree([found.difference, found.low, found.high], [3.0, by_hand.low, by_hand.high])


def test_without_a_positive_control_that_is_seen_claims_against_placebos_are_undecided() -> None:
    block = Made({"dapo": BASE, "blame": above(0.1), "damp": above(0.05)})
    claim = replace(CLAIM, arm="blame", baseline="damp")
    words = [only(claim, block, sees_effects=sees).word for sees in (True, None, False)]
    assert words == ["supported", "supported", BLIND]
    assert only(CLAIM, two(0.05), sees_effects=False).word == "supported"


# ---- which arms a claim is about ----


def test_a_bare_name_is_that_of_the_block_that_fits_the_claim() -> None:
    plain, other = two(0.05), two(-0.05)
    levels = {"dapo": (BASE, above(-0.2)), "fipo": (above(0.1), above(-0.1))}
    varied = Made(levels, varied=("fipo_safety_threshold",), levels=(2.0, 8.0))
    blocks = (varied, plain, other)
    trend = replace(TREND, arm="fipo", direction="lower")
    found = {name: only(replace(CLAIM, levels=name), *blocks) for name in (None, "own_best", "mean")}
    assert [one.sides[0] for one in found.values()] == [("b", "fipo"), ("a", "fipo"), ("a", "fipo")]
    assert only(trend, *blocks).sides == (("a", "fipo"),)
    assert only(replace(CLAIM, arm="c/fipo", baseline="c/dapo"), *blocks).decision == "contradicted"
    assert agree(found["own_best"].evidence.effect, 0.1)
    assert agree(found["mean"].evidence.effect, 0.1)
    assert found["own_best"].unit == "AUC at its own best level"


def test_a_collapse_at_a_level_that_no_seed_is_scored_at_does_not_count() -> None:
    levels = {"dapo": (BASE, above(-0.2)), "fipo": (above(0.1), above(-0.1))}
    made = Made(levels, varied=("lr",), levels=(1e-4, 2e-4))
    study, scores = study_of({"a": made}, [replace(CLAIM, levels="own_best")])
    for place, fell in ((1, 0), (0, 9)):
        hit = (scores["arm"] == "fipo") & (scores["place"] == place)
        (found,) = verdicts(study, scores.assign(collapsed=hit))
        assert len(found.collapsed) == fell


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"baseline": "grpo"}, "needs a block that varies nothing with fipo"),
        ({"levels": "mean"}, "needs a block that varies a setting with fipo"),
        ({"arm": "z/fipo"}, "needs a block that varies nothing with z/fipo"),
        ({"baseline": None, "parameter": "lr", "start": 1.0, "end": 2.0}, "needs a block that varies lr with fipo"),
        ({"arm": "none"}, "needs runs of none"),
    ],
)
def test_what_no_runs_can_answer_is_listed(changes: dict[str, Any], why: str) -> None:
    block = Made({"dapo": BASE, "fipo": above(0.0), "none": []})
    study, scores = study_of({"a": block}, [replace(CLAIM, id="asked", text="that", **changes), CLAIM])
    assert not_tested(study, scores) == [("that", why)]
    assert [row.claim.id for row in verdicts(study, scores)] == ["better"]


def test_levels_count_the_primary_claims_that_the_plan_can_test() -> None:
    """One without runs yet was asked all the same; one whose arms are not planned was not."""
    claims = [
        replace(CLAIM, id="unplanned", arm="grpo"),
        replace(CLAIM, id="to come", arm="none"),
        CLAIM,
        replace(CLAIM, id="explored", role="exploratory"),
    ]
    study, scores = study_of({"a": Made({"dapo": BASE, "fipo": above(0.05), "none": []})}, claims)
    rows = verdicts(study, scores)
    assert [(row.key, row.claim.id) for row in rows] == [("P2", "better"), ("E1", "explored")]
    assert agree([row.evidence.level for row in rows], [0.975, 0.95])
    assert rows[0].evidence.p is not None
    assert agree(rows[0].p_corrected, 2 * rows[0].evidence.p)
    assert agree(rows[1].p_corrected, rows[1].evidence.p)


def test_an_exploratory_finding_that_the_number_of_questions_explains_says_so() -> None:
    """Twelve questions, one of which is answered by an interval just beyond 0."""
    blocks = {"a": two(0.0024), **{f"b{i}": Made({"dapo": BASE, "fipo": above(0.0)}) for i in range(11)}}
    explored = replace(CLAIM, role="exploratory")
    asked = [replace(explored, id=name, arm=f"{name}/fipo", baseline=f"{name}/dapo") for name in blocks]
    study, scores = study_of(blocks, asked)
    alone, among = (verdicts(replace(study, claims=claims), scores)[0] for claims in (_first(study), study.claims))
    assert alone.word == "supported"
    assert among.word == "supported, but not after correction for the number of questions"


def _first(study: Any) -> Claims:
    return replace(study.claims, claims=study.claims.claims[:1])


def test_without_fixed_claims_every_pair_is_exploratory() -> None:
    study, scores = study_of({"a": Made({"dapo": BASE, "fipo": above(0.1), "blame": above(0.2)})})
    (found,) = verdicts(study, scores)
    assert (found.key, found.claim.arms) == ("E1", ("a/fipo", "a/dapo"))
    assert found.claim.text == "FIPO learns faster than DAPO"


# ---- notes ----


def test_what_is_amiss_is_noted() -> None:
    study, scores = study_of({"a": two(0.0, collapsed=frozenset({("fipo", 2)}))}, [CLAIM])
    runs = study.runs.copy()
    runs.loc[0, "state"], runs.loc[1, "state"] = "preempted", "not started"
    study = replace(study, runs=runs, description={"claims": {"fixed_at": "2026-01-02"}})
    began = study.environments.assign(started_at=["2026-01-01", *["2026-01-03"] * 17])
    said = "\n".join(notes(replace(study, environments=began), scores))
    for words in ("(preempted)", "1 run of 18 to come", "after 1 run had begun"):
        assert words in said
    assert "a.fipo.0-seed2. They count at their last evaluation" in said


@pytest.mark.parametrize(("at", "noted"), [("2026-01-03", True), ("2026-01-01", False)])
def test_seeds_added_after_a_look_are_noted(at: str, noted: bool) -> None:
    study, scores = study_of({"a": two(0.0)}, [CLAIM])
    began = study.environments.assign(started_at="2026-01-02")
    about = {"claims": {"fixed_at": "2026-01-01"}, "plans": [{"at": "2026-01-01"}, {"at": at}]}
    said = notes(replace(study, environments=began, description=about), scores)
    assert any("The plan was changed 1 time" in note for note in said) == noted
