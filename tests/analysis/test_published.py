from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.figures.paper import FIGURES, missing_paper_figures
from analysis.records.curves import AXES, mean_curves, seed_curves
from analysis.records.published import benchmark_of, comparability, comparable, published, published_settings, suite_of
from analysis.records.records import read_study
from analysis.verdict.findings import findings
from tests.analysis import folders
from tests.analysis.agreement import agree

TINY = {"run": {"model": {"model": "tiny"}, "task": {"task": "graded_chain_sum"}}}


def big(model: str, eval_data: str = "aime24", split: str = "report") -> dict[str, dict[str, dict[str, str]]]:
    evaluation = {"eval_split": split}
    return {
        "run": {
            "model": {"model": model},
            "task": {"task": "math"},
            "data": {"eval_data": eval_data},
            "evaluation": evaluation,
        }
    }


def test_the_papers_tables_are_there() -> None:
    table = published()
    row = table[(table["source"] == "FIPO paper, Table 1") & (table["benchmark"] == "AIME 2024")]
    means = row[row["metric"] == "avg@32"].set_index("arm")["value"]
    assert agree([means["dapo"], means["fipo"]], [0.50, 0.56])
    decay = table[table["parameter"].eq("fipo_decay_rate") & table["benchmark"].eq("AIME 2024")]
    assert agree(decay.sort_values("at")[["at", "value"]], [[8, 0.4], [32, 0.4], [128, 0.39], [256, 0.42]])
    assert table["note"].str.len().min() > 0
    assert set(published_settings()["parameter"]) == {"fipo_decay_rate", "fipo_clip_range", "fipo_safety_threshold"}


def test_published_numbers_stand_beside_the_same_model_and_benchmark_alone() -> None:
    assert comparable(TINY).empty
    assert "None of the published numbers" in comparability(TINY)
    found = comparable(big("/models/Qwen2.5-32B/"))
    assert set(found["model"]) == {"Qwen/Qwen2.5-32B"}
    assert set(found["benchmark"]) == {"AIME 2024"}
    assert "as single runs" in comparability(big("Qwen/Qwen2.5-32B"))
    assert comparable(big("Qwen/Qwen2.5-32B", "math500")).empty
    assert comparable(big("Qwen/Qwen2.5-0.5B")).empty
    both = comparable(big("Qwen/Qwen2.5-32B", "aime24, aime25"))
    assert set(both["benchmark"]) == {"AIME 2024", "AIME 2025"}


def test_problems_held_out_from_training_are_no_benchmark() -> None:
    tuned = big("Qwen/Qwen2.5-32B", split="tune")
    assert comparable(tuned).empty
    assert "(model Qwen/Qwen2.5-32B on problems held out from its training data)" in comparability(tuned)


def test_a_name_alone_makes_no_benchmark() -> None:
    config = big("Qwen/Qwen2.5-32B")["run"] | {"data": {}, "task": {"task": "aime_2024"}}
    assert comparable({"run": config}).empty


@pytest.mark.parametrize(
    ("given", "suite", "benchmark"),
    [
        ("aime24", "aime24", "AIME 2024"),
        ("aime25@563bb84", "aime25", "AIME 2025"),
        ("files/aime_2024.parquet", "aime_2024", "AIME 2024"),
        ("files@home/AIME-2025.jsonl", "AIME-2025", "AIME 2025"),
        ("BytedTsinghua-SIA/AIME-2024:data/aime-2024.parquet@aa49075", "aime-2024", "AIME 2024"),
        ("math-ai/aime25:test.jsonl@563bb84", "test", "AIME 2025"),
        ("aime26", "aime26", None),
        ("aime24-and-more.parquet", "aime24-and-more", None),
        ("math500", "math500", None),
    ],
)
def test_a_benchmark_is_known_by_its_file_or_its_data_set(given: str, suite: str, benchmark: str | None) -> None:
    assert (suite_of(given), benchmark_of(given)) == (suite, benchmark)


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
    records = read_study(study)
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
    found = findings(read_study(study), "flops")
    assert seed_curves(found.study, ("rollout/accuracy",), "flops").empty


def test_a_quantity_that_a_run_lacks_is_no_crash(tmp_path: Path) -> None:
    truth = folders.smaller(folders.StudyTruth((folders.ArmTruth("dapo", seeds=1),)), steps=2, prompts=4)
    folder = folders.write_study(tmp_path / "s", truth)
    only = ["--only", "clipping_and_weights", "--only", "response_lengths"]
    assert main(["figures", str(folder), *only]) == 0
