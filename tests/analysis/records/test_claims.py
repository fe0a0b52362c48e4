from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.errors import RecordsError
from analysis.records.claims import SHIPPED, claims_file, claims_of, read_claims

CLAIM = """
[[claim]]
id = "better"
text = "FIPO is more accurate than DAPO"
source = "Table 1"
role = "primary"
kind = "superior"
arm = "fipo"
baseline = "dapo"
metric = "auc"
margin = 0.01
"""
METRICS = ("auc", "accuracy_at_equal_tokens", "final_accuracy")
TREND = """
[[claim]]
id = "flat"
text = "the decay rate matters little"
source = "Table 6"
role = "primary"
kind = "equivalent"
arm = "fipo"
parameter = "fipo_decay_rate"
from = 8
to = 256
metric = "final_accuracy"
margin = 0.03
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_every_shipped_file_can_be_decided() -> None:
    for path in SHIPPED.glob("*.toml"):
        assert read_claims(path).claims


def test_the_papers_claims_are_all_asked() -> None:
    claims = read_claims(claims_file("fipo-paper"))
    primary = {claim.id for claim in claims.claims if claim.role == "primary"}
    assert {"fipo_above_dapo", "dapo_above_grpo", "fipo_reasons_longer", "accuracy_grows_with_length"} <= primary
    asked = {claim.id for claim in claims.claims}
    assert {"filter_is_needed", "two_sided_above_one_sided", "decay_rate_matters_little"} <= asked
    assert "safety_threshold_helps" in asked


@pytest.mark.parametrize("name", ["fipo-paper", "controlled"])
def test_beside_speed_of_learning_stand_equal_tokens_and_the_end(name: str) -> None:
    """AUC is called what it is, and every pair that it is asked of is asked the other two questions too."""
    claims = read_claims(claims_file(name)).claims
    asked = {metric: {claim.arms for claim in claims if claim.metric == metric} for metric in METRICS}
    assert asked["auc"] == asked["accuracy_at_equal_tokens"] == asked["final_accuracy"] - {("fipo",)}
    for claim in claims:
        assert (claim.metric == "auc") == ("faster" in claim.text)
        assert claim.role == "exploratory" or claim.metric not in METRICS[1:] or claim.parameter


def test_the_hash_is_of_the_bytes(tmp_path: Path) -> None:
    first = read_claims(written(tmp_path, CLAIM)).sha256
    assert read_claims(written(tmp_path, CLAIM + "# a word\n")).sha256 != first


def edited(old: str, new: str) -> Callable[[], str]:
    assert old in CLAIM
    return lambda: CLAIM.replace(old, new)


WRONG = {
    "no claim": (lambda: "title = 'none'", "expected [[claim]] tables"),
    "no toml": (lambda: "[[claim", "expected a TOML file of claims"),
    "twice": (lambda: CLAIM + CLAIM, "expected each id once"),
    "unknown field": (edited("margin", "margins = 1\nmargin"), "with margins: Unexpected keyword argument"),
    "no margin": (edited("margin = 0.01", ""), "with margin: Field required"),
    "negative margin": (edited("0.01", "-0.01"), "expected a margin 0 or more"),
    "margin of words": (edited("0.01", "'small'"), "with margin: Input should be a valid integer, got 'small'"),
    "equivalent within nothing": (lambda: TREND.replace("0.03", "0.0"), "expected a margin above 0"),
    "role": (edited('"primary"', '"main"'), "with role: Input should be 'primary' or 'exploratory', got 'main'"),
    "kind": (edited('"superior"', '"better"'), "with kind: Input should be 'superior' or 'equivalent'"),
    "metric": (edited('"auc"', '"beauty"'), "with metric: Input should be 'auc', "),
    "no baseline": (edited('baseline = "dapo"', ""), "expected a baseline"),
    "a baseline too many": (edited('"auc"', '"length_slope"'), "expected no baseline"),
    "half a trend": (lambda: TREND.replace("to = 256", ""), "expected parameter, from and to"),
    "a trend backwards": (lambda: TREND.replace("to = 256", "to = 4"), "0 < from < to"),
    "a trend of something else": (
        lambda: TREND.replace("final_accuracy", "accuracy_at_equal_tokens"),
        "expected one of auc, final_accuracy, final_response_tokens as metric for a trend",
    ),
}


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_decided_is_refused_in_one_line(
    text: Callable[[], str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, text())
    assert main(["claims", str(path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_the_command_names_each_claim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", str(written(tmp_path, CLAIM + TREND))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "better" in lines[1]


def test_claims_that_changed_after_they_were_fixed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(CLAIM)
    recorded = {"name": "mine", "sha256": read_claims(path).sha256}
    assert claims_of(tmp_path, {}) is None
    found = claims_of(tmp_path, {"claims": recorded})
    assert found is not None
    assert found.name == "mine"
    path.write_text(CLAIM.replace("0.01", "0.0"))
    with pytest.raises(RecordsError, match="as it was fixed before the runs"):
        claims_of(tmp_path, {"claims": recorded})
