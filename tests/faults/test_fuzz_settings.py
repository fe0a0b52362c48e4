"""Settings, files of settings and command lines as nobody would write them: taken as given, or refused in one line."""

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.__main__ import main
from harness.cli.parser import run_command
from harness.config.resolve import PRESETS, resolve, tree_of, tree_sha256
from harness.config.schema import Config, section_of
from harness.errors import UsageError
from tests.faults.amount import fuzzed
from tests.harness.tiny import small_config

FLAGS = sorted(section_of())
TREE = tree_of(small_config(beta=0.1, loss_type="fipo", delta=10.0, sequence_filter=True, fipo_clip_range=None))
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 0.5, 2**31, 2**63, 2**64, 1e308, -0.0])
WORDS = st.text(max_size=6) | st.sampled_from(
    ["none", "None", "null", "true", "1", "1e3", "nan", "-inf", "tiny", "fipo"]
)
LEAVES = st.none() | st.booleans() | NUMBERS | WORDS
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6
)
FALSE = "false", "0", "0.0", "-0.0", "no", "n", "off", "f"


@st.composite
def confused(draw: st.DrawFn, tree: Any) -> Any:
    """The tree with a value, or a branch, lost or of another type."""
    if not isinstance(tree, dict) or not tree or draw(st.integers(0, 5)) == 0:
        return draw(JSON)
    key, changed = draw(st.sampled_from(sorted(tree))), tree.copy()
    match draw(st.sampled_from(["inside", "inside", "inside", "lost", "more"])):
        case "inside":
            changed[key] = draw(confused(tree[key]))
        case "lost":
            del changed[key]
        case "more":
            changed[draw(WORDS)] = draw(JSON)
    return changed


@contextlib.contextmanager
def or_one_line() -> Iterator[None]:
    """What is inside goes well, or is refused in one line of words."""
    said = "nothing of it"
    try:
        yield
    except UsageError as error:
        said = str(error)
    assert len(said) > 10
    assert "\n" not in said


def is_as_given(value: Any, found: Any) -> bool:
    """Whether a setting is what was asked for, however that was spelled; None leaves it to its default."""
    if value is None or isinstance(found, str):
        return value is None or value == found
    if isinstance(found, bool):
        return str(value).strip().lower() in (("true", "1", "1.0", "yes", "y", "on", "t") if found else FALSE)
    return value in ("none", "None") if found is None else float(value) == found


def check_settings(asked: dict[str, Any], config: Config) -> None:
    """What was asked for is what there is, and writing it down changes nothing."""
    tree, where = tree_of(config), section_of()
    assert resolve({flag: value for part in tree.values() for flag, value in part.items()}) == config
    assert all(is_as_given(value, tree[where[flag]][flag]) for flag, value in asked.items())
    json.dumps(tree, allow_nan=False)


GIVEN = st.dictionaries(st.sampled_from(FLAGS), LEAVES | JSON, max_size=3)


@fuzzed(300, 50_000)
@given(GIVEN | confused(TREE["loss"]) | confused(TREE["optimizer"]))
def test_settings_are_taken_as_given_or_refused(asked: Any) -> None:
    if isinstance(asked, dict):
        with or_one_line():
            check_settings(asked, resolve(asked))


def check_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with or_one_line():
        config = resolve({}, config_file=str(path))
        check_settings({}, config)
        tree_sha256(tree_of(config))


@fuzzed(300, 12_000)
@given(JSON | confused(TREE) | confused({"config": TREE}))
def test_settings_files_are_taken_as_written_or_refused(place: Path, tree: Any) -> None:
    check_file(place / "settings.json", json.dumps(tree).encode())


PRESET = (PRESETS / "demo.toml").read_bytes()
BROKEN = [
    (".json", b"[" * 100_000),
    (".toml", b"steps = " + b"[" * 100_000),
    (".json", b"\xff"),
    (".toml", PRESET[:-5]),
]
BROKEN += [(".toml", start + b"0x" + b"f" * 5000) for start in (b"lr = ", b"seed = ", b"steps = [")]


@pytest.mark.parametrize(("suffix", "content"), BROKEN, ids=range(len(BROKEN)))
def test_files_that_are_broken_too_deep_or_too_long_are_one_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    check_file(tmp_path / f"settings{suffix}", content)


VALUES = (NUMBERS | WORDS | st.booleans()).map(str)
ONE_FLAG = st.sampled_from(FLAGS).flatmap(lambda flag: VALUES.map(lambda value: [f"--{flag}", value]))
WORD = st.sampled_from(["show", "train", "RUN", "--steps", "--config", "--run", "--", "first\nsecond"]) | WORDS.filter(
    lambda word: word.strip("-") not in ("h", "he", "hel", "help")
)
COMMAND_LINES = st.tuples(
    st.sampled_from([["show"], ["show", "--preset", "demo"], ["evaluate", "RUN"], ["diff", "RUN"], []]),
    st.lists(ONE_FLAG | WORD.map(lambda word: [word]), max_size=3),
).map(lambda parts: [word for part in (parts[0], *parts[1]) for word in part])


@fuzzed(30, 3_000)
@given(COMMAND_LINES)
def test_a_command_line_is_carried_out_or_one_line(words: list[str]) -> None:
    if words[:1] == ["train"]:
        words = [*words, "--output_dir", str(PRESETS)]  # a folder in use, so that no line trains
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = run_command(main, words)
    said = errors.getvalue()
    assert (code, said) == (0, "") or (code == 2 and said.startswith("error: ") and said.count("\n") == 1)
