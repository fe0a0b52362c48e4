import contextlib
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from harness.__main__ import main
from harness.algorithm.noise import Noise
from harness.algorithm.state import Training, begin
from harness.cli.parser import run_command
from harness.config.resolve import PRESETS, resolve, tree_of, tree_sha256
from harness.config.schema import Config, section_of
from harness.errors import HarnessError, UsageError
from harness.files import Mark
from harness.run.checkpoint import State, load_checkpoint, read_state, save_checkpoint
from harness.run.folder import FolderFault
from harness.run.history import read_history, read_lines
from harness.run.record import ROLLOUT_SCHEMA, RunFolder
from harness.run.tiny_model import fresh_policy
from tests.faults.amount import amount
from tests.faults.mutations import JSON, LEAVES, NUMBERS, WORDS, confused, damaged
from tests.harness.tiny import small_config

FLAGS = sorted(section_of())
PLAUSIBLE = {"beta": 0.1, "loss_type": "fipo", "delta": 10.0, "sequence_filter": True, "fipo_clip_range": None}
CONFIG = small_config(**PLAUSIBLE)
FILES = [path.read_bytes() for path in sorted(PRESETS.rglob("*.toml"))]
GIVEN = st.dictionaries(st.sampled_from(FLAGS), LEAVES | JSON, max_size=3)


def fuzzed(short: int, thorough: int) -> settings:
    """So many examples; each is a file or two."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    return settings(max_examples=amount(short, thorough), deadline=None, suppress_health_check=slow, database=None)


@contextlib.contextmanager
def or_one_line(kind: type[HarnessError] = UsageError) -> Iterator[None]:
    """What is inside goes well, or is refused in one line of words."""
    said = "nothing of it"
    try:
        yield
    except kind as error:
        said = str(error)
    assert len(said) > 10
    assert "\n" not in said


# settings


def is_as_given(value: Any, found: Any) -> bool:
    """Whether a setting is what was asked for, however that was spelled; None leaves it to its default."""
    if value is None or isinstance(found, str):
        return value is None or value == found
    if isinstance(found, bool):
        return str(value).strip().lower() in (("true", "1", "1.0", "yes", "y", "on", "t") if found else FALSE)
    return value in ("none", "None") if found is None else float(value) == found


FALSE = "false", "0", "0.0", "-0.0", "no", "n", "off", "f"


def check_settings(asked: dict[str, Any], config: Config) -> None:
    """What was asked for is what there is, and writing it down changes nothing."""
    tree, where = tree_of(config), section_of()
    assert resolve({flag: value for part in tree.values() for flag, value in part.items()}) == config
    assert all(is_as_given(value, tree[where[flag]][flag]) for flag, value in asked.items())
    json.dumps(tree, allow_nan=False)


@fuzzed(300, 50_000)
@given(GIVEN | confused(tree_of(CONFIG)["loss"]) | confused(tree_of(CONFIG)["optimizer"]))
def test_settings_are_taken_as_given_or_refused(asked: Any) -> None:
    if isinstance(asked, dict):
        with or_one_line():
            check_settings(asked, resolve(asked))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def as_json(tree: object) -> bytes:
    return json.dumps(tree).encode()


TREES = JSON | confused(tree_of(CONFIG)) | confused({"config": tree_of(CONFIG)})
SETTINGS_FILES = st.tuples(st.just(".json"), TREES.map(as_json) | damaged(as_json(tree_of(CONFIG)))) | st.tuples(
    st.just(".toml"), st.sampled_from(FILES).flatmap(damaged) | st.binary(max_size=30)
)


@fuzzed(300, 12_000)
@given(SETTINGS_FILES)
def test_settings_files_are_taken_as_written_or_refused(place: Path, file: tuple[str, bytes]) -> None:
    suffix, content = file
    path = place / f"settings{suffix}"
    path.write_bytes(content)
    with or_one_line():
        check_settings({}, resolve({}, config_file=str(path)))


VALUES = (NUMBERS | WORDS | st.booleans()).map(str)
ONE_FLAG = st.sampled_from(FLAGS).flatmap(lambda flag: VALUES.map(lambda value: [f"--{flag}", value]))
WORD = st.sampled_from(["show", "train", "RUN", "--steps", "--config", "--run", "--"]) | WORDS.filter(
    lambda word: "\n" not in word and word.strip("-") not in ("h", "he", "hel", "help")
)
COMMAND_LINES = st.tuples(
    st.sampled_from([["show"], ["show", "--preset", "demo"], ["evaluate", "RUN"], ["diff", "RUN"], ["replay"], []]),
    st.lists(ONE_FLAG | WORD.map(lambda word: [word]), max_size=3),
).map(lambda parts: [word for part in (parts[0], *parts[1]) for word in part])


@fuzzed(100, 3_000)
@given(COMMAND_LINES)
def test_a_command_line_is_carried_out_or_one_line(words: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = run_command(main, words)
    said = errors.getvalue()
    assert (code, said) == (0, "") or (code == 2 and said.startswith("error: ") and said.count("\n") == 1)


def test_a_word_of_two_lines_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, ["show", "first\nsecond"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


DEEP_OR_LONG = {
    "deep.json": b"[" * 100_000,
    "deep.toml": b"steps = " + b"[" * 100_000,
    "long.toml": b"lr = 0x" + b"f" * 5000,
    "long_list.toml": b"steps = [0x" + b"f" * 5000 + b"]",
    "long_seed.toml": b"seed = 0x" + b"f" * 5000,
}


@pytest.mark.parametrize("name", DEEP_OR_LONG)
def test_settings_that_are_too_deep_or_too_long_are_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DEEP_OR_LONG[name])
    with pytest.raises(UsageError) as raised:
        tree_sha256(tree_of(resolve({}, config_file=str(tmp_path / name))))
    assert len(str(raised.value).splitlines()) == 1


# run folders


ENVIRONMENT = {"commit": "0" * 40, "packages": {"torch": "2.0"}, "cpu": "one", "threads": 1, "model_revision": None}


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """The folder of a run before its first step."""
    return RunFolder.create(place / "run", CONFIG, ENVIRONMENT, None).path


def written(name: str) -> dict[str, Any]:
    """What the run wrote there."""
    tree = tree_of(CONFIG)
    contents: dict[str, dict[str, Any]] = {
        "config.json": {"schema_version": 1, "sha256": tree_sha256(tree), "config": tree},
        "environment.json": ENVIRONMENT,
        "status.json": {"state": "running", "reason_code": None, "reason": None, "exit_code": None, "steps_done": 0},
    }
    return contents[name]


@st.composite
def damaged_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file of the run, and what it now holds; settings of other types may come with the hash that fits them."""
    name = draw(st.sampled_from(["config.json", "environment.json", "status.json"]))
    if draw(st.booleans()):
        return name, draw(damaged(as_json(written(name))))
    content = draw(confused(written(name)))
    if name == "config.json" and draw(st.booleans()) and isinstance(content, dict):
        tree = content.get("config")
        content["sha256"] = tree_sha256(tree) if isinstance(tree, dict) else "0" * 64
    return name, as_json(content)


