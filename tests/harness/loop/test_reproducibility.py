from pathlib import Path

import pytest

from harness.run.record import RunFolder
from tests.harness import runs
from tests.harness.tiny import SCAFFOLD, small_config

pytestmark = pytest.mark.train


def test_other_seed_gives_other_records(runs_by_loss: dict[str, RunFolder], model_folder: str, tmp_path: Path) -> None:
    other = runs.trained(small_config(model_folder, loss_type="fipo", seed=1, **SCAFFOLD), tmp_path / "other")
    first, second = runs.metrics(runs_by_loss["fipo"]), runs.metrics(other)
    assert all(ours["rollout/entropy"] != theirs["rollout/entropy"] for ours, theirs in zip(first, second, strict=True))
    ours, theirs = runs.rows(runs_by_loss["fipo"], "rollouts"), runs.rows(other, "rollouts")
    assert {row["prompt_id"] for row in ours}.isdisjoint(row["prompt_id"] for row in theirs)
    # the held-out prompts are the same, their answers are not
    ours, theirs = runs.rows(runs_by_loss["fipo"], "evals"), runs.rows(other, "evals")
    assert [row["prompt_id"] for row in ours] == [row["prompt_id"] for row in theirs]
    assert [row["text"] for row in ours] != [row["text"] for row in theirs]


def test_losses_share_their_rollouts_at_step_0_and_their_prompts_in_every_first_round(
    runs_by_loss: dict[str, RunFolder],
) -> None:
    sampled = ("step", "round", "prompt_id", "sample", "prompt", "tokens", "correct", "reward", "trained", "advantage")
    starts, prompts = [], []
    for folder in runs_by_loss.values():
        rows = runs.rows(folder, "rollouts")
        starts.append([[row[name] for name in sampled] for row in rows if row["step"] == 0])
        prompts.append([(row["step"], row["prompt_id"], row["sample"]) for row in rows if row["round"] == 0])
    assert starts[0] == starts[1] == starts[2] != []
    assert prompts[0] == prompts[1] == prompts[2]
    assert {step for step, _, _ in prompts[0]} == {0, 1}
    assert len({runs.weights(folder) for folder in runs_by_loss.values()}) == 3


def test_fipo_whose_weights_are_all_one_is_dapo(model_folder: str, tmp_path: Path) -> None:
    shared = {"epsilon_high": 0.28, "delta": 10.0, "epochs": 2, "steps": 3}
    dapo = runs.trained(small_config(model_folder, loss_type="dapo", **shared), tmp_path / "dapo")
    fipo, inert = (
        runs.trained(small_config(model_folder, loss_type="fipo", fipo_clip_range=value, **shared), tmp_path / name)
        for name, value in (("fipo", 0.2), ("inert", 1e-12))
    )
    assert runs.weights(inert) == runs.weights(dapo)
    for ours, theirs in zip(runs.timeless(inert), runs.timeless(dapo), strict=True):
        assert {key: ours[key] for key in theirs} == theirs
    assert runs.weights(fipo) != runs.weights(dapo)


def test_beta_records_the_kl_to_the_initial_policy(model_folder: str, tmp_path: Path) -> None:
    config = small_config(model_folder, beta=0.1, minibatches=1)
    kl = [line["loss/kl_to_reference"] for line in runs.metrics(runs.trained(config, tmp_path / "run"))]
    assert kl[0] == 0.0  # the first step's one update starts at the reference
    assert kl[1] > 0
