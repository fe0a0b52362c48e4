from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.config.resolve import config_sha256, tree_of
from harness.run.record import RunFolder
from tests.harness import contract, runs
from tests.harness.tiny import SCAFFOLD, small_config

pytestmark = pytest.mark.train
LOSS_TYPES = ["grpo", "dapo", "fipo"]


@pytest.fixture(params=LOSS_TYPES)
def folder(request: pytest.FixtureRequest, runs_by_loss: dict[str, RunFolder]) -> RunFolder:
    return runs_by_loss[request.param]


def names(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def test_every_file_of_the_contract_is_there_and_no_other(folder: RunFolder) -> None:
    files = [name for name in names(folder.path) if not name.startswith("checkpoints")]
    finished = {"state": "finished", "reason_code": "finished", "reason": None, "exit_code": 0, "steps_done": 2}
    assert runs.read_json(folder.path / "status.json") == finished
    assert list(runs.read_json(folder.path / "environment.json")) == contract.columns("environment.json")
    assert files == [
        "config.json",
        "environment.json",
        *(f"evals/step_{step:06d}.parquet" for step in (0, 1, 2)),
        "metrics.jsonl",
        "records.sha256",
        *(f"rollouts/step_{step:06d}.parquet" for step in (0, 1)),
        "status.json",
        *(f"tokens/step_{step:06d}.parquet" for step in (0, 1)),
    ]


@pytest.mark.parametrize("kind", ["rollouts", "tokens", "evals"])
def test_tables_have_the_contracts_columns(folder: RunFolder, kind: str) -> None:
    for path in (folder.path / kind).iterdir():
        assert pq.read_schema(path).names == contract.columns(f"{kind}/step_NNNNNN.parquet")


def test_metrics_have_the_contracts_keys(folder: RunFolder) -> None:
    expected = contract.metric_keys(fipo=folder.path.name == "fipo", beta=False)
    assert "rollout/response_tokens_q25" in expected
    assert "ledger/flops" in expected
    for step, line in enumerate(runs.metrics(folder)):
        assert set(line) == expected
        assert line["step"] == step
        assert None not in line.values()


def test_recorded_config_is_the_requested_one(folder: RunFolder, model_folder: str) -> None:
    requested = small_config(model_folder, loss_type=folder.path.name, **SCAFFOLD)
    recorded = runs.read_json(folder.path / "config.json")
    assert list(recorded) == contract.columns("config.json") == ["schema_version", "sha256", "config"]
    assert recorded["config"] == tree_of(requested)
    assert recorded["sha256"] == config_sha256(requested)


def test_evaluations_answer_every_prompt_as_often_as_asked(folder: RunFolder) -> None:
    for path in sorted((folder.path / "evals").iterdir()):
        answers = pq.read_table(path).to_pylist()
        keys = [(answer["prompt_id"], answer["sample"]) for answer in answers]
        assert len(set(keys)) == len(keys) == 8 * 2  # all three evaluations are among the last three
        assert {answer["step"] for answer in answers} == {int(path.stem[-6:])}
        assert all(answer["answer"] is not None for answer in answers if answer["correct"])


def test_steps_without_rollouts_recorded_have_no_rollout_files(model_folder: str, tmp_path: Path) -> None:
    config = small_config(model_folder, steps=1, record_rollouts="none")
    folder = runs.trained(config, tmp_path / "run")
    assert not (folder.path / "rollouts").exists()
    assert len(runs.metrics(folder)) == 1
