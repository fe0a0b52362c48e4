import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.faults.amount import THOROUGH, amount
from tests.faults.forked import Ended, forked, going_on
from tests.faults.verdict import SURVIVED, Truth, lost, verdict

pytestmark = pytest.mark.train

Damage = Callable[[Path, np.random.Generator], object]

# what the run was is told by these alone
UNKNOWABLE = "config.json", "environment.json"
A_FEW = (
    "config.json",
    "environment.json",
    "status.json",
    "metrics.jsonl",
    "records.sha256",
    "rollouts/step_000001.parquet",
    "checkpoints/initial/model.safetensors",
    "checkpoints/step_000002/manifest.json",
    "checkpoints/step_000002/optimizer.safetensors",
    "checkpoints/step_000002/state.json",
)


def cut(file: Path, generator: np.random.Generator) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: generator.integers(len(content))])


def flip(file: Path, generator: np.random.Generator) -> None:
    """One bit of it is another."""
    content = bytearray(file.read_bytes())
    content[generator.integers(len(content))] ^= 1 << generator.integers(8)
    file.write_bytes(content)


def lose(file: Path, _: np.random.Generator) -> None:
    file.unlink()


def resumed(half: Path, truth: Truth, folder: Path, damage: Callable[[Path], object]) -> Ended:
    """How a resume of the damaged half of the run ended."""
    shutil.copytree(half, folder / "run")
    damage(folder / "run")
    return forked(going_on(truth.config, folder / "run"), folder / "log")


@pytest.mark.parametrize(
    ("damage", "few"),
    [(cut, A_FEW[::2]), (flip, A_FEW[1::2]), (lose, ("metrics.jsonl", "checkpoints/step_000002/state.json"))],
)
def test_a_damaged_file_changes_no_result(
    fipo: Truth, half: Path, tmp_path: Path, damage: Damage, few: tuple[str, ...]
) -> None:
    files = [str(file.relative_to(half)) for file in sorted(half.rglob("*")) if file.is_file()]
    assert set(few) <= set(files)
    endings = {}
    for name in files if THOROUGH else few:
        # damaged initial weights are made again for the run, not for the folder
        left = name if name.startswith("checkpoints/initial/") else None
        for case in range(1 if damage is lose else amount(short=1, thorough=3)):
            folder, generator = tmp_path / f"{case}", np.random.default_rng([case, *name.encode()])
            ended = resumed(half, fipo, folder, lambda run: damage(run / name, generator))  # noqa: B023 - at once
            ending = verdict(folder / "run", fipo.run, ended, left, name in UNKNOWABLE)
            if "checkpoints/step_000002" in name and "step_000002 is not used" not in ended.printed:
                ending = f"not a word of the checkpoint: {ended.printed}"
            endings[f"{name}, case {case}"] = ending
            shutil.rmtree(folder)
    assert lost(endings) == {}


def test_without_a_valid_checkpoint_the_run_starts_from_its_initial_weights(
    fipo: Truth, half: Path, tmp_path: Path
) -> None:
    def damage(run: Path) -> None:
        for checkpoint in (run / "checkpoints").glob("step_*"):
            (checkpoint / "model.safetensors").write_bytes(b"")

    ended = resumed(half, fipo, tmp_path, damage)
    assert verdict(tmp_path / "run", fipo.run, ended) == SURVIVED
    assert [line.rpartition("; ")[2] for line in ended.printed.splitlines()[:2]] == [
        "step_000002 is not used",
        "step_000001 is not used",
    ]
    assert f"resuming {tmp_path / 'run'} from its start" in ended.printed
