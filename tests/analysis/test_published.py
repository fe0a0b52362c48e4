from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.figures.paper import FIGURES, missing_paper_figures
from analysis.records.curves import AXES, mean_curves, seed_curves
from analysis.records.study import read
from analysis.verdict.findings import findings
from tests.analysis import folders
from tests.analysis.agreement import agree


def test_the_papers_figures_are_drawn_where_their_arms_are_there(
    demo_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ["--only", "paper_figure_01", "--only", "paper_figure_09", "--only", "paper_figure_06"]
    assert main(["figures", str(demo_study), *only, "--axis", "generated_tokens", "--output_dir", str(tmp_path)]) == 0
    names = [Path(line).stem for line in capsys.readouterr().out.splitlines()]
    assert names == ["paper_figure_01", "paper_figure_06"]  # there is no fipo_no_filter
    missing = missing_paper_figures(read_study(demo_study))
    assert missing["09"] == "With and without the filter: needs fipo and fipo_no_filter"
    assert missing["10"].endswith(": needs two of fipo, fipo_two_sided and fipo_one_sided")
    assert set(missing) < {figure.number for figure in FIGURES}


@pytest.mark.parametrize("axis", AXES)
def test_every_axis_has_each_policy_where_it_was_reached(axis: str, study: Path) -> None:
    records = read([study])
    records.metrics["ledger/prompts"] = 32 * (records.metrics["step"] + 1)
    records.metrics["ledger/flops"] = 1e9 * (records.metrics["step"] + 1)
    curves = seed_curves(records, ("rollout/accuracy", "evaluation/accuracy"), axis)
    one = curves[(curves["run"] == "dapo-seed0") & (curves["quantity"] == "evaluation/accuracy")]
    lines = records.metrics[records.metrics["run"] == "dapo-seed0"]
    column = AXES[axis]
    wanted = [0, 2] if column is None else [0, lines[column].iloc[-1]]
    assert agree(one["x"], wanted)
    assert mean_curves(curves, axis)["n"].eq(5).all()


def test_an_axis_that_was_not_recorded_leaves_panels_empty(study: Path) -> None:
    found = findings(read([study]), "flops")
    assert seed_curves(found.study, ("rollout/accuracy",), "flops").empty


def test_a_quantity_that_a_run_lacks_is_no_crash(tmp_path: Path) -> None:
    truth = folders.smaller(folders.StudyTruth((folders.ArmTruth("dapo", seeds=1),)), steps=2, prompts=4)
    folder = folders.write_study(tmp_path / "s", truth)
    only = ["--only", "clipping_and_weights", "--only", "response_lengths"]
    assert main(["figures", str(folder), *only]) == 0
