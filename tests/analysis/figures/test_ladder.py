from pathlib import Path
from typing import Any

from analysis.__main__ import main
from analysis.figures.ladder import Rung, gains, rungs
from analysis.records.outcomes import outcomes
from analysis.records.study import Study, read
from tests.analysis import folders
from tests.analysis.agreement import agree
from tests.analysis.folders import ArmTruth, StudyTruth

ARMS = (
    ArmTruth("grpo", "grpo"),
    ArmTruth("token_mean", "grpo"),
    ArmTruth("dapo", "grpo"),
    ArmTruth("fipo", "fipo", key="fipo"),
    ArmTruth("fipo_two_sided", "fipo", key="fipo"),
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


def write(folder: Path, arms: tuple[ArmTruth, ...] = ARMS) -> Path:
    names = [arm.name for arm in ARMS]
    rows = [
        {"field": field, "values": dict(zip(names, values, strict=True)), "allowed": True}
        for field, values in DIFFERENCES.items()
    ]
    truth = folders.smaller(StudyTruth(arms, fields={"differences": rows}), steps=4, prompts=8)
    return folders.write_study(folder / "ladder", truth)


def ladder(folder: Path, arms: tuple[ArmTruth, ...] = ARMS) -> Study:
    return read([write(folder, arms)])


def test_each_rung_differs_from_its_parent_in_one_setting(tmp_path: Path) -> None:
    assert rungs(ladder(tmp_path)) == [
        Rung("token_mean", "grpo", "averaging", "sequence_mean", "token_mean"),
        Rung("dapo", "token_mean", "overlong_buffer", None, 12),
        Rung("fipo", "dapo", "loss_type", "grpo", "fipo"),
        Rung("fipo_two_sided", "fipo", "fipo_clip_high_only", True, False),
    ]


def test_an_arm_whose_parent_never_ran_is_on_no_rung(tmp_path: Path) -> None:
    arms = tuple(arm for arm in ARMS if arm.name != "dapo")
    assert [rung.arm for rung in rungs(ladder(tmp_path, arms))] == ["token_mean", "fipo_two_sided"]


def test_bars_and_dots_are_of_the_same_pairs(tmp_path: Path) -> None:
    study = ladder(tmp_path)
    scores = outcomes(study)
    table, seeds = gains(scores, rungs(study))
    by_seed = scores.pivot(index="seed", columns="arm", values="auc")
    wanted = by_seed["dapo"] - by_seed["token_mean"]
    dots = seeds[(seeds["arm"] == "dapo") & (seeds["outcome"] == "auc")].set_index("seed")["gain"]
    assert agree(dots, wanted)
    row = table[(table["arm"] == "dapo") & (table["outcome"] == "auc")].iloc[0]
    assert agree(row["mean"], dots.mean())
    assert row["n"] == 5


def test_arms_whose_runs_are_the_same_are_called_identical(tmp_path: Path) -> None:
    folder = write(tmp_path)
    assert main(["figures", str(folder), "--only", "ladder"]) == 0
    same = [line for line in (folder / "report/figures/ladder_gains.csv").read_text().splitlines() if "True" in line]
    assert [line.split(",")[0] for line in same] == ["fipo_two_sided"] * 2
