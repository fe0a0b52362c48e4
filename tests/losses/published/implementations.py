"""The measured tables of docs/implementations.md: the published implementations against ours, and each other.

`python -m tests.losses.published.implementations` writes them into the page.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any

from torch import Tensor

from tests.losses.agreement import LEVELS, Numbers
from tests.losses.published import authors, golden
from tests.losses.published.comparisons import COMPARISONS

PAGE = Path(__file__).parents[3] / "docs" / "implementations.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

VECTORS = golden.LOSS_VECTORS + golden.ADVANTAGE_VECTORS
OF_THE_HARNESS = {"official__dapo_group_kept"}  # dynamic sampling: losses/ has no number for it

AUTHORS, SWIFT, TRL, TRL_PR, SLIME, LOOP = "authors", "ms-swift", "TRL", "TRL PR", "slime PR", "loop"
IMPLEMENTATIONS = {"official": AUTHORS, "swift": SWIFT, "trl116": TRL, "trlpr": TRL_PR, "slime": SLIME, "ref": LOOP}
ALGORITHMS = ("FIPO", "DAPO, GRPO", "all")

# what the files call an average and an array, and what the tables call them, in the tables' order
TOKENS, SEQUENCES, CONSTANT, SUM = "token mean", "sequence mean", "constant divisor", "sequence sum"
AVERAGES = {
    **dict.fromkeys(("token_mean", "local_token_mean", "agg_fipo", "agg_bnpo", "dapo", "bnpo"), TOKENS),
    **dict.fromkeys(("seq_mean_token_mean", "sample_mean", "agg_grpo", "grpo"), SEQUENCES),
    **dict.fromkeys(("seq_mean_token_sum_norm", "agg_dr_grpo", "dr_grpo"), CONSTANT),
    "seq_mean_token_sum": SUM,
}
ARRAYS = {
    **dict.fromkeys(("future_kl", "exp_future_kl"), "Future-KL"),
    "influence": "influence weight",
    "loss_mask": "mask after the sequence filter",
    "safety_mask": "tokens spared by the safety rule",
    **dict.fromkeys(("loss_mat", "loss_mat_masked"), "token loss"),
    "scalar": "loss",
    "grad": "gradient",
    "clipfrac": "clip fraction",
    "clipfrac_lower": "dual-clip fraction",
    "ppo_kl": "KL to the old policy",
    **dict.fromkeys(("adv", "adv_group"), "advantage over the group's std"),
    "adv_batch": "advantage over the batch's std",
    **dict.fromkeys(("adv_no_std", "adv_none"), "advantage without std"),
}

Position = dict[str, Any]  # what an implementation does, in the arguments of authors.fipo_numbers
NO_FILTER, EXACT_MEAN = {"sequence_filter": False}, {"denominator_epsilon": 1e-300}  # 0 would be 0 / 0 without tokens
THE_AUTHORS: Position = {"sequence_filter": True, "denominator_epsilon": authors.DENOMINATOR_EPSILON} | authors.SETTINGS
THE_PAGE: Position = NO_FILTER | EXACT_MEAN | dict.fromkeys(authors.SETTINGS) | {"filter_in_log_space": False}
POSITIONS = {
    AUTHORS: THE_AUTHORS,
    SWIFT: THE_PAGE,
    TRL: THE_PAGE,
    TRL_PR: THE_AUTHORS | EXACT_MEAN,
    SLIME: THE_AUTHORS | EXACT_MEAN | NO_FILTER,
}

REASONS = {
    "sequence_filter": "sequence filter",
    "log_ratio_clamp": "log-ratio clamp",
    "filter_in_log_space": "filter at a tie",
    "weight_bound": "weight bound",
    "denominator_epsilon": "n + 1e-8",
}
REASON_SHARE = 0.1  # a reason is named where, changed alone, it moves ours by this share of the difference or more


@dataclass(frozen=True)
class Place:
    """Where a recorded array stands in the tables."""

    implementation: str
    algorithm: str
    quantity: str


@dataclass(frozen=True)
class Difference:
    """How far two sides are apart on one vector, and up to where the tests call that rounding."""

    size: float
    rounding: float
    vector: str

    @property
    def real(self) -> bool:
        """Whether it is more than rounding."""
        return self.size > self.rounding


def place(name: str) -> Place:
    """The place of a recorded array, from its name; KeyError where the tables do not know it."""
    source, *middle, array = name.split("__")
    implementation, quantity = IMPLEMENTATIONS[source.split("_")[0]], ARRAYS[array]
    if array.startswith("adv"):
        return Place(implementation, ALGORITHMS[-1], quantity)
    if array in ("scalar", "grad"):
        quantity += ", " + AVERAGES[middle[0] if middle else source.split("_", 1)[1]]
    return Place(implementation, ALGORITHMS[not source.endswith(("fipo", "ref"))], quantity)


def as_compared(name: str, values: Tensor) -> Tensor:
    """The values as the tables compare them: exp(Future-KL) by its logarithm, the rest as they are."""
    values = values.detach().double()
    return values.log() if name.endswith("__exp_future_kl") else values


def apart(first: Tensor, second: Tensor) -> float:
    """The largest difference of two arrays' entries, relative to the largest entry of either; inf where one is NaN."""
    gaps = (first - second).abs()
    if not gaps.isfinite().all():
        return float("inf")
    return float(gaps.max() / max(first.abs().max(), second.abs().max())) if gaps.any() else 0.0


