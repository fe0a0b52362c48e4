"""All comparisons with the reference vectors, so that mutants and coverage go through the same ones as the tests."""

from collections.abc import Callable

from tests.losses import authors, golden, group_rewards, page
from tests.losses.agreement import Numbers

# a comparison's numbers of ours, and the vectors on which they are compared
COMPARISONS: dict[str, tuple[Callable[[golden.Vector], Numbers], list[str]]] = {
    "page fipo": (page.fipo_numbers, golden.LOSS_VECTORS),
    "page dapo": (page.dapo_numbers, golden.LOSS_VECTORS),
    "authors fipo": (authors.fipo_numbers, golden.LOSS_VECTORS),
    "authors dapo": (authors.dapo_numbers, golden.LOSS_VECTORS),
    "slime": (authors.slime_numbers, golden.LOSS_VECTORS),
    "advantages": (group_rewards.advantage_numbers, golden.ADVANTAGE_VECTORS),
}
FIPOS = {"page fipo", "authors fipo", "slime"}
LOSSES = FIPOS | {"page dapo", "authors dapo"}


def noticed(comparison: str) -> set[tuple[str, str]]:
    """The vectors and arrays in which losses/ as it now is differs from the recorded numbers."""
    numbers, names = COMPARISONS[comparison]
    lines = {name: golden.differing(numbers(golden.load(name)), golden.load(name)) for name in names}
    return {(name, line.split(":")[0]) for name in names for line in lines[name]}
