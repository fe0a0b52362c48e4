import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.figures.ladder import Rung, gains, rungs
from analysis.records.outcomes import outcomes
from analysis.records.study import Study, read_study
from analysis.statistics.intervals import welch
from tests.analysis import folders
from tests.analysis.agreement import agree
from tests.analysis.folders import ArmTruth, StudyTruth

ARMS = (
    ArmTruth("grpo", "grpo"),
    ArmTruth("token_mean", "grpo"),
    ArmTruth("dapo", "grpo"),
    ArmTruth("fipo", "fipo"),
    ArmTruth("fipo_two_sided", "fipo"),
    ArmTruth("blame", "grpo", "blame"),
)
DIFFERENCES: dict[str, list[Any]] = {
    "averaging": ["sequence_mean", *["token_mean"] * 5],
    "overlong_buffer": [None, None, 12, 12, 12, 12],
    "loss_type": ["grpo", "grpo", "grpo", "fipo", "fipo", "grpo"],
    "fipo_clip_high_only": [None, None, None, True, False, None],
    "fipo_decay_rate": [None, None, None, 32.0, 32.0, None],
    "control": [*["none"] * 5, "blame"],
}


def ladder(folder: Path, arms: tuple[ArmTruth, ...] = ARMS) -> Study:
    names = [arm.name for arm in ARMS]
    rows = [
        {"field": field, "values": dict(zip(names, values, strict=True)), "allowed": True}
        for field, values in DIFFERENCES.items()
    ]
    truth = folders.smaller(StudyTruth(arms, fields={"differences": rows}))
    return read_study(folders.write_study(folder / "ladder", truth))


def test_each_rung_differs_from_its_parent_in_one_setting(tmp_path: Path) -> None:
    assert rungs(ladder(tmp_path)) == [
        Rung("token_mean", "grpo", "averaging", "sequence_mean", "token_mean"),
        Rung("dapo", "token_mean", "overlong_buffer", None, 12),
        Rung("fipo", "dapo", "loss_type", "grpo", "fipo"),
        Rung("fipo_two_sided", "fipo", "fipo_clip_high_only", True, False),
    ]


def test_an_arm_whose_parent_never_ran_is_on_no_rung(tmp_path: Path) -> None:
    arms = tuple(arm for arm in ARMS if arm.name != "dapo")
    assert rungs(ladder(tmp_path, arms)) == []  # two rungs are left: no ladder


def test_gains_at_equal_steps_are_welch_over_seeds(tmp_path: Path) -> None:
    study = ladder(tmp_path)
    table = outcomes(study)
    found, seeds = gains(study, table, rungs(study))
    row = found[(found["arm"] == "fipo") & (found["outcome"] == "auc")].iloc[0]
    a, b = (table.loc[table["arm"] == arm, "auc"].to_numpy(float) for arm in ("fipo", "dapo"))
    wanted = welch(a, b)
    assert agree([row["difference"], row["low"], row["high"]], [wanted.difference, wanted.low, wanted.high])
    paired = seeds[(seeds["arm"] == "fipo") & (seeds["outcome"] == "auc")]["difference"]
    assert agree(np.sort(paired), np.sort(a - b))


def test_gains_at_equal_tokens_stand_where_the_more_frugal_run_ends(tmp_path: Path) -> None:
    study = ladder(tmp_path)
    path = study.folders["dapo-seed0"] / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for place, line in enumerate(lines):
        line["ledger/generated_tokens"] = 10 * (place + 1)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    study = read_study(tmp_path / "ladder")
    found, _ = gains(study, outcomes(study), rungs(study))
    tokens = found[found["outcome"] == "at_equal_tokens"].set_index("arm")["tokens"]
    assert tokens["fipo"] == tokens["dapo"] == 60
    assert tokens["fipo_two_sided"] > 1000
    assert pd.isna(found.loc[found["outcome"] == "auc", "tokens"]).all()
