import hashlib
import io
import json
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.__main__ import main
from harness.algorithm.batching import plan_minibatches
from harness.algorithm.state import make_updater
from harness.algorithm.update import known_logprobs
from harness.compare.replay import Line, replay_run
from harness.config.resolve import with_loss
from harness.config.schema import Config
from harness.errors import UsageError
from harness.model.policy import Policy, load_policy
from harness.rollouts.collect import collect
from harness.run.history import read_history
from harness.run.record import RunFolder
from harness.tasks.chain_sum import GRADED
from tests.harness import runs
from tests.harness.command_line import outcome
from tests.harness.tiny import SCAFFOLD, context, small_config

pytestmark = pytest.mark.train

EXACT = "old log-probabilities within 0 of those recorded; the final weights are identical to those of the run"


@pytest.fixture(scope="module")
def run(model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of DAPO, a checkpoint at each."""
    changes = {"loss_type": "dapo", "steps": 3, "checkpoint_every": 1, "dynamic_sampling": False}
    config = small_config(model_folder, **SCAFFOLD | changes)
    return runs.trained(config, tmp_path_factory.mktemp("runs") / "dapo").path


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """The same run, to take something from."""
    return Path(shutil.copytree(run, tmp_path / "copied"))


def replayed(run: Path, out: Path, steps: range | None = None, **flags: Any) -> tuple[list[Line], str]:
    """The lines, and what was said of how exact they are."""
    history = read_history(run)
    given = {name: str(value) for name, value in flags.items()}
    steps = steps or range(history.steps_done)
    with redirect_stdout(io.StringIO()) as said:
        replay = list(replay_run(history, with_loss(history.config, given), steps, out))
    return [line for lines in replay for line in lines], said.getvalue().splitlines()[-1]


def hashes(folder: Path) -> dict[Path, str]:
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_type": "grpo"},
        {"loss_type": "fipo"},
        {"loss_type": "fipo", "sequence_filter": True, "delta": 1.5, "log_ratio_clamp": 20.0},
        {"loss_type": "grpo", "beta": 0.1},
        {"loss_type": "dapo", "micro_batch_size": 2},
        {"loss_type": "dapo", "control": "blame", "temperature": 3.0},
        {"loss_type": "dapo", "control": "random_reward"},
        {"loss_type": "dapo", "max_sampling_rounds": 1, "minibatches": 4},  # batches that stay unfilled
        {"loss_type": "dapo", "dtype": "bfloat16", "lora_rank": 2},
    ],
    ids=lambda changes: " ".join(str(value) for value in changes.values()),
)
def test_a_run_through_its_own_loss_is_the_run(model_folder: str, tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = runs.trained(small_config(model_folder, **SCAFFOLD | changes), tmp_path / "run")
    lines, said = replayed(folder.path, tmp_path / "out")
    assert said == EXACT
    assert len(lines) == runs.metrics(folder)[-1]["ledger/updates"] > 0
    assert {line["cosine"] for line in lines} == {1.0}
    for line in lines:
        assert line["norm"] == line["other_norm"] > 0
        assert all(value == line[f"other/{key[4:]}"] for key, value in line.items() if key.startswith("own/"))


def test_norms_and_metrics_are_those_of_the_run(run: Path, tmp_path: Path) -> None:
    lines, _ = replayed(run, tmp_path / "out")
    for step, line in enumerate(runs.metrics(RunFolder(run))):
        of_step = [each for each in lines if each["step"] == step]
        assert [each["update"] for each in of_step] == [0, 1, 2, 3]
        assert sum(each["norm"] for each in of_step) / 4 == pytest.approx(line["optimizer/grad_norm"], rel=1e-12)


def test_steps_without_updates_have_no_lines(model_folder: str, tmp_path: Path) -> None:
    # two tokens hold no end token: every answer is cut, hence wrong
    config = small_config(model_folder, dynamic_sampling=True, max_response_tokens=2)
    folder = runs.trained(config, tmp_path / "run")
    assert replayed(folder.path, tmp_path / "out") == ([], EXACT)


def flat_gradient(config: Config, policy: Policy) -> torch.Tensor:
    """The gradient of a run's first update."""
    minibatches = plan_minibatches(collect(context(policy, config), 0).kept, policy, GRADED, config)
    known = known_logprobs(policy, policy, minibatches, config.rollout.temperature)
    make_updater(config, policy).gradient(minibatches[0], known[0])
    return torch.cat([parameter.grad.flatten().double() for parameter in policy.model.parameters()])


@pytest.mark.parametrize(
    "flags", [{"loss_type": "grpo"}, {"loss_type": "grpo", "beta": 0.5}, {"advantage_scale": "none"}], ids=str
)
def test_another_loss_sees_the_same_batch_at_the_same_weights(
    run: Path, model_folder: str, tmp_path: Path, flags: dict[str, Any]
) -> None:
    (line, *_), said = replayed(run, tmp_path / "out", **flags)
    assert said == EXACT
    config = read_history(run).config
    policy = load_policy(model_folder)
    own = flat_gradient(config, policy)
    other = flat_gradient(with_loss(config, {name: str(value) for name, value in flags.items()}), policy)
    assert line["norm"] == pytest.approx(float(own.norm()), rel=1e-6)
    assert line["other_norm"] == pytest.approx(float(other.norm()), rel=1e-6)
    assert line["cosine"] == pytest.approx(float(torch.dot(own, other) / own.norm() / other.norm()), abs=1e-9)
    assert line["cosine"] > 0
    assert not torch.equal(own, other)


def test_fipo_whose_weights_are_all_one_has_the_gradients_of_dapo(run: Path, tmp_path: Path) -> None:
    inert, _ = replayed(run, tmp_path / "inert", loss_type="fipo", fipo_clip_range=1e-12)
    assert all(line["norm"] == line["other_norm"] for line in inert)
    assert all(line["cosine"] == (1.0 if line["norm"] else None) for line in inert)
    fipo, _ = replayed(run, tmp_path / "fipo", loss_type="fipo")
    firsts = [line["cosine"] for line in fipo if line["update"] == 0]
    assert firsts == [1.0, 1.0, 1.0]  # every ratio is still 1
    assert any(line["cosine"] not in (1.0, None) for line in fipo)


def test_a_kept_checkpoint_gives_the_lines_of_a_replay_from_the_start(run: Path, copied: Path, tmp_path: Path) -> None:
    whole, _ = replayed(run, tmp_path / "whole", loss_type="grpo")
    for step in (0, 1):
        (copied / "rollouts" / f"step_{step:06d}.parquet").unlink()
    late, said = replayed(copied, tmp_path / "late", range(2, 3), loss_type="grpo")
    assert late == [line for line in whole if line["step"] == 2] != []
    assert said == EXACT


def test_without_a_checkpoint_the_steps_before_are_made_and_not_shown(run: Path, copied: Path, tmp_path: Path) -> None:
    for checkpoint in (copied / "checkpoints").glob("step_*"):
        (checkpoint / "optimizer.safetensors").write_bytes(b"")
    whole, _ = replayed(run, tmp_path / "whole", loss_type="grpo")
    late, _ = replayed(copied, tmp_path / "late", range(1, 3), loss_type="grpo")
    assert late == [line for line in whole if line["step"] > 0]


def test_a_step_that_is_not_stored_is_refused(copied: Path, tmp_path: Path) -> None:
    (copied / "rollouts" / "step_000001.parquet").unlink()
    with pytest.raises(UsageError, match="got none of step 1: use a run made with --record_rollouts all"):
        replayed(copied, tmp_path / "out", loss_type="grpo")
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_differs_and_writes_every_update(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hashes(run)
    arguments = ["replay", run, "--loss_type", "fipo", "--delta", 10, "--output_dir", tmp_path / "out"]
    code, printed, errors = outcome(main, arguments, capsys)
    assert (code, errors) == (0, [])
    assert {"loss_type: dapo in the run, fipo in the replay"} <= set(printed)
    names = [line.partition(":")[0] for line in printed if ": cosine " in line]
    assert names == ["step 0", "step 1", "step 2", "all 3 steps"]
    assert EXACT in printed
    lines = [json.loads(line) for line in (tmp_path / "out" / "replay.jsonl").read_bytes().splitlines()]
    assert [(line["step"], line["update"]) for line in lines] == [(s, u) for s in range(3) for u in range(4)]
    assert hashes(run) == before


@pytest.mark.parametrize(
    "flags",
    [
        *("--lr 1", "--seed 1", "--loss_type ppo", "--epsilon 0", "--first_step 3", "--first_step -1", "--steps 4"),
        *("--steps 0", "--steps 2 --first_step 2", "--sequence_filter true --delta none", "--output_dir RUN"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: str
) -> None:
    before = hashes(run)
    words = [run if word == "RUN" else word for word in flags.split()]
    code, printed, errors = outcome(main, ["replay", run, "--output_dir", tmp_path / "out", *words], capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert flags.split()[0] in errors[0]
    assert not (tmp_path / "out").exists()
    assert hashes(run) == before