def farthest(vector: str, sides: Iterable[tuple[Tensor, Tensor]]) -> Difference:
    """The largest difference among pairs of arrays of one vector."""
    rounding = LEVELS[golden.level("", golden.load(vector))]
    return Difference(max(apart(first, second) for first, second in sides), rounding, vector)


@cache
def ours(vector: str) -> Numbers:
    """All of our numbers for a vector, each under the settings that follow the implementation in its name."""
    numbers: Numbers = {}
    for compute, names in COMPARISONS.values():
        numbers |= compute(golden.load(vector)) if vector in names else {}
    return numbers


@cache
def theirs(vector: str) -> dict[Place, dict[str, Tensor]]:
    """The vector's recorded arrays that can be compared, by place and name."""
    found: dict[Place, dict[str, Tensor]] = {}
    for name, values in golden.compared(ours(vector), golden.load(vector)).items():
        found.setdefault(place(name), {})[name] = as_compared(name, values)
    return found


def from_ours() -> dict[Place, list[Difference]]:
    """For each place, how far theirs and ours are apart on each vector."""
    found: dict[Place, list[Difference]] = {}
    for vector in VECTORS:
        mine = golden.comparable(ours(vector), golden.load(vector))
        for where, arrays in theirs(vector).items():
            sides = [(values, as_compared(name, mine[name])) for name, values in arrays.items()]
            found.setdefault(where, []).append(farthest(vector, sides))
    return found


@cache
def between(first: Place, second: Place) -> list[Difference]:
    """How far two places' arrays are apart on each vector that has both."""
    both = [(vector, theirs(vector).get(first), theirs(vector).get(second)) for vector in VECTORS]
    return [farthest(vector, product(x.values(), y.values())) for vector, x, y in both if x and y]


def camps(places: list[Place]) -> list[list[Place]]:
    """The places of one quantity in groups, in each of which all agree on every vector that they share."""
    groups: list[list[Place]] = []
    for where in places:
        agreeing = [g for g in groups if not any(one.real for other in g for one in between(other, where))]
        if agreeing:
            agreeing[0].append(where)
        else:
            groups.append([where])
    return groups


@cache
def under(vector: str, algorithm: str, position: frozenset[tuple[str, Any]]) -> Numbers:
    """Our quantities for a vector in a position."""
    loaded, settings = golden.load(vector), dict(position)
    filtered = settings.pop("sequence_filter") and algorithm == "FIPO"
    settings |= {} if algorithm == "FIPO" else {"clip_range": 1e-300, "clip_high_only": True}  # weights of 1: DAPO
    numbers = authors.fipo_numbers(loaded, None if filtered else loaded["in__mask"], **settings)
    numbers = {name: values for name, values in numbers.items() if name.startswith("official")}
    return {place(name).quantity: as_compared(name, v) for name, v in golden.comparable(numbers, loaded).items()}


