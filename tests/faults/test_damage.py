import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.faults.amount import THOROUGH, amount
from tests.faults.conftest import Truth
from tests.faults.forked import Ended, forked, going_on
from tests.faults.verdict import REFUSED, SURVIVED, Toll, verdict

pytestmark = pytest.mark.train

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


def cut(content: bytes, generator: np.random.Generator) -> bytes:
    return content[: generator.integers(len(content))]


def flipped(content: bytes, generator: np.random.Generator) -> bytes:
    """One bit of it is another."""
    place = generator.integers(len(content))
    return content[:place] + bytes([content[place] ^ (1 << generator.integers(8))]) + content[place + 1 :]


def resumed(half: Path, truth: Truth, folder: Path, damage: Callable[[Path], object]) -> Ended:
    """How a resume of the damaged half of the run ended."""
    shutil.copytree(half, folder / "run")
    damage(folder / "run")
    return forked(going_on(truth.config, folder / "run"), folder / "log")


@pytest.mark.parametrize("damaged", [cut, flipped])
def test_a_damaged_file_changes_no_result(
    fipo: Truth,
    half: Path,
    tmp_path: Path,
    toll: Toll,
    damaged: Callable[[bytes, np.random.Generator], bytes],
) -> None:
    files = [str(file.relative_to(half)) for file in sorted(half.rglob("*")) if file.is_file()]
    assert set(A_FEW) <= set(files)
    for name in files if THOROUGH else A_FEW:
        for case in range(amount(short=1, thorough=3)):
            folder = tmp_path / f"{case}-{name.replace('/', '-')}"
            content = damaged((half / name).read_bytes(), np.random.default_rng([case, *name.encode()]))
            ended = resumed(half, fipo, folder, lambda run, name=name, content=content: write(run / name, content))
            ending = verdict(folder / "run", fipo.run, ended, left_as_it_is(name), name in UNKNOWABLE)
            if "checkpoints/step_000002" in name and "step_000002 is not used" not in ended.printed:
                ending = f"not a word of the checkpoint: {ended.printed}"
            toll.add(f"a file {damaged.__name__}", f"{name}, case {case}", ending)
            shutil.rmtree(folder)
    toll.check()


def left_as_it_is(name: str) -> str | None:
    """Initial weights that are damaged are made again for the run, not for the folder."""
    return name if name.startswith("checkpoints/initial/") else None


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def test_a_lost_file_changes_no_result(fipo: Truth, half: Path, tmp_path: Path, toll: Toll) -> None:
    files = [str(file.relative_to(half)) for file in sorted(half.rglob("*")) if file.is_file()]
    for name in files if THOROUGH else ("metrics.jsonl", "checkpoints/step_000002/state.json"):
        folder = tmp_path / name.replace("/", "-")
        ended = resumed(half, fipo, folder, lambda run, name=name: (run / name).unlink())
        ending = verdict(folder / "run", fipo.run, ended, left_as_it_is(name), name in UNKNOWABLE)
        toll.add("a file lost", name, ending)
        shutil.rmtree(folder)
    toll.check()


def test_without_a_valid_checkpoint_the_run_starts_from_its_initial_weights(
    fipo: Truth, half: Path, tmp_path: Path, toll: Toll
) -> None:
    def damage(run: Path) -> None:
        for checkpoint in (run / "checkpoints").glob("step_*"):
            (checkpoint / "model.safetensors").write_bytes(b"")

    ended = resumed(half, fipo, tmp_path, damage)
    toll.add("every checkpoint damaged", "both", verdict(tmp_path / "run", fipo.run, ended))
    toll.check()
    assert [line.rpartition("; ")[2] for line in ended.printed.splitlines()[:2]] == [
        "step_000002 is not used",
        "step_000001 is not used",
    ]
    assert f"resuming {tmp_path / 'run'} from its start" in ended.printed


class Planted:
    """Its pickle leaves a file where it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("is_in_the_manifest", [False, True])
def test_a_planted_pickle_is_not_loaded(
    fipo: Truth, half: Path, tmp_path: Path, toll: Toll, is_in_the_manifest: bool
) -> None:
    trace = tmp_path / "loaded"
    pickle.loads(pickle.dumps(Planted(trace)))
    trace.unlink()  # so it would be seen

    def plant(run: Path) -> None:
        checkpoint = run / "checkpoints" / "step_000002"
        content = pickle.dumps(Planted(trace))
        (checkpoint / "pytorch_model.bin").write_bytes(content)
        if is_in_the_manifest:
            (checkpoint / "model.safetensors").unlink()
            manifest = json.loads((checkpoint / "manifest.json").read_bytes())
            del manifest["model.safetensors"]
            manifest["pytorch_model.bin"] = hashlib.sha256(content).hexdigest()
            (checkpoint / "manifest.json").write_text(json.dumps(manifest))

    ended = resumed(half, fipo, tmp_path / "resumed", plant)
    ending = verdict(tmp_path / "resumed" / "run", fipo.run, ended, may_be_refused=True)
    toll.add("a pickle planted", f"in the manifest: {is_in_the_manifest}", ending)
    toll.check()
    assert ending == REFUSED or "step_000002 is not used" in ended.printed
    assert not trace.exists()


def test_a_manifest_names_nothing_outside_its_folder(fipo: Truth, half: Path, tmp_path: Path, toll: Toll) -> None:
    def name_outside(run: Path) -> None:
        manifest = run / "checkpoints" / "step_000002" / "manifest.json"
        digest = hashlib.sha256((run / "config.json").read_bytes()).hexdigest()
        manifest.write_text(json.dumps(json.loads(manifest.read_bytes()) | {"../../config.json": digest}))

    ended = resumed(half, fipo, tmp_path, name_outside)
    ending = verdict(tmp_path / "run", fipo.run, ended)
    toll.add("a manifest that names a file outside", "../../config.json", ending)
    assert ending == SURVIVED
    assert "step_000002 is not used" in ended.printed
