"""The command `fork`, from recorded runs to the report."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from analysis.records.outcomes import outcomes
from analysis.records.study import read
from harness import UsageError
from sweeps.study.arms import load_family
from sweeps.study.forks import forked_arms, states_of
from tests.harness.command_line import Outcome
from tests.sweeps.search.searching import preset, started

pytestmark = pytest.mark.train


class Forked(NamedTuple):
    """A comparison of two seeds, and forks of one of its runs."""

    trunks: Path
    study: Path
    command: list[str]
    first: Outcome


@pytest.fixture(scope="module")
def forked(model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Forked:
    folder = tmp_path_factory.mktemp("forks")
    shared = ["--claims", "none", "--tracking_uri", "none", "--slots", "2"]
    base = str(preset(folder, model_folder, steps=3, delta=10.0, temperature=1.5))
    asked = ["compare", "--losses", "dapo,fipo", "--seeds", "2", "--preset", base, "--study", str(folder / "trunks")]
    assert started([*asked, *shared]).exit_code == 0
    run = folder / "trunks" / "runs" / "dapo-seed1"
    command = ["fork", str(run), "--at", "1,2", "--steps", "1", "--study", str(folder / "study"), *shared]
    return Forked(folder / "trunks", folder / "study", command, started(command))


def table(run: Path, step: int) -> list[dict[str, Any]]:
    """The rollouts of a step without the number of the step."""
    rows = pq.read_table(run / "rollouts" / f"step_{step:06d}.parquet").to_pylist()
    return [{name: value for name, value in row.items() if name != "step"} for row in rows]


def drawn(run: Path) -> list[tuple[str, list[int]]]:
    """What was asked and answered in the first step."""
    return [(row["prompt_id"], row["tokens"]) for row in table(run, 0)]


def test_every_arm_continues_every_state_under_the_same_noise(forked: Forked) -> None:
    assert forked.first.exit_code == 0, forked.first.errors
    runs = {path.parent.name: path.parent for path in forked.study.glob("runs/*/status.json")}
    assert set(runs) == {f"{arm}-seed{n}" for arm in ("dapo", "fipo") for n in range(4)}
    firsts = [drawn(runs[f"dapo-seed{n}"]) for n in range(4)]
    assert firsts == [drawn(runs[f"fipo-seed{n}"]) for n in range(4)]
    assert len({str(first) for first in firsts}) == 4


def test_noise_0_with_the_runs_own_loss_repeats_the_run(forked: Forked) -> None:
    for n, step in enumerate((1, 2)):
        assert table(forked.study / "runs" / f"dapo-seed{n}", 0) == table(forked.trunks / "runs" / "dapo-seed1", step)


def test_states_are_the_units_that_stand_beside(forked: Forked) -> None:
    study = read([forked.study])
    assert (study.warm_starts, study.units) == (2, ("fork", "state"))
    facts = study.runs.merge(study.environments, on="run")
    states = facts.groupby(facts["seed"] % 2)[["model_sha256", "start_from_sha256"]].agg(set).to_numpy().ravel()
    assert [len(hashes) for hashes in states] == [1] * 4
    assert len(set.union(*states)) == 4
    assert not outcomes(study)["collapsed"].any()
    fork = json.loads((forked.study / "study.json").read_text())["fork"]
    assert (fork["steps"], [state["step"] for state in fork["states"]]) == (1, [1, 2])


def test_the_same_command_goes_on(forked: Forked) -> None:
    gone = forked.study / "runs" / "fipo-seed3"
    gone.rename(forked.study / "elsewhere")
    before = {path: path.stat().st_mtime_ns for path in forked.study.glob("runs/*/status.json")}
    again = started(forked.command)
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert drawn(gone) == drawn(forked.study / "elsewhere")
    more = started([*forked.command, "--losses", "grpo"])
    assert more.exit_code == 0
    assert len(list(forked.study.glob("runs/grpo-seed*/status.json"))) == 4


def test_runs_of_other_seeds_are_forked_together_and_of_other_settings_apart(forked: Forked, tmp_path: Path) -> None:
    family, runs = load_family("controlled"), [forked.trunks / "runs" / f"dapo-seed{seed}" for seed in (0, 1)]
    states = states_of(runs, "1,2")
    (arm,) = forked_arms(family, {"fipo": 8}, states, {"steps": 3}, tmp_path)
    assert [config.run.seed for config in arm.configs.values()] == [0, 0, 1, 1, 1000, 1000, 1001, 1001]
    assert len({config.run.start_from for config in arm.configs.values()}) == 4
    assert {(config.run.steps, config.loss.loss_type, config.loss.epsilon_high) for config in arm.configs.values()} == {
        (3, "fipo", 0.28)
    }
    config = states[0].config
    other = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"lr": 0.5})})
    with pytest.raises(UsageError, match="expected runs with the same --lr, got fork 0"):
        forked_arms(family, {"fipo": 4}, [replace(states[0], config=other), *states[1:]], {"steps": 3}, tmp_path)
    planted = config.model_copy(update={"task": config.task.model_copy(update={"control": "blame"})})
    (arm,) = forked_arms(family, {"dapo": 1}, [replace(states[0], config=planted)], {"steps": 3}, tmp_path)
    assert arm.any_config.task.control == "none"


def test_what_cannot_be_is_refused_before_anything_starts(forked: Forked, tmp_path: Path) -> None:
    run = forked.trunks / "runs" / "dapo-seed0"
    bare = Path(shutil.copytree(run, tmp_path / "bare"))
    shutil.rmtree(bare / "rollouts")
    new = ["--study", str(tmp_path / "new"), "--claims", "none"]
    for words, said in (
        ([run, "--at", "4", "--steps", "1", *new], "expected a step among the 3"),
        ([run, "--at", "x", "--steps", "1", *new], "--at: expected steps like 5,10,15"),
        ([run, "--at", "1", *new], "--steps, --noise: expected 1 or more of each"),
        ([run, "--at", "1", "--steps", "1", "--noise", "0", *new], "--steps, --noise: expected 1 or more of each"),
        ([bare, "--at", "1", "--steps", "1", *new], "expected stored rollouts of steps"),
        ([run, "--at", "1", "--steps", "1", "--beta", "0.1", *new], "--start_from needs"),
        ([run, "--at", "1", "--steps", "1", "--model", "tiny", *new], "--model is set by the recorded run"),
        ([run, "--at", "1", "--steps", "1", "--family", "recipe-7b", *new], "expected arms without presets"),
        ([tmp_path, "--at", "1", "--steps", "1", *new], "expected the folder of a run"),
        ([*forked.command[1:], "--at", "1"], "or forks other runs or steps"),
        ([*forked.command[1:], "--lr", "0.5"], "has other settings"),
    ):
        refused = started(["fork", *map(str, words)])
        assert (refused.exit_code, len(refused.errors)) == (2, 1), (words, refused.errors)
        assert said in refused.errors[0]
    assert not (tmp_path / "new").exists()
    compared = started(["compare", "--losses", "dapo", "--seeds", "1", "--study", str(forked.study)])
    assert "it was made by `sweeps fork`" in compared.errors[0]