def reasons(first: Place, second: Place, found: Difference) -> list[str]:
    """Why two places differ on a vector: what, changed alone from one's position to the other's, moves our number."""
    if first.algorithm == "all":
        return ["advantage epsilon"]
    who, mask = (first.implementation, second.implementation), golden.load(found.vector)["in__mask"]
    # the two that lie in rows: slime counts one without tokens, verl's constant divisor leaves their number out
    empty = first.quantity.endswith(TOKENS) and SLIME in who and not mask.any(dim=1).all()
    undivided = first.quantity.endswith(CONSTANT) and AUTHORS in who and len(mask) > 1
    named = ["empty row"] * empty + ["number of rows"] * undivided
    position, other = (POSITIONS[implementation] for implementation in who)
    for key, reason in REASONS.items():
        named += [reason] * (effect(found.vector, first, position, {key: other[key]}) >= REASON_SHARE * found.size)
    return named


def effect(vector: str, where: Place, position: Position, change: Position) -> float:
    """How far a change of the position moves our number."""
    if position == position | change:
        return 0.0
    before, after = (under(vector, where.algorithm, frozenset((position | c).items())) for c in ({}, change))
    return apart(before[where.quantity], after[where.quantity])


def rows() -> list[tuple[str, str]]:
    """Each algorithm's quantities, in the order of the tables."""
    averages = ["", *(f", {average}" for average in dict.fromkeys(AVERAGES.values()))]
    quantities = [array + average for array, average in product(dict.fromkeys(ARRAYS.values()), averages)]
    found = {(where.algorithm, where.quantity) for vector in VECTORS for where in theirs(vector)}
    return [row for row in product(ALGORITHMS, quantities) if row in found]


def table(header: list[str], lines: Iterable[list[str]]) -> str:
    """A table in markdown."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *lines])


def worst(found: Iterable[Difference]) -> str:
    """The largest difference in words, with its vector where it is more than rounding."""
    largest = max(found, key=lambda one: (one.real, one.size))
    return f"{largest.size:#.2g} on {largest.vector}" if largest.real else "agrees"


def our_table() -> str:
    """This project against each implementation, quantity by quantity."""
    found, lines = from_ours(), []
    for row in rows():
        cells = [found.get(Place(who, *row), []) for who in IMPLEMENTATIONS.values()]
        lines.append([*row, *(f"{worst(cell)} ({len(cell)})" if cell else "-" for cell in cells)])
    return table(["losses", "quantity", *IMPLEMENTATIONS.values()], lines)


def comparison(one: list[Place], other: list[Place]) -> list[str]:
    """How far two groups are apart at most, on how many vectors, and why: on how many of those, and how far there."""
    found = [(found, x, y) for x, y in product(one, other) for found in between(x, y)]
    largest = {side[0].vector: side for side in sorted(found, key=lambda side: side[0].size)}
    real = [side for side in largest.values() if side[0].real]
    why: dict[str, list[float]] = {}
    for difference, x, y in sorted(real, key=lambda side: -side[0].size):
        for reason in reasons(x, y, difference):
            why.setdefault(reason, []).append(difference.size)
    texts = [f"{reason} {len(sizes)} ({sizes[0]:#.2g})" for reason, sizes in why.items()]
    return [worst(side[0] for side in largest.values()), f"{len(real)} of {len(largest)}", ", ".join(texts)]


def their_table() -> str:
    """The implementations against each other, quantity by quantity."""
    lines = []
    for row in rows():
        places = [Place(who, *row) for who in POSITIONS]
        groups = camps([where for where in places if any(where in theirs(vector) for vector in VECTORS)])
        names = {id(group): " = ".join(where.implementation for where in group) for group in groups}
        lines += [[*row, names[id(x)], names[id(y)], *comparison(x, y)] for x, y in combinations(groups, 2)]
        if len(groups) == 1 and len(groups[0]) > 1:
            lines.append([*row, *names.values(), "-", "agrees", "0", "-"])
    header = ["losses", "quantity", "one side", "other side", "largest difference", "vectors that differ", "reasons"]
    return table(header, lines)


def measured() -> str:
    """The measured part of the page."""
    return f"### This project against each\n{our_table()}\n\n### Each against the others\n{their_table()}"


def page_with(text: str) -> str:
    """The page with the text as its measured part."""
    before, rest = PAGE.read_text().split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page_with(measured()))
