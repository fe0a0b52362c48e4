"""Settings, files of settings and command lines as nobody would write them: taken as given, or refused in one line."""

import contextlib
import io
import json
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
from tests.faults.fuzz.mutations import (
    CONFIG,
    JSON,
    LEAVES,
    NUMBERS,
    WORDS,
    as_json,
    confused,
    damaged,
    fuzzed,
    is_as_given,
    or_one_line,
)

FLAGS = sorted(section_of())
FILES = [path.read_bytes() for path in sorted(PRESETS.rglob("*.toml"))]
GIVEN = st.dictionaries(st.sampled_from(FLAGS), LEAVES | JSON, max_size=3)


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
    st.sampled_from([["show"], ["show", "--preset", "demo"], ["evaluate", "RUN"], ["diff", "RUN"], []]),
    st.lists(ONE_FLAG | WORD.map(lambda word: [word]), max_size=3),
).map(lambda parts: [word for part in (parts[0], *parts[1]) for word in part])


@fuzzed(30, 3_000)
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
