"""What each control shows, known by its role and by nothing else: no arm here has a name that the code could know."""

from dataclasses import replace
from typing import Any

import pytest

from analysis.records.design import Role
from analysis.verdict.controls import Control, controls, sees_effects
from tests.analysis.verdict.made import Made, study_of

ROLES = {
    "base": Role("Base"),
    "seen": Role("Seen", "base", "positive", "base", True),
    "even": Role("Even", "base", "placebo", "seen", True),
    "coin": Role("Coin", "base", "negative", "base", True),
    "ones": Role("Ones", "base", "identical", "base", True),
    "twin": Role("Twin", "base", "repeat", "base", True),
}
BASE = [0.70, 0.72, 0.69, 0.74, 0.71, 0.73]
NOISE = [0.004, -0.003, 0.001, 0.002, -0.004, 0.0]


def above(shift: float) -> list[float]:
    return [base + shift + noise for base, noise in zip(BASE, NOISE, strict=True)]


def one(*blocks: Made, warm_starts: int = 1) -> Control:
    (found,) = controls(*study_of(dict(zip("ab", blocks, strict=False)), roles=ROLES, warm_starts=warm_starts))
    return found


@pytest.mark.parametrize(("shift", "passed"), [(0.05, True), (0.0, False), (-0.05, False)])
def test_the_positive_control_must_be_distinguishable_from_what_it_is_held_against(shift: float, passed: bool) -> None:
    """Also where another arm of the same loss comes first in the study."""
    found = one(Made({"other": above(-0.3), "base": BASE, "seen": above(shift)}, "other"))
    assert (found.key, found.arm, found.against, found.passed) == ("C1", "seen", "base", passed)
    assert found.evidence is not None
    assert found.evidence.effect == pytest.approx(shift, abs=1e-9)
    assert f"Seen {'is' if passed else 'is not'} distinguishable from Base" in found.sentence


@pytest.mark.parametrize(
    ("even", "words"),
    [
        (0.0, "so that holds for token placement itself"),
        (0.05, "so these runs do not show that an effect of token placement can be seen"),
        (None, "how much of it is placement on tokens is not known"),
    ],
)
def test_placement_could_be_seen_only_where_it_is_distinguishable_from_its_placebo(
    even: float | None, words: str
) -> None:
    arms = {"base": BASE, "seen": above(0.05)} | ({} if even is None else {"even": [x + 0.0001 for x in above(even)]})
    found = one(Made(arms, "base"))
    assert found.passed
    assert words in found.sentence
    assert ("do not show that an effect of token placement" in found.sentence) == (even == 0.05)


def test_four_seeds_do_not_say_what_could_have_been_seen() -> None:
    found = one(Made({"base": BASE[:4], "seen": above(0.5)[:4]}, "base"))
    assert (found.passed, found.word) == (None, "not known")
    assert "too few seeds" in found.sentence


@pytest.mark.parametrize(
    ("coin", "passed", "words"),
    [
        ([0.11, 0.09, 0.10], True, "less than half of what any compared arm gained"),
        ([0.41, 0.40, 0.42], False, "gains here are not all learning from the reward"),
        ([0.05, 0.80, 0.10], None, "is not settled"),
        ([0.1], None, "fewer than two seeds"),
    ],
)
def test_the_negative_control_must_stay_where_it_began(coin: list[float], passed: bool | None, words: str) -> None:
    found = one(Made({"base": BASE, "coin": coin}, "base"))
    assert found.passed is passed
    assert words in found.sentence


@pytest.mark.parametrize(
    ("ones", "passed", "words"),
    [
        (BASE[:3], True, "Ones is Base bit for bit (in 3 of 3 seeds"),
        ([*BASE[:2], 0.1], False, "Ones is not Base bit for bit (in 2 of 3 seeds"),
    ],
)
def test_an_identical_arm_must_be_the_same_run_in_every_seed(ones: list[float], passed: bool, words: str) -> None:
    found = one(Made({"base": BASE, "ones": ones}, "base"))
    assert found.passed is passed
    assert words in found.sentence


@pytest.mark.parametrize(
    ("twin", "passed", "words"),
    [
        (above(0.0), True, "Twin is not distinguishable from Base"),
        (above(0.1), False, "about 1 report in 20 shows this"),
        (above(0.0)[:4], None, "too few seeds"),
    ],
)
def test_a_repeat_is_paired_by_place_with_the_block_of_the_same_settings(
    twin: list[float], passed: bool | None, words: str
) -> None:
    settings: dict[str, Any] = {"lr": 1e-4}
    blocks = (Made({"base": BASE}, "base", settings=settings), Made({"twin": twin}, "twin", first_seed=102))
    found = one(blocks[0], replace(blocks[1], settings=settings), warm_starts=3)
    assert found.passed is passed
    assert words in found.sentence
    assert found.evidence is not None
    assert (found.evidence.method, found.evidence.pairs) == ("paired", len(twin))
    assert "was not run with the settings" in one(*blocks, warm_starts=3).sentence


def test_a_repeat_of_the_same_seeds_repeats_nothing() -> None:
    found = one(Made({"base": BASE, "twin": BASE}, "base"))
    assert found.passed is None
    assert "so it repeats its runs" in found.sentence


def test_controls_come_in_the_order_of_their_kinds_and_a_failed_positive_one_is_known() -> None:
    block = Made({"twin": BASE, "coin": [0.1] * 6, "seen": BASE[::-1], "base": BASE}, "base")
    found = controls(*study_of({"a": block}, roles=ROLES))
    assert [(one.key, one.role) for one in found] == [("C1", "positive"), ("C2", "negative"), ("C3", "repeat")]
    assert sees_effects(found) is False
    assert sees_effects(found[1:]) is None
