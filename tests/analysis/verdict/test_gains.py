from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from analysis.records.design import Role
from analysis.verdict.gains import fieller, gains
from tests.analysis.verdict.made import CLAIM, ROLES, Made, study_of


def test_the_share_is_the_ratio_of_the_means() -> None:
    whole = np.array([0.30, 0.34, 0.26, 0.31, 0.29, 0.30])
    found = fieller(whole / 2, whole)
    assert found.share == pytest.approx(0.5)
    assert (found.kind, found.low, found.high) == ("interval", pytest.approx(0.5), pytest.approx(0.5))


def test_the_ends_are_the_ratios_that_a_t_test_just_rejects() -> None:
    rng = np.random.default_rng(3)
    whole, part = rng.normal(0.3, 0.08, 9), rng.normal(0.2, 0.08, 9)
    found = fieller(part, whole)
    for end in (found.low, found.high):
        assert stats.ttest_1samp(part - end * whole, 0).pvalue == pytest.approx(0.05, abs=1e-9)
    inside = (found.low + found.high) / 2
    assert stats.ttest_1samp(part - inside * whole, 0).pvalue > 0.05


def test_without_a_gain_any_share_fits() -> None:
    noise = np.random.default_rng(5).normal(0, 0.1, 9)
    found = fieller(noise, noise[::-1] - noise.mean())
    assert found.kind == "unbounded"
    assert "no bounded interval: the gain is not distinguishable from 0" in found.words


def test_four_seeds_have_no_interval() -> None:
    values = np.array([0.3, 0.31, 0.29, 0.3])
    assert fieller(values, values).kind == "few"


WHOLE = {"dapo": [0.5, 0.6, 0.7, 0.6, 0.5], "blame": [0.7, 0.81, 0.9, 0.79, 0.7]}
HALF = [(a + b) / 2 for a, b in zip(*WHOLE.values(), strict=True)]


def test_placebos_are_known_by_their_role_and_the_baseline_by_what_the_whole_is_against() -> None:
    blocks = {
        "a": Made({"fipo": HALF, **WHOLE, "damp": HALF}, baseline="fipo"),
        "b": Made({"dapo": HALF, "fipo": HALF}),  # has no placebo
        "c": Made({"dapo": (HALF,), "blame": (HALF,), "damp": (HALF,)}, varied=("lr",), levels=(1e-4,)),
    }
    (found,) = gains(*study_of(blocks))
    assert (found.block, found.baseline, found.whole, found.metric) == ("a", "dapo", "blame", "auc")
    assert list(found.means["arm"]) == ["blame", "damp"]
    assert found.means["mean"].tolist() == pytest.approx([0.2, 0.1])
    assert found.shares["damp"].share == pytest.approx(0.5)


def test_without_the_arm_that_the_whole_is_against_the_blocks_baseline_serves() -> None:
    roles = ROLES | {"blame": Role("wide", "fipo", None, "fipo"), "damp": Role("damp", "blame", "placebo", "blame")}
    claim = replace(CLAIM, arm="a/blame", baseline="a/damp", metric="final_accuracy")
    (found,) = gains(*study_of({"a": Made({**WHOLE, "damp": HALF})}, [claim], roles))
    assert (found.baseline, found.whole, found.metric) == ("dapo", "blame", "final_accuracy")