def but_for_the_place(config: Config) -> dict[str, Any]:
    tree = tree_of(config)
    return tree | {"run": tree["run"] | {"output_dir": None}}


@fuzzed(300, 12_000)
@given(damaged_files())
def test_a_run_folder_is_read_as_written_or_refused(run: Path, file: tuple[str, bytes]) -> None:
    name, content = file
    before = (run / name).read_bytes()
    (run / name).write_bytes(content)
    try:
        with or_one_line():
            history = read_history(run)
            found = json.loads((run / name).read_bytes()) if name != "status.json" else None
            if name == "config.json" and found["sha256"] == written(name)["sha256"]:
                assert but_for_the_place(history.config) == but_for_the_place(CONFIG)
            if name == "environment.json":
                assert same(history.environment, found)
            assert history.state in ("running", "unknown") or name == "status.json"
            assert isinstance(history.state, str)
    finally:
        (run / name).write_bytes(before)


def same(ours: object, theirs: object) -> bool:
    """Equality under which NaN is itself."""
    return json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)


# JSONL


LINES = [as_json({"step": step, "loss/token_loss": step / 3, "none": None, "text": "a\nb\u2028"}) for step in range(4)]
BAD_LINES = JSON.map(as_json) | confused({"step": 1, "loss/token_loss": 0.5}).map(as_json) | st.binary(max_size=8)
MIXED = st.lists(st.sampled_from(LINES) | BAD_LINES, max_size=4)
FILES_OF_LINES = damaged(b"\n".join(LINES) + b"\n") | st.tuples(MIXED, st.sampled_from([b"", b"\n"])).map(
    lambda parts: b"\n".join(parts[0]) + parts[1]
)


@fuzzed(300, 15_000)
@given(FILES_OF_LINES)
@example(b"")
@example(b"\n")
def test_lines_are_read_as_written_or_refused(place: Path, content: bytes) -> None:
    (place / "lines.jsonl").write_bytes(content)
    with or_one_line():
        rows = read_lines(place / "lines.jsonl")
        assert [row["step"] for row in rows] == list(range(content.count(b"\n")))
        for row, line in zip(rows, content.split(b"\n"), strict=False):
            assert same(row, json.loads(line))


# tables


ROWS = [
    dict.fromkeys(ROLLOUT_SCHEMA.names)
    | {"step": 0, "prompt_id": f"{number:016x}", "text": "a2b4=é#4", "tokens": [1, 2, number], "reward": number / 3}
    for number in range(5)
]


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=ROLLOUT_SCHEMA), file)
    return file.getvalue()


def test_a_text_that_is_no_text_is_refused(run: Path) -> None:
    (run / "rollouts").mkdir(exist_ok=True)
    content = as_parquet(ROWS).replace("a2b4=é#4".encode(), b"a2b4=\xff\xff#4")
    (run / "rollouts" / "step_000000.parquet").write_bytes(content)
    with or_one_line():
        read_history(run).table("rollouts", 0)


@fuzzed(100, 4_000)
@given(damaged(as_parquet(ROWS)))
def test_a_table_is_read_or_refused(run: Path, content: bytes) -> None:
    (run / "rollouts").mkdir(exist_ok=True)
    (run / "rollouts" / "step_000000.parquet").write_bytes(content)
    with or_one_line():
        assert isinstance(read_history(run).table("rollouts", 0), list)


# checkpoints


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


@fuzzed(300, 10_000)
@given(CHANGED)
def test_a_checkpoint_whose_files_changed_is_refused(small: Path, file: tuple[str, bytes]) -> None:
    files = SMALL | {"manifest.json": MANIFEST} | dict([file])
    for name in ("state.json", "manifest.json"):
        (small / name).write_bytes(files[name])
    with or_one_line(FolderFault):
        assert read_state(small) == STATE
        assert files["state.json"] == SMALL["state.json"]
        assert json.loads(files["manifest.json"]) == json.loads(MANIFEST)


@fuzzed(300, 10_000)
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


@fuzzed(20, 600)
@given(st.data(), st.sampled_from(["optimizer.safetensors", "model.safetensors"]))
def test_tensors_are_loaded_whole_or_refused(checkpoint: Path, data: st.DataObject, name: str) -> None:
    check_loading(checkpoint, name, data.draw(damaged((checkpoint / name).read_bytes())))


@fuzzed(20, 600)
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
