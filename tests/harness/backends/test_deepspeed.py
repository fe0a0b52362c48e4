"""DeepSpeed for real, on CPUs through gloo, against torch alone: the same rollouts, the same weights."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from harness.loop import train
from harness.model.policy import load_policy
from harness.run.record import RunFolder
from tests.harness import runs
from tests.harness.backends import pairings
from tests.harness.tiny import save_direct_answers

pytestmark = pytest.mark.train
THOROUGH = bool(os.environ.get("THOROUGH"))
CLOSE = 1e-5
RESUMED = pairings.RESUMED + (pairings.MORE_RESUMED if THOROUGH else ())


@pytest.fixture(scope="module")
def scale(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all runs: of two ranks, of one, and under torch alone."""
    folder = tmp_path_factory.mktemp("scale")
    (folder / "model").mkdir()
    save_direct_answers(folder / "model")
    stopped = [f"{name}!" for name in RESUMED]
    resumed = [f"{name}+" for name in RESUMED]
    more = [*pairings.MORE, *pairings.BFLOAT16, *pairings.MORE_REFUSALS] if THOROUGH else ["bfloat16-zero2"]
    started(2, folder, [*pairings.PAIRINGS, *pairings.REFUSALS, *pairings.SUMS, *stopped, *resumed, *more])
    for name in RESUMED:  # what two ranks left, to one rank
        (folder / f"{name}-ranks2-stopped-copy").rename(folder / f"{name}-ranks1-stopped")
    started(1, folder, ["fipo-zero2", *resumed, *(pairings.MORE if THOROUGH else [])])
    return folder


def started(ranks: int, folder: Path, names: list[str]) -> None:
    """The pairings, under torchrun: any launcher that sets torch's environment variables will do."""
    meet = ["--nproc_per_node", str(ranks), "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *meet]
    command = [*torchrun, "-m", "tests.harness.backends.pairings", str(folder), *names]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=one_thread, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def alone(scale: Path) -> dict[str, Path]:
    """Each run under torch alone, with its own micro-batches."""
    found: dict[str, Path] = {}
    for run in pairings.RUNS if THOROUGH else ("dapo", "fipo", "lora"):
        name = next(name for name, (key, _) in (pairings.PAIRINGS | pairings.MORE).items() if key == run)
        found[run] = scale / f"{run}-torch"
        train(pairings.config_of(str(scale / "model"), name, nproc=0), found[run], runs.ignore)
    return found


def tokens(run: Path) -> list[Any]:
    """Every response of every step."""
    tables = [pq.read_table(path) for path in sorted((run / "rollouts").glob("*.parquet"))]
    assert len(tables) == 5
    return [table.select(["prompt_id", "sample", "tokens", "reward", "advantage"]).to_pylist() for table in tables]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "final" / "model.safetensors")


def distance(ours: Path, theirs: Path) -> float:
    mine, other = weights(ours), weights(theirs)
    assert mine.keys() == other.keys()
    return max(float((mine[name] - other[name]).abs().max()) for name in mine)


CASES = [(name, 2) for name in pairings.PAIRINGS] + [("fipo-zero2", 1)]
CASES += [(name, ranks) for name in pairings.MORE for ranks in (1, 2)] if THOROUGH else []


@pytest.mark.parametrize(("name", "ranks"), CASES)
def test_a_run_is_the_same_under_torch_and_deepspeed(
    scale: Path, alone: dict[str, Path], name: str, ranks: int
) -> None:
    key, _ = (pairings.PAIRINGS | pairings.MORE)[name]
    ours = scale / f"{name}-ranks{ranks}"
    assert tokens(ours) == tokens(alone[key])
    assert distance(ours, alone[key]) <= CLOSE
    for mine, other in zip(runs.timeless(RunFolder(ours)), runs.timeless(RunFolder(alone[key])), strict=True):
        assert mine.keys() - {"sync/logprob_gap"} == other.keys()
        assert mine["ledger/trained_tokens"] == other["ledger/trained_tokens"]
        assert mine["optimizer/grad_norm"] == pytest.approx(other["optimizer/grad_norm"], rel=1e-3)
        assert mine["loss/token_loss"] == pytest.approx(other["loss/token_loss"], abs=1e-5)


def test_what_is_compared_has_moved(scale: Path, alone: dict[str, Path]) -> None:
    begun = load_file(scale / "model" / "model.safetensors")
    for run in alone.values():
        assert max(float((weights(run)[name] - begun[name]).abs().max()) for name in begun) > 100 * CLOSE


@pytest.mark.parametrize("name", [*pairings.REFUSALS, *pairings.SUMS, *(pairings.MORE_REFUSALS if THOROUGH else ())])
def test_what_ranks_look_at_themselves(scale: Path, name: str) -> None:
    """That nothing is stepped where the loss is not finite, and gradients in bfloat16 are summed in float32."""
    assert [(scale / f"{name}-rank{rank}").is_file() for rank in (0, 1)] == [True, True]


@pytest.mark.parametrize("name", RESUMED)
def test_resumed_on_as_many_ranks_it_is_bit_identical(scale: Path, name: str) -> None:
    whole, resumed = scale / f"{name}-ranks2", scale / f"{name}-ranks2-stopped"
    assert (resumed / "resumes.jsonl").is_file()
    assert distance(whole, resumed) == 0.0
    assert runs.timeless(RunFolder(whole)) == runs.timeless(RunFolder(resumed))
    assert tokens(whole) == tokens(resumed)


@pytest.mark.parametrize("name", RESUMED)
def test_resumed_on_another_number_of_ranks_it_goes_on(scale: Path, name: str) -> None:
    whole, resumed = scale / f"{name}-ranks2", scale / f"{name}-ranks1-stopped"
    (line,) = [json.loads(line) for line in (resumed / "resumes.jsonl").read_text(encoding="utf-8").splitlines()]
    assert line["steps_done"] == 2
    assert line["differences"]["ranks"] == [2, None]
    assert distance(whole, resumed) <= CLOSE


def test_a_checkpoint_holds_no_pickle_and_its_weights_are_a_transformers_folder(scale: Path) -> None:
    for run in (scale / "fipo-zero3-ranks2", scale / "lora-zero3-ranks2", scale / "bfloat16-zero2-ranks2"):
        files = [file for file in (run / "checkpoints").rglob("*") if file.is_file()]
        assert {file.suffix for file in files} <= {".safetensors", ".json", ".jinja"}
        policy = load_policy(str(run / "checkpoints" / "final"), "float32")
        assert sum(parameter.numel() for parameter in policy.model.parameters()) > 1000


def test_bfloat16_keeps_float32_masters(scale: Path) -> None:
    folder = scale / "bfloat16-zero2-ranks2" / "checkpoints" / "step_000004"
    masters, rounded = load_file(folder / "trained.safetensors"), load_file(folder / "model.safetensors")
    for name, tensor in masters.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor.bfloat16(), rounded[name])
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in masters.values())
