"""Files of a checkpoint as damage may leave them: loaded as they were saved, or refused in one line."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from harness.algorithm.noise import Noise
from harness.algorithm.state import Training, begin
from harness.errors import HarnessError
from harness.files import Mark
from harness.run.checkpoint import State, load_checkpoint, read_state, save_checkpoint
from harness.run.folder import FolderFault
from harness.run.tiny_model import fresh_policy
from tests.faults.fuzz.mutations import CONFIG, as_json, confused, damaged, fuzzed, is_as_given, or_one_line

STATE = State(
    steps_done=1,
    ledger={"parameters": 100_800, "epochs": 1, "forwards": 1, "updates": 2, "flops": 1e9},
    noise=Noise(0.0, None),
    elapsed_s=1.5,
    updates=2,
    metrics=Mark(12, "0" * 64),
    records=Mark(0, "1" * 64),
)
SMALL = {"state.json": as_json(STATE.model_dump(mode="json")), "other.json": b"{}"}


def stamped(files: dict[str, bytes]) -> bytes:
    """A manifest of them."""
    return as_json({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


@pytest.fixture(scope="module")
def small(place: Path) -> Path:
    """A checkpoint without tensors."""
    folder = place / "small"
    folder.mkdir()
    for name, content in SMALL.items():
        (folder / name).write_bytes(content)
    return folder


def changes(content: bytes) -> st.SearchStrategy[bytes]:
    return damaged(content) | confused(json.loads(content)).map(as_json)


MANIFEST = stamped(SMALL)
CHANGED = st.tuples(st.just("state.json"), changes(SMALL["state.json"])) | st.tuples(
    st.just("manifest.json"), changes(MANIFEST)
)


@fuzzed(100, 10_000)
@given(CHANGED)
def test_a_checkpoint_whose_files_changed_is_refused(small: Path, file: tuple[str, bytes]) -> None:
    files = SMALL | {"manifest.json": MANIFEST} | dict([file])
    for name in ("state.json", "manifest.json"):
        (small / name).write_bytes(files[name])
    with or_one_line(FolderFault):
        assert read_state(small) == STATE
        assert files["state.json"] == SMALL["state.json"]
        assert json.loads(files["manifest.json"]) == json.loads(MANIFEST)


@fuzzed(100, 10_000)
@given(changes(SMALL["state.json"]))
def test_a_state_is_read_as_written_or_refused(small: Path, content: bytes) -> None:
    (small / "state.json").write_bytes(content)
    (small / "manifest.json").write_bytes(stamped(SMALL | {"state.json": content}))
    with or_one_line(FolderFault):
        check_state(read_state(small).model_dump(mode="json"), json.loads(content))


def check_state(read: dict[str, Any], found: dict[str, Any]) -> None:
    """Nothing was left out or made up, but that the state of an older version had learned."""
    assert read.keys() == found.keys() | {"has_learned"}
    assert read["has_learned"] is found.get("has_learned", True)
    assert all(is_as_given(found[name], read[name]) for name in ("steps_done", "elapsed_s"))
    assert read["ledger"].keys() == found["ledger"].keys()
    assert all(is_as_given(found["ledger"][name], value) for name, value in read["ledger"].items())
    for mark in ("metrics", "records"):
        assert read[mark]["sha256"] == found[mark]["sha256"]
        assert is_as_given(found[mark]["bytes"], read[mark]["bytes"])


def stepped() -> Training:
    """A run after its first update."""
    training = begin(CONFIG, fresh_policy(0), None)
    for parameter in training.policy.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    training.updater.backend.optimizer.step()
    training.updater.backend.schedule.step()
    training.steps_done, training.noise = 1, Noise(0.0, None)
    return training


@pytest.fixture(scope="module")
def checkpoint(place: Path) -> Path:
    save_checkpoint(place / "checkpoints", stepped(), STATE.metrics, STATE.records)
    return place / "checkpoints" / "step_000001"


@contextlib.contextmanager
def holding(folder: Path, name: str, content: bytes) -> Iterator[None]:
    """The folder, while a file of it holds something else and the manifest says so."""
    before = {file: (folder / file).read_bytes() for file in (name, "manifest.json")}
    (folder / name).write_bytes(content)
    (folder / "manifest.json").write_bytes(
        as_json(json.loads(before["manifest.json"]) | {name: hashlib.sha256(content).hexdigest()})
    )
    try:
        yield
    finally:
        for file, bytes_before in before.items():
            (folder / file).write_bytes(bytes_before)


def check_loading(checkpoint: Path, name: str, content: bytes) -> None:
    with holding(checkpoint, name, content), or_one_line(HarnessError):
        check_moments(load_checkpoint(checkpoint, read_state(checkpoint), CONFIG, None))


def check_moments(training: Training) -> None:
    """Every parameter has its moments, of its own shape."""
    for parameter in training.policy.model.parameters():
        shapes = {"step": torch.Size([]), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        state = training.updater.backend.optimizer.state[parameter]
        assert {key: value.shape for key, value in state.items()} == shapes


@fuzzed(10, 600)
@given(st.data(), st.sampled_from(["optimizer.safetensors", "model.safetensors"]))
def test_tensors_are_loaded_whole_or_refused(checkpoint: Path, data: st.DataObject, name: str) -> None:
    check_loading(checkpoint, name, data.draw(damaged((checkpoint / name).read_bytes())))


@fuzzed(10, 600)
@given(st.data())
def test_a_ledger_fits_the_run_or_is_refused(checkpoint: Path, data: st.DataObject) -> None:
    state = json.loads((checkpoint / "state.json").read_bytes())
    part = data.draw(st.sampled_from(["ledger", "steps_done", "noise", "updates"]))
    check_loading(checkpoint, "state.json", as_json(state | {part: data.draw(confused(state[part]))}))


MISFITS = {
    "another parameter's": {"nothing/exp_avg": torch.zeros(1)},
    "another moment": {"model.norm.weight/exp": torch.zeros(64)},
    "another shape": {"model.norm.weight/exp_avg": torch.zeros(3)},
    "none at all": None,
}


@pytest.mark.parametrize("name", MISFITS)
def test_moments_that_do_not_fit_the_model_are_refused(checkpoint: Path, name: str) -> None:
    more = MISFITS[name]
    tensors = {} if more is None else load_file(checkpoint / "optimizer.safetensors") | more
    check_loading(checkpoint, "optimizer.safetensors", save(tensors))


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": {"_last_lr": []}},
        {"schedule": {"get_last_lr": 3}},
        {"schedule": {"_last_lr": ["x"]}},
        {"steps_done": -1},
    ],
    ids=str,
)
def test_a_state_that_does_not_fit_the_run_is_refused(checkpoint: Path, changes: dict[str, Any]) -> None:
    state = json.loads((checkpoint / "state.json").read_bytes()) | changes
    with holding(checkpoint, "state.json", as_json(state)), pytest.raises(FolderFault):
        load_checkpoint(checkpoint, read_state(checkpoint), CONFIG, None)


@pytest.mark.parametrize("content", [b"null", b"[]"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json"])
def test_a_model_whose_description_is_no_description_is_refused(checkpoint: Path, name: str, content: bytes) -> None:
    check_loading(checkpoint, name, content)
