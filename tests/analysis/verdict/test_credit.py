"""The microscope's verdict on folders with a truth that is known."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from analysis.figures.catalogue import study_figures
from analysis.records.claims import Credit
from analysis.records.credit import PARTS
from analysis.records.outcomes import OUTCOMES
from analysis.records.study import read
from analysis.statistics.intervals import paired_t
from analysis.verdict.credit import CreditFindings
from analysis.verdict.findings import findings
from tests.analysis import folders
from tests.analysis.page_check import check_page

COSINES = {"dapo": 0.10, "fipo_wide": 0.15, "wide_shuffled": 0.14, "wide_sign_mean": 0.13, "true_ranks": 0.30}
KINDS = {"fipo_wide": "loss", "dapo": "loss", "true_ranks": "truth"}
LIKE = {"wide_shuffled": "fipo_wide", "wide_sign_mean": "fipo_wide", "true_ranks": "dapo"}
TOKENS = 12
CLAIM = """
[[claim]]
id = "{metric}"
text = "{metric} is above 0"
source = "a test"
role = "primary"
kind = "superior"
arm = "dapo"
metric = "{metric}"
margin = 0.0
"""


def write_microscope(run: Path, seed: int, steps: tuple[int, ...] = (1, 4), **plan: Any) -> None:
    """Cosines of COSINES plus what the seed shares plus noise; weights of fipo_wide in the order of sign(A) credit."""
    rng = np.random.default_rng(seed)
    folder = run / "microscope"
    candidates = {
        name: {"kind": KINDS.get(name, "placebo"), "label": name.replace("_", " "), "like": LIKE.get(name)}
        for name in COSINES
    }
    described = {"plan": {"steps": list(steps), **plan}, "candidates": candidates}
    folders.write_json(folder / "microscope.json", described)
    for step in steps:
        lines, rows = [], []
        for update in (3, 9):
            shared = rng.normal(0, 0.02)
            for name, cosine in COSINES.items():
                own = cosine + shared + rng.normal(0, 0.001)
                line = {"step": step, "update": update, "candidate": name, "norm": 2.0, "accuracy": 0.5}
                lines.append(line | {"cosine": own, "projection": own / 2, "halves_cosine": 0.5})
            for response in range(8):
                advantage = 1.0 if response % 2 else -1.0
                credit = rng.permutation(TOKENS) / TOKENS - 0.4
                rows += [
                    {"step": step, "update": update, "prompt_id": str(response), "sample": 0, "start": place}
                    | {"tokens": 1, "response_tokens": TOKENS, "advantage": advantage, "value": 0.5}
                    | {"credit_first": one, "credit_second": one, "log_ratio": one, "future_kl": rng.normal()}
                    | {
                        "weight/dapo": 1.0,
                        "weight/fipo_wide": 1 + 0.1 * advantage * one,
                        "weight/wide_shuffled": rng.random(),
                    }
                    for place, one in enumerate(credit)
                ]
        folders.write_json(folder / f"step_{step:06d}.json", {"off": 0.0, "lines": lines})
        pd.DataFrame(rows).to_parquet(folder / f"tokens_{step:06d}.parquet")


def looked_study(folder: Path, seeds: int = 5, claims: str = "") -> Path:
    truth = folders.StudyTruth((folders.ArmTruth("dapo", seeds=seeds),), claims=claims)
    study = folders.write_study(folder, folders.smaller(truth, steps=2, prompts=4, final_samples=2))
    for seed in range(seeds):
        write_microscope(study / "runs" / f"dapo-seed{seed}", seed)
    return study


@pytest.fixture(scope="module")
def credit(tmp_path_factory: pytest.TempPathFactory) -> CreditFindings:
    found = findings(read([looked_study(tmp_path_factory.mktemp("looked") / "study")])).credit
    assert found is not None
    return found


def test_cosines_and_differences_are_the_truth_over_runs(credit: CreditFindings) -> None:
    assert credit.unit == "seed"
    assert len(credit.cosines) == 5
    table = credit.directions.set_index("candidate")
    for name, cosine in COSINES.items():
        assert table.loc[name, "cosine"] == pytest.approx(cosine, abs=0.03)
        assert table.loc[name, "minus_dapo"] == pytest.approx(cosine - COSINES["dapo"], abs=0.002)
    assert table.loc["wide_shuffled", "minus_like"] == pytest.approx(-0.01, abs=0.002)
    assert table.loc["true_ranks", "minus_like"] == table.loc["true_ranks", "minus_dapo"]
    each = credit.microscope.gradients.groupby(["seed", "candidate"])["cosine"].mean().unstack()
    shown = paired_t(each["true_ranks"].to_numpy(), each["dapo"].to_numpy())
    assert table.loc["true_ranks", "low"] == pytest.approx(shown.low)
    raw = sorted(table["p"].drop("dapo"))
    assert sorted(table["p_holm"].drop("dapo"))[0] == pytest.approx(min(1, 4 * raw[0]))
    assert np.isnan(table.loc["dapo", "p_holm"])
    assert credit.ceiling == pytest.approx((2 * 0.5 / 1.5) ** 0.5)


def test_a_gain_is_split_into_its_parts(credit: CreditFindings) -> None:
    parts = {row["key"]: row for row in credit.contrasts}
    assert set(parts) == {"polarity", "placement", "whole", "headroom", "missed"}
    assert parts["placement"]["effect"] == pytest.approx(0.01, abs=0.002)
    assert parts["polarity"]["effect"] == pytest.approx(0.03, abs=0.002)
    assert parts["whole"]["low"] < 0.05 < parts["whole"]["high"]


def test_weights_that_lie_where_credit_lies_agree_for_either_sign(credit: CreditFindings) -> None:
    table = credit.agreement.set_index(["quantity", "sign"])["correlation"]
    assert table["weight/fipo_wide", 1] == pytest.approx(1)
    assert table["weight/fipo_wide", -1] == pytest.approx(1)
    assert table["log_ratio", 1] == pytest.approx(1)
    assert table["log_ratio", -1] == pytest.approx(-1)  # the wrong way round
    assert abs(table["weight/wide_shuffled", 1]) < 0.15
    assert "weight/dapo" not in table
    assert credit.reliability == pytest.approx(1)


def test_of_a_single_run_steps_are_the_units(tmp_path: Path) -> None:
    found = findings(read([looked_study(tmp_path / "study", seeds=1)])).credit
    assert found is not None
    assert found.unit == "step"
    assert list(found.cosines.index) == [1, 4]


def test_runs_measured_in_part_or_otherwise_are_left_out_and_named(tmp_path: Path) -> None:
    study = looked_study(tmp_path / "study", seeds=4)
    (study / "runs/dapo-seed2/microscope/step_000004.json").unlink()
    write_microscope(study / "runs/dapo-seed3", 2, continuations=4)
    found = findings(read([study]))
    assert found.credit is not None
    assert list(found.credit.microscope.folders) == ["dapo-seed0", "dapo-seed1"]
    said = "Measured by the microscope in part, or under another plan, and left out: dapo-seed2 and dapo-seed3."
    assert said in found.notes


def test_an_inexact_repetition_is_said(tmp_path: Path) -> None:
    study = looked_study(tmp_path / "study", seeds=2)
    path = study / "runs/dapo-seed1/microscope/step_000004.json"
    folders.write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"off": 0.02})
    assert any("up to 0.02 nats off those recorded" in note for note in findings(read([study])).notes)


def test_gradients_without_direction_and_weights_that_never_differ_are_no_error(tmp_path: Path) -> None:
    study = looked_study(tmp_path / "study", seeds=2)
    for folder in (study / "runs").iterdir():
        for path in (folder / "microscope").glob("step_*.json"):
            content = json.loads(path.read_text(encoding="utf-8"))
            for line in content["lines"]:
                line["cosine"] = None if line["candidate"] == "true_ranks" else line["cosine"]
            folders.write_json(path, content)
        for path in (folder / "microscope").glob("*.parquet"):
            same = {"log_ratio": 0.0, "future_kl": 0.0, "weight/fipo_wide": 1.0, "weight/wide_shuffled": 1.0}
            pd.read_parquet(path).assign(**same).to_parquet(path)
    credit = findings(read([study])).credit
    assert credit is not None
    assert credit.agreement.empty
    assert credit.directions.set_index("candidate")["cosine"].isna().to_dict()["true_ranks"]
    assert credit.sentences


def test_every_metric_of_credit_that_a_claim_may_name_is_measured() -> None:
    named = set(get_args(Credit))
    assert named <= {f"credit/{part}" for part in PARTS}
    assert named <= set(OUTCOMES)


def test_a_claim_about_credit_is_decided_by_the_microscope(tmp_path: Path) -> None:
    claims = "".join(CLAIM.format(metric=f"credit/{name}") for name in ("placement", "headroom", "response"))
    found = findings(read([looked_study(tmp_path / "study", claims=claims)]))
    assert {item.claim.metric: item.decision for item in found.verdicts} == {
        "credit/placement": "supported",
        "credit/headroom": "supported",
    }
    assert found.not_tested == [("credit/response is above 0", "needs runs looked at by harness microscope")]


def test_the_report_shows_it_first_and_says_it_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from analysis.__main__ import main

    study = looked_study(tmp_path / "study")
    assert main(["report", str(study)]) == 0
    assert "placement on tokens within responses: +0.01" in capsys.readouterr().out.lower()
    page = (study / "report" / "report.html").read_text(encoding="utf-8")
    check_page(page)
    assert page.index("Is it credit?") < page.index("<nav")
    (drawn,) = study_figures(findings(read([study])), ["credit"])
    assert set(drawn.tables) == {"directions", "units", "agreement", "places"}
    assert main(["verify", str(study / "report")]) == 0
