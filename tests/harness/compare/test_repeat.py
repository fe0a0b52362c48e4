"""A run's updates, repeated from its stored rollouts: what `checkpoint` and the microscope start from."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from harness.compare.repeat import begin_repeat, exactness, write_checkpoint
from harness.errors import UsageError
from harness.run.history import read_history
from tests.harness import runs
from tests.harness.tiny import SCAFFOLD, small_config

pytestmark = pytest.mark.train

EXACT = "old log-probabilities within 0 of those recorded; the final weights are identical to those of the run"


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_type": "grpo", "beta": 0.1},
        {"loss_type": "fipo"},
        {"loss_type": "fipo", "dtype": "bfloat16"},
        {"loss_type": "fipo", "sequence_filter": True, "delta": 1.5, "log_ratio_clamp": 20.0},
        {"loss_type": "dapo", "micro_batch_size": 2},
        {"loss_type": "dapo", "control": "blame", "temperature": 3.0},
        {"loss_type": "dapo", "control": "random_reward"},
        {"loss_type": "dapo", "max_sampling_rounds": 1, "minibatches": 4},  # batches that stay unfilled
        {"loss_type": "dapo", "dtype": "bfloat16", "lora_rank": 2},
        {"max_response_tokens": 2, "overlong_buffer": None},  # every response is cut, hence wrong: no updates
    ],
    ids=lambda changes: " ".join(str(value) for value in changes.values()),
)
def test_a_run_repeated_from_its_rollouts_is_the_run(
    model_folder: str, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = runs.trained(small_config(model_folder, **SCAFFOLD | changes), tmp_path / "run")
    repeat = begin_repeat(read_history(folder.path), 0)
    for _ in runs.metrics(folder):
        repeat.advance()
    assert exactness(repeat) == EXACT
    repeat.off, repeat.history.environment["gpu"] = 1e-3, "another"
    assert exactness(repeat).startswith("old log-probabilities within 0.001 of those recorded; another gpu may explain")


def test_a_damaged_checkpoint_is_passed_over(model_folder: str, tmp_path: Path) -> None:
    config = small_config(model_folder, **SCAFFOLD, loss_type="dapo", steps=2, checkpoint_every=1)
    folder = runs.trained(config, tmp_path / "run").path
    for checkpoint in (folder / "checkpoints").glob("step_*"):
        (checkpoint / "optimizer.safetensors").write_bytes(b"")
    assert write_checkpoint(read_history(folder), 2, tmp_path / "out") == f"2 of 2 steps repeated, {EXACT}"


@pytest.mark.parametrize("columns", [["old_logprobs", "target"], ["target"], ["round", "trained"]])
def test_rollouts_of_an_older_version_are_refused(model_folder: str, tmp_path: Path, columns: list[str]) -> None:
    folder = runs.trained(small_config(model_folder, **SCAFFOLD, steps=1), tmp_path / "run").path
    table = folder / "rollouts" / "step_000000.parquet"
    pq.write_table(pq.read_table(table).drop_columns(columns), table)
    said = f"expected rollouts with {', '.join(columns)}, got those of an older version"
    with pytest.raises(UsageError, match=said):
        write_checkpoint(read_history(folder), 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()
