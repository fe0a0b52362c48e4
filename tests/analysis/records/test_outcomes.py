import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.records.curves import bands, on_common_grid, seed_curves, spent
from analysis.records.outcomes import OUTCOMES, final_evaluations, outcomes
from analysis.records.study import read
from analysis.statistics.intervals import t_interval
from tests.analysis import folders
from tests.analysis.agreement import agree


def _one_run(folder: Path) -> Path:
    truth = folders.StudyTruth((folders.ArmTruth("dapo", seeds=1),))
    study = folders.write_study(folder / "study", folders.smaller(truth, steps=4, prompts=2))
    run = study / "runs/dapo-seed0"
    lines = [
        {
            "step": step,
            "rollout/accuracy": accuracy,
            "ledger/generated_tokens": 100 * (step + 1),
            "ledger/discarded_tokens": 10 * (step + 1),
            "time/elapsed_s": 2.0 * (step + 1),
        }
        for step, accuracy in enumerate([0.2, 0.4, 0.6, 0.8])
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in (run / "evals").iterdir():
        path.unlink()
    # Prompt p has one answer more: each prompt must count the same, and each evaluation.
    for step, right in {0: [0, 0, 0], 1: [1, 1, 1], 2: [1, 0, 0], 3: [1, 0, 1], 4: [1, 1, 0]}.items():
        table = pd.DataFrame({"prompt_id": ["p", "p", "q"], "sample": [0, 1, 0], "correct": np.array(right) == 1})
        table = table.assign(step=step, response_tokens=[10, 20, 40], truncated=False)
        table.to_parquet(run / f"evals/step_{step:06d}.parquet")
    return study


def test_outcomes_by_hand(tmp_path: Path) -> None:
    row = outcomes(read([_one_run(tmp_path)])).iloc[0]
    assert agree(row["auc"], 0.5)
    assert agree(row["final_accuracy"], (0.25 + 0.75 + 0.5) / 3)
    assert agree(row["final_response_tokens"], (15 + 40) / 2)
    assert row["start_accuracy"] == 0.0
    assert agree([row["generated_tokens"], row["seconds"]], [400, 8])


def test_a_policy_stands_at_the_tokens_it_has_learned_from(tmp_path: Path) -> None:
    table = spent(read([_one_run(tmp_path)]), "generated_tokens").sort_values("step")
    assert list(table["x"]) == [0, 100, 200, 300, 400]


def test_the_evaluation_before_training_is_never_among_the_last(study: Path) -> None:
    records = read([study])
    assert set(final_evaluations(records.evals, records.configs)["step"]) == {2}


@pytest.mark.parametrize(("count", "wanted"), [(1, 0.5), (2, (0.75 + 0.5) / 2), (4, (1 + 0.25 + 0.75 + 0.5) / 4)])
def test_final_accuracy_is_over_as_many_evaluations_as_the_runs_config_says(
    count: int, wanted: float, tmp_path: Path
) -> None:
    folder = _one_run(tmp_path)
    path = folder / "runs/dapo-seed0/config.json"
    content = json.loads(path.read_text())
    content["config"]["evaluation"] = {"final_evaluations": count}
    path.write_text(json.dumps(content))
    assert agree(outcomes(read([folder]))["final_accuracy"], [wanted])


def test_a_row_per_block_arm_level_and_seed(block_study: Path) -> None:
    study = read([block_study])
    scores = outcomes(study)
    assert len(scores) == len(study.planned_scores)
    assert not scores.duplicated(["block", "arm", "place", "seed"]).any()
    assert {name for name in OUTCOMES if not name.startswith("credit/")} <= set(scores)
    again = scores[scores["block"] == "again"]
    assert list(again["seed"]) == list(range(102, 108))
    assert list(again["warm_start"]) == [0, 1, 2, 0, 1, 2]
    rates = scores[(scores["block"] == "rates") & (scores["arm"] == "dapo")]
    assert set(zip(rates["place"], rates["level"], strict=True)) == {(0, 1e-4), (1, 2e-4), (2, 4e-4)}
    assert agree(scores.loc[scores["arm"] == "fipo", "safety_share"], 0.01)
    assert not scores.loc[(scores["block"] == "preset") & (scores["arm"] == "dapo"), "collapsed"].any()


def test_accuracy_at_equal_tokens_is_read_where_the_most_frugal_run_ends(study: Path) -> None:
    records = read([study])
    table = outcomes(records).set_index("run")
    frugal = table["generated_tokens"].idxmin()
    evaluations = records.evals[(records.evals["run"] == frugal) & (records.evals["step"] == 2)]
    assert agree(table.loc[frugal, "accuracy_at_equal_tokens"], evaluations["correct"].mean())


def test_bands_are_t_intervals_over_seeds() -> None:
    curves = pd.DataFrame(
        {"arm": "a", "run": ["x", "y", "z"], "seed": range(3), "quantity": "q", "x": 1, "value": [1.0, 2.0, 4.0]}
    )
    row, wanted = bands(curves).iloc[0], t_interval([1.0, 2.0, 4.0])
    assert agree([row["mean"], row["low"], row["high"], row["n"]], [wanted.mean, wanted.low, wanted.high, 3])
    assert np.isnan(bands(curves.head(1)).iloc[0]["low"])


def test_token_curves_end_where_the_arms_shortest_run_ends(study: Path) -> None:
    curves = seed_curves(read([study]), ("rollout/accuracy", "evaluation/accuracy"), "generated_tokens")
    ends = curves[curves["quantity"] == "rollout/accuracy"].groupby(["arm", "run"])["x"].max().groupby("arm").min()
    grid = on_common_grid(curves[curves["quantity"] == "rollout/accuracy"])
    assert agree(grid.groupby("arm")["x"].max(), ends)
