import hashlib
import json
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.__main__ import main
from analysis.errors import RecordsError
from analysis.records.search import read_search
from analysis.verdict.search_claims import GridClaim
from analysis.verdict.search_findings import search_findings
from tests.analysis import folders, search_folders
from tests.analysis.agreement import agree
from tests.analysis.search_folders import grid_truth
from tests.analysis.test_claims import CLAIM, TREND

SHORT = {"fipo": {"fipo_decay_rate": {"kind": "choice", "values": [2.0, 8.0, 32.0]}}}


def written(folder: Path, claims: str = TREND + CLAIM, **changes: Any) -> Path:
    """A designed grid over the decay rate whose claims were fixed before it began."""
    search_folders.write_search(folder, grid_truth(**changes))
    (folder / "claims.toml").write_text(claims)
    description = json.loads((folder / "study.json").read_text())
    recorded = {"name": "ours", "sha256": hashlib.sha256(claims.encode()).hexdigest(), "fixed_at": ""}
    folders.write_json(folder / "study.json", description | {"claims": recorded})
    return folder


def claim_of(folder: Path, **changes: Any) -> GridClaim:
    (found,) = search_findings(read_search(written(folder, **changes))).claims
    return found


def rising(given: dict[str, Any]) -> float:
    return 0.7 + 0.02 * log2(given["fipo_decay_rate"])


def test_a_flat_grid_supports_that_the_rate_matters_little(tmp_path: Path) -> None:
    found = claim_of(tmp_path, noise=1e-3)
    assert found.evidence.decision == "supported"
    assert agree(found.evidence.level, 0.90)
    assert "supported. fipo_decay_rate from 8 to 256" in found.sentence


def test_a_rising_grid_contradicts_it_by_the_change_from_start_to_end(tmp_path: Path) -> None:
    found = claim_of(tmp_path, noise=1e-5, truth=rising)
    assert abs(found.evidence.effect - 0.02 * 5) < 1e-3  # five doublings from 8 to 256
    assert found.evidence.decision == "contradicted"


def test_effect_and_interval_are_those_of_the_seeds_own_lines(tmp_path: Path) -> None:
    found = claim_of(tmp_path).evidence
    values = np.array(read_search(tmp_path).trials["values"].to_list())  # [rate, seed]
    slopes = [stats.linregress([1, 3, 5, 7, 9], values[:, seed]).slope for seed in range(5)]
    changes = 5 * np.array(slopes)  # five doublings from 8 to 256
    half = stats.t.ppf(0.95, 4) * changes.std(ddof=1) / np.sqrt(5)  # 90 %: two one-sided tests at 5 %
    assert agree([found.effect, found.low, found.high], [changes.mean(), changes.mean() - half, changes.mean() + half])
    # The margin that both tests would pass in 80 % of such studies, were there no trend: (t_.95 + t_.9) s / sqrt(5).
    smallest = half * (1 + stats.t.ppf(0.9, 4) / stats.t.ppf(0.95, 4))
    assert found.smallest_detectable is not None
    assert agree(found.smallest_detectable, smallest)


def test_primary_claims_share_the_level_and_exploratory_ones_do_not(tmp_path: Path) -> None:
    second = TREND.replace('"flat"', '"rises"').replace("equivalent", "superior")
    third = TREND.replace('"flat"', '"look"').replace("primary", "exploratory")
    found = search_findings(read_search(written(tmp_path, TREND + second + third))).claims
    assert agree([item.evidence.level for item in found], [1 - 0.10 / 2, 1 - 0.05 / 2, 1 - 0.10])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ends": {("fipo", 4): ("infeasible", "diverged")}}, "no value at 512, where runs diverged or died"),
        ({"ends": {("fipo", 4): ("running", None)}}, "1 trial of the grid not finished"),
        ({"spaces": SHORT, "trials": 3}, "the grid reaches from 2 to 32 only"),
    ],
)
def test_a_grid_with_a_gap_decides_nothing(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    found = claim_of(tmp_path, noise=1e-5, **changes)
    assert (found.evidence.decision, found.word) == ("undecided", f"undecided, {reason}")


def test_four_seeds_decide_nothing(tmp_path: Path) -> None:
    assert claim_of(tmp_path, seeds=4, noise=1e-5).word == "undecided, insufficient seeds"


def test_a_search_that_was_no_grid_decides_nothing(tmp_path: Path) -> None:
    assert search_findings(read_search(written(tmp_path, sampler="tpe"))).claims == []


def test_claims_that_were_changed_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "s")
    (folder / "claims.toml").write_text(TREND.replace("0.03", "0.3"))
    with pytest.raises(RecordsError, match="as it was fixed before the runs"):
        search_findings(read_search(folder))


def test_the_decision_is_on_the_first_screen_and_the_papers_values_stand_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "s")
    assert main(["report", str(folder)]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("the decay rate matters little: ")
    page = (folder / "report/report.html").read_text()
    assert "Claims fixed before the runs" in page.split("<section")[0]
    assert (folder / "report/figures/designed_grid_fipo_published.csv").read_text().count("FIPO paper, Table 6") == 8
    assert "within \N{PLUS-MINUS SIGN}0.03" in page.split("<section")[0]
    summary = json.loads((folder / "report/search.json").read_text())
    assert summary["claims"][0]["claim"]["id"] == "flat"
