"""The tables behind the figures."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from analysis.__main__ import main
from analysis.figures.canvas import draw_limit, grid
from analysis.figures.figure import baseline_of, length_limit
from analysis.figures.length import path_points
from analysis.figures.outcomes import outcome_figures
from analysis.figures.search import over_parameter, parameter_axis
from analysis.figures.style import WIDTHS, arm_styles
from analysis.figures.training import COURSES, course_figures, course_tables, paired_differences, panels_of
from analysis.figures.weights import chosen_responses
from analysis.records.curves import AXES, mean_curves, seed_curves
from analysis.records.search import read_search
from analysis.records.study import Role, read
from analysis.records.tokens import read_tokens
from analysis.verdict.findings import findings
from tests.analysis import folders, search_folders
from tests.analysis.agreement import agree
from tests.analysis.math_folders import FIPO_32B, write_math_run
from tests.analysis.search_folders import SearchTruth


def test_differences_by_step_are_paired_with_the_baseline(demo_study: Path) -> None:
    study = read([demo_study])
    paired = paired_differences(study)
    assert baseline_of(study) not in set(paired["arm"])
    metrics = study.metrics.set_index(["run", "step"])["rollout/accuracy"]
    row = paired[(paired["run"] == "fipo-seed3") & (paired["x"] == 2)].iloc[0]
    assert agree(row["value"], metrics["fipo-seed3", 2] - metrics[f"{baseline_of(study)}-seed3", 2])


def test_stages_are_quarters_of_training(demo_study: Path) -> None:
    points = path_points(read([demo_study]))
    one = points[points["run"] == "fipo-seed0"]
    assert list(one["step"]) == [0, 2, 4, 6]
    assert list(one["stage"]) == [1, 2, 3, 4]


def test_responses_are_chosen_by_rule(demo_study: Path) -> None:
    chosen = chosen_responses(read_tokens(read([demo_study])))
    assert set(chosen["run"]) == {"fipo-seed0"}
    assert list(dict.fromkeys(chosen["step"])) == [0, 2, 5]
    heads = chosen.drop_duplicates(["time", "verdict"])
    assert list(heads["verdict"]) == ["right", "wrong"] * 3
    assert list(heads["sample"]) == [0, 2] * 3
    assert heads["prompt_id"].nunique() == 1


def test_words_have_places_and_far_numbers_a_log_scale(tmp_path: Path) -> None:
    space = {
        "averaging": {"kind": "choice", "values": ["token_mean", "sequence_mean"]},
        "lr": {"kind": "choice", "values": [1e-4, 1e-3]},
        "beta": {"kind": "choice", "values": [0.1, 0.2]},
    }
    truth = SearchTruth(spaces={"fipo": space}, trials=12)
    search = read_search(search_folders.write_search(tmp_path / "s", truth))
    tables = {name: over_parameter(search, "fipo", name) for name in space}
    _, axes = grid(3, 3, 2.0)
    for ax, table in zip(axes, tables.values(), strict=True):
        parameter_axis(ax, table)
    assert [ax.get_xscale() for ax in axes] == ["linear", "log", "linear"]
    assert [label.get_text() for label in axes[0].get_xticklabels()] == ["token_mean", "sequence_mean"]
    rows = tables["averaging"].drop_duplicates("x").set_index("label")["x"]
    assert rows.to_dict() == {"token_mean": 0.0, "sequence_mean": 1.0}


def test_the_papers_figures_are_drawn_where_their_arms_are_there(
    demo_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ["--only", "paper_figure_01", "--only", "paper_figure_09", "--only", "paper_figure_06"]
    assert main(["figures", str(demo_study), *only, "--axis", "generated_tokens", "--output_dir", str(tmp_path)]) == 0
    names = [Path(line).stem for line in capsys.readouterr().out.splitlines()]
    assert names == ["paper_figure_01", "paper_figure_06"]
    assert main(["figures", str(demo_study), "--only", "paper_figure_09", "--output_dir", str(tmp_path)]) == 2
    assert "expected runs with what paper_figure_09 shows" in capsys.readouterr().err


def test_a_papers_figure_has_each_benchmark_by_itself(tmp_path: Path) -> None:
    course = {0: {"a1": ["!1", "!1"], "b1": ["!1", "!1"]}, 2: {"a1": ["5", "!1"], "b1": ["!1", "!1"]}}
    runs = [str(write_math_run(tmp_path / f"fipo-seed{seed}", FIPO_32B, course)) for seed in range(2)]
    assert main(["figures", *runs, "--only", "paper_figure_01", "--output_dir", str(tmp_path / "out")]) == 0
    means = pd.read_csv(tmp_path / "out/figures/paper_figure_01_means.csv")
    ends = means[means["x"] == 2].set_index("quantity")["mean"]
    assert agree([ends["evaluation/accuracy: aime24"], ends["evaluation/accuracy: aime25"]], [0.5, 0.0])


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
    assert seed_curves(read([study]), ("rollout/accuracy",), "flops").empty  # which its runs did not record


def test_a_quantity_that_a_run_lacks_is_no_crash(tmp_path: Path) -> None:
    truth = folders.smaller(folders.StudyTruth((folders.ArmTruth("dapo", seeds=1),)), steps=2, prompts=4)
    folder = folders.write_study(tmp_path / "s", truth)
    only = ["--only", "clipping_and_weights", "--only", "response_lengths"]
    assert main(["figures", str(folder), *only]) == 0


def test_rewards_of_ones_own_are_drawn_by_name(study: Path) -> None:
    for file in study.glob("runs/*/metrics.jsonl"):
        lines = [json.loads(line) | {"reward/brevity": 0.5} for line in file.read_text().splitlines()]
        file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = findings(read([study]))
    (course,) = (one for one in COURSES if one.name == "training_dynamics")
    (figure,) = course_figures(found, course)
    drawn = figure.tables["seeds"]
    assert drawn.loc[drawn["quantity"] == "reward/brevity", "value"].eq(0.5).any()
    assert "Reward brevity" in figure.alt


def test_negative_controls_and_paired_differences_have_axes_of_their_own(demo_study: Path) -> None:
    roles = {"random_reward": Role("random reward", role="negative"), "blame": Role(role="positive")}
    study = replace(read([demo_study]), roles=roles)
    (course,) = (one for one in COURSES if one.name == "learning_curves")
    curves, _ = course_tables(study, course.quantities, "steps")
    panels = panels_of(curves, course.quantities, (arm_styles(study), baseline_of(study)))
    assert [panel.title for panel in panels] == [
        "Training accuracy",
        "Evaluation accuracy",
        "Control: random reward",
        "DAPO \N{MINUS SIGN} GRPO",
        "FIPO \N{MINUS SIGN} GRPO",
        "blame (control) \N{MINUS SIGN} GRPO",
    ]
    assert [panel.arms for panel in panels if "random_reward" in panel.arms] == [["random_reward"]]


def test_profiles_are_drawn_where_a_compared_run_collapsed(tmp_path: Path) -> None:
    arms = (folders.ArmTruth("dapo", diverged=(1,)), folders.ArmTruth("fipo"))
    found = findings(read([folders.write_study(tmp_path / "s", folders.smaller(folders.StudyTruth(arms), steps=4))]))
    names = {figure.name: figure for figure in outcome_figures(found)}
    assert set(names) == {"outcomes", "outcomes_profiles"}
    better = names["outcomes_profiles"].tables["better"]
    assert list(better["arm"]) == ["fipo"]
    whole = replace(found, scores=found.scores.assign(collapsed=False))
    assert [figure.name for figure in outcome_figures(whole)] == ["outcomes"]


def test_the_limit_of_length_is_drawn_where_all_runs_have_one(study: Path) -> None:
    records = read([study])
    assert length_limit(records) is None  # their configs do not say
    limits = [dict.fromkeys(records.configs, 72), {run: place for place, run in enumerate(records.configs)}]
    configs = [{run: {"rollout": {"max_response_tokens": n}} for run, n in one.items()} for one in limits]
    assert [length_limit(replace(records, configs=one)) for one in configs] == [72, None]
    drawing, (ax,) = grid(1, 1, 2.0)
    ax.plot([0, 1], [0, 10])
    draw_limit(ax, 10)
    assert [text.get_text() for text in ax.texts] == ["limit 10 "]
    draw_limit(ax, 70)
    assert ax.texts[-1].get_text() == "limit 70 \N{UPWARDS ARROW}"
    assert len(ax.lines) == 2
    assert drawing.get_figwidth() == WIDTHS["double"]


def test_a_papers_column_has_figures_of_its_width_and_names_of_its_own(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ["--only", "claims", "--only", "learning_curves", "--only", "outcomes"]
    assert main(["figures", str(study), *only, "--width", "single", "--output_dir", str(tmp_path / "out")]) == 0
    drawn = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert all(path.stem.endswith("_single") for path in drawn)
    for path in drawn:
        with Image.open(path) as image:
            assert abs(image.width / float(image.info["dpi"][0]) - WIDTHS["single"]) < 0.01
            assert "--width single --only" in image.info["Description"]
