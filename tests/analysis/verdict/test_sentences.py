"""Sentences say what their intervals say, and no more."""

import json
from dataclasses import replace
from typing import Any

import pytest

from analysis.records.claims import Claim
from analysis.verdict.controls import controls, sees_effects
from analysis.verdict.findings import Findings
from analysis.verdict.gains import gains
from analysis.verdict.notes import notes
from analysis.verdict.sentences import (
    control_sentences,
    cost,
    headline,
    limits,
    statement,
    what_it_would_take,
)
from analysis.verdict.verdicts import not_tested, verdicts
from tests.analysis.verdict.made import CLAIM, Made, study_of
from tests.analysis.verdict.test_verdicts import BASE, two


def found_in(blocks: dict[str, Made], claims: list[Claim], **given: Any) -> Findings:
    study, scores = study_of(blocks, claims, **given)
    planted = controls(study, scores)
    rows, missing = verdicts(study, scores, sees_effects(planted)), not_tested(study, scores)
    return Findings(study, scores, rows, missing, planted, gains(study, scores), notes(study, scores))


def test_a_sentence_has_word_claim_effect_interval_seeds_and_test() -> None:
    (row,) = found_in({"a": two(0.05)}, [CLAIM]).verdicts
    words = f"Supported. FIPO learns faster than DAPO: {row.effect} AUC, 9 seeds, paired t [P1]."
    assert statement(row) == words


def test_identical_arms_have_no_number() -> None:
    found = found_in({"a": Made({"dapo": BASE, "fipo": BASE})}, [CLAIM])
    head = "Identical: the switch changed no update. FIPO learns faster than DAPO: "
    assert statement(found.verdicts[0]) == f"{head}the two arms are the same runs bit for bit [P1]."
    assert headline(found) == "Of 1 primary claim 1 is identical."


@pytest.mark.parametrize(
    ("seeds", "words"),
    [(4, "Fewer than 5 seeds: 1 primary claim is undecided"), (9, "Of 1 primary claim 1 is undecided.")],
)
def test_the_headline_counts_the_primary_claims(seeds: int, words: str) -> None:
    assert headline(found_in({"a": two(0.0, seeds)}, [CLAIM])).startswith(words)


def test_primary_claims_come_first_and_explored_ones_are_no_headline() -> None:
    found = found_in({"a": two(0.05)}, [replace(CLAIM, id="e", role="exploratory"), replace(CLAIM, id="p")])
    assert [row.key for row in found.verdicts] == ["P1", "E1"]
    assert headline(found) == "Of 1 primary claim 1 is supported."
    explored = found_in({"a": two(0.05)}, [replace(CLAIM, role="exploratory")])
    assert headline(explored) == "Of 1 exploratory comparison 1 is supported."


def test_what_it_would_take_is_about_undecided_primary_claims_alone() -> None:
    needs = what_it_would_take(found_in({"a": two(0.0)}, [replace(CLAIM, margin=0.001)]))
    assert "FIPO learns faster than DAPO: about " in needs
    assert "seeds per arm (an effect of " in needs
    plain = what_it_would_take(found_in({"a": two(0.0)}, [CLAIM]))
    assert "no margin was declared; an effect of 0.003 would be found four times in five" in plain
    assert what_it_would_take(found_in({"a": two(0.05)}, [CLAIM])).endswith("other warm starts.")


@pytest.mark.parametrize(("starts", "words"), [(1, "All seeds share one warm start"), (3, "on these 3 warm starts")])
def test_limits_name_the_warm_starts(starts: int, words: str) -> None:
    assert words in limits(found_in({"a": two(0.05)}, [CLAIM], warm_starts=starts))


def test_limits_name_the_claims_that_warm_starts_as_units_do_not_decide() -> None:
    moved = [base + shift for base, shift in zip(BASE, [0.01, 0.05, 0.09] * 3, strict=True)]
    found = found_in({"a": Made({"dapo": BASE, "fipo": moved})}, [CLAIM], warm_starts=3)
    assert "With warm starts as units in place of seeds, P1 would not be decided." in limits(found)
    assert "not with warm starts as units" in statement(found.verdicts[0])


def test_forks_are_the_units_and_states_stand_beside() -> None:
    """Nine forks of three states after 1, 2 and 3 steps, two steps each."""
    moved = [base + more for base, more in zip(BASE, [0.01, 0.05, 0.09] * 3, strict=True)]
    study, scores = study_of({"a": Made({"dapo": BASE, "fipo": moved})}, [CLAIM], warm_starts=3)
    states = [{"run": "runs/dapo-seed0", "step": step} for step in (1, 2, 3)]
    study = replace(study, description=study.description | {"fork": {"states": states, "steps": 2}})
    found = Findings(study, scores, verdicts(study, scores), [], [], [], [])
    assert statement(found.verdicts[0]).startswith("Supported, with forks as units but not with states as units. ")
    assert ", 9 forks, paired t [P1]." in statement(found.verdicts[0])
    assert "All intervals are conditional on these 3 states. With states as units in place of forks, P1" in limits(
        found
    )


def test_the_cost_counts_a_shared_run_once() -> None:
    spent = {"seconds": 1800.0, "generated_tokens": 1e6}
    found = found_in({"a": two(0.0, 3, columns=spent)}, [CLAIM])
    assert cost(found) == "6 runs, 6.0 million generated tokens, 3.00 hours of training (3.00 CPU-hours)"
    twice = replace(found, scores=found.scores.assign(run="a.dapo.0-seed0"))
    assert cost(twice).startswith("1 run, 1.0 million")


def test_without_a_control_nothing_shows_what_could_have_been_seen() -> None:
    said = control_sentences(found_in({"a": two(0.05)}, [CLAIM]))
    assert said == ["No control was run, so nothing shows which effects could have been seen here."]


def test_the_findings_are_json_of_numbers_and_null() -> None:
    blocks = {"a": Made({"dapo": BASE[:1], "fipo": [0.9], "blame": [0.8], "damp": [0.7]})}
    content = found_in(blocks, [CLAIM]).as_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    (row,) = content["claims"]
    assert (row["low"], row["p"], row["decision"]) == (None, None, "undecided")
