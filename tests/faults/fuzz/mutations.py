"""What may have become of a file: bytes flipped, cut, put in or doubled, and values of other types."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from harness.errors import HarnessError, UsageError
from tests.faults.amount import amount
from tests.harness.tiny import small_config

CONFIG = small_config(beta=0.1, loss_type="fipo", delta=10.0, sequence_filter=True, fipo_clip_range=None)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 0.5, 2**31, 2**63, 2**64, 1e308, -0.0])
WORDS = st.text(max_size=6) | st.sampled_from(
    ["none", "None", "null", "true", "1", "1e3", "nan", "-inf", "tiny", "fipo"]
)
LEAVES = st.none() | st.booleans() | NUMBERS | WORDS


def branches(inner: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3)


JSON = st.recursive(LEAVES, branches, max_leaves=6)


@st.composite
def damaged(draw: DrawFn, content: bytes) -> bytes:
    """The content with up to three stretches of it taken out and others put in their places."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        taken = draw(st.integers(0, 3) | st.just(len(content) - start))
        again = draw(st.integers(0, len(content)))
        flipped = bytes([content[start] ^ (1 << draw(st.integers(0, 7)))]) if start < len(content) else b"\0"
        put = draw(st.sampled_from([b"", flipped, content[again : again + 20]]) | st.binary(max_size=3))
        content = content[:start] + put + content[start + taken :]
    return content


@st.composite
def confused(draw: DrawFn, tree: Any) -> Any:
    """The tree with a value, or a branch, lost or of another type."""
    if not isinstance(tree, dict | list) or not tree or draw(st.integers(0, 5)) == 0:
        return draw(JSON)
    key = draw(st.sampled_from(sorted(tree) if isinstance(tree, dict) else range(len(tree))))
    changed = tree.copy()
    match draw(st.sampled_from(["inside", "inside", "inside", "lost", "more"])):
        case "inside":
            changed[key] = draw(confused(tree[key]))
        case "lost":
            del changed[key]
        case "more" if isinstance(changed, dict):
            changed[draw(WORDS)] = draw(JSON)
        case "more":
            changed.append(draw(JSON))
    return changed


def as_json(tree: object) -> bytes:
    return json.dumps(tree).encode()


def fuzzed(short: int, thorough: int) -> settings:
    """So many examples; each is a file or two."""
    return settings(
        max_examples=amount(short, thorough), deadline=None, suppress_health_check=list(HealthCheck), database=None
    )


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


def is_as_given(value: Any, found: Any) -> bool:
    """Whether a setting is what was asked for, however that was spelled; None leaves it to its default."""
    if value is None or isinstance(found, str):
        return value is None or value == found
    if isinstance(found, bool):
        return str(value).strip().lower() in (("true", "1", "1.0", "yes", "y", "on", "t") if found else FALSE)
    return value in ("none", "None") if found is None else float(value) == found


FALSE = "false", "0", "0.0", "-0.0", "no", "n", "off", "f"
