"""What may have become of a file: bytes flipped, cut, put in or doubled, and values of other types."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

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
