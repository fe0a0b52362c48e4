"""python -m tests.analysis.statistics.coverage [--save]: whether intervals, tests and power hold what they promise.

Scores are simulated and the statistics are the project's formulas over all repetitions at once; in every cell a sample
of repetitions is computed by the project's functions too and must agree to 1e-9. --save writes
docs/statistics_table.md.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from warnings import catch_warnings

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.intervals import holm, paired_t, seeds_needed, smallest_detectable_difference, welch
from analysis.statistics.robust import shift_interval, signed_rank_distribution

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]
REPETITIONS, CHECKED, SEEDS = 50_000, 10, (3, 5, 10)
SD, TRUTH, CEILING, PROMPTS, DIVERGED, SHARED = 0.015, 0.88, 0.97, 256, 0.21, (0.0, 0.5, 0.8)
PAGE = Path(__file__).resolve().parents[3] / "docs" / "statistics_table.md"


@dataclass(frozen=True)
class Cell:
    """A share over the repetitions in percent, with the range that it must lie in."""

    what: str
    scores: str
    n: int
    value: float
    repetitions: int
    low: float | None = None
    high: float | None = None

    @property
    def row(self) -> str:
        """As the page shows it, with two Monte Carlo standard errors in percentage points."""
        error = 200 * float(np.sqrt(self.value / 100 * (1 - self.value / 100) / self.repetitions))
        target = "" if self.low is None else f"{self.low:g} to {self.high:g}"
        met = self.low is None or self.high is None or self.low <= self.value <= self.high
        word = "as measured" if self.low is None else "met" if met else "MISSED"
        numbers = f"{self.n} | {self.value:.1f} | {error:.1f} | {target}"
        return f"| {self.what} | {self.scores} | {numbers} | {word} |"


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Scores of seeds around 0.88."""
    return rng.normal(TRUTH, SD, shape)


def ceiling(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Shares of 256 prompts answered right by seeds whose skill lies near 0.97 and cannot pass 1 (a beta)."""
    total = CEILING * (1 - CEILING) / (SD / 1.5) ** 2 - 1
    return rng.binomial(PROMPTS, rng.beta(CEILING * total, (1 - CEILING) * total, shape)) / PROMPTS


def diverging(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """As normal, but each seed diverges with probability 0.1 and ends at chance."""
    return np.where(rng.random(shape) < 0.1, DIVERGED, normal(rng, shape))


def pairs(rng: np.random.Generator, shape: tuple[int, ...], shared: float) -> tuple[Array, Array]:
    """Two equal arms whose scores of a seed correlate by `shared`, since they share prompts and random numbers."""
    common, own = rng.normal(size=shape), rng.normal(size=(2, *shape))
    a, b = TRUTH + SD * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)
    return a, b


def cells(repetitions: int) -> Iterator[Cell]:
    """Every cell of the table."""
    for number, part in enumerate((levels, families, power, equivalence, divergence)):
        yield from part(np.random.default_rng([7, number]), repetitions)


def levels(rng: np.random.Generator, repetitions: int) -> Iterator[Cell]:
    """How often two equal arms are called different at 5 %: their 95 % intervals hold 0 in all other studies."""
    for name, draw in {"normal": normal, "near the ceiling": ceiling}.items():
        for n in SEEDS:
            a, b = draw(rng, (2, repetitions, n))
            welch_p, paired_p = percent(many_welch(a, b) < 0.05), percent(many_paired(a - b)[2] < 0.05)
            yield Cell("A/A by Welch", f"{name}, seeds not shared", n, welch_p, repetitions, 2.5, 5.5)
            yield Cell("A/A by the paired t", name, n, paired_p, repetitions, 4.5, 5.5)
    for shared in SHARED[1:]:
        for n in SEEDS:
            a, b = pairs(rng, (repetitions, n), shared)
            name = f"normal, seeds shared, correlation {shared}"
            welch_p, paired_p = percent(many_welch(a, b) < 0.05), percent(many_paired(a - b)[2] < 0.05)
            yield Cell("A/A by the paired t, which decides", name, n, paired_p, repetitions, 4.5, 5.5)
            yield Cell("A/A by Welch, beside it", name, n, welch_p, repetitions)


def families(rng: np.random.Generator, repetitions: int) -> Iterator[Cell]:
    """How often any of three claims about three equal arms is called true after Holm's correction."""
    arms = normal(rng, (3, repetitions, 8))
    raw = np.stack([many_paired(arms[i] - arms[j])[2] for i, j in combinations(range(3), 2)], axis=1)
    # Holm finds anything at all exactly where the smallest p is below 5 % over the number of questions.
    agree([min(holm(list(row))) < 0.05 for row in raw[:CHECKED]], list(raw[:CHECKED].min(axis=1) < 0.05 / 3))
    found = percent(raw.min(axis=1) < 0.05 / 3)
    yield Cell("any false claim after Holm", "normal, three equal arms, pairs", 8, found, repetitions, 2, 5.5)


def power(rng: np.random.Generator, repetitions: int) -> Iterator[Cell]:
    """How often a planted effect is found by pairs, of the size that is called detectable with 80 %."""
    for n in (5, 10):
        effect = smallest_detectable_difference(ideal_scores(n), None) or 0.0
        found = percent(many_paired(rng.normal(effect, SD, (repetitions, n)))[2] < 0.05)
        yield Cell("power at the smallest detectable effect", "differences normal", n, found, repetitions, 77.5, 82)
    for wanted in (0.02, 0.01):
        n = seeds_needed(ideal_scores(5), None, wanted) or 0
        found = percent(many_paired(rng.normal(wanted, SD, (repetitions, n)))[2] < 0.05)
        what = f"power for {wanted} with the seeds said to be needed"
        yield Cell(what, "differences normal", n, found, repetitions, 79, 90)
    for shared in SHARED:
        a, b = pairs(rng, (repetitions, 10), shared)
        name = f"normal, correlation {shared}"
        for test, p in (("pairs", many_paired(a + 0.01 - b)[2]), ("Welch", many_welch(a + 0.01, b))):
            yield Cell(f"an effect of 0.01 found by {test}", name, 10, percent(p < 0.05), repetitions)


def equivalence(rng: np.random.Generator, repetitions: int) -> Iterator[Cell]:
    """How often two arms are called the same within a margin: when they are, and when they differ by just that."""
    for n in (5, 10):
        margin = smallest_detectable_difference(ideal_scores(n), None, alpha=0.10, power=0.9) or 0.0
        for shift, what, low, high in ((margin, "at the margin", 0.0, 5.5), (0.0, "at no difference", 76.0, 84.0)):
            left, right, _ = many_paired(rng.normal(shift, SD, (repetitions, n)), 0.90)
            same = percent((left > -margin) & (right < margin))
            yield Cell(f"equivalence declared {what}", "differences normal", n, same, repetitions, low, high)


def divergence(rng: np.random.Generator, repetitions: int) -> Iterator[Cell]:
    """What is left where one seed in ten of one arm diverges, which is when ranks decide, from 8 seeds on."""
    name, effect = "one seed in ten of an arm diverges", 0.02
    for n in (8, 12):
        d = diverging(rng, (repetitions, n)) - normal(rng, (repetitions, n))
        for test, shifted in (("paired t", many_paired), ("signed ranks, which decide", many_signed_ranks)):
            low, high, *_ = shifted(d)
            held = f"shift of the seeds that do not, held by {test}"
            yield Cell(held, name, n, percent((low <= 0) & (high >= 0)), repetitions)
            found = percent(shifted(d + effect)[0] > 0)
            yield Cell(f"a shift of {effect} found by {test}", name, n, found, repetitions)
        low, high = many_signed_ranks(rng.normal(0, SD, (repetitions, n)))
        held = percent((low <= 0) & (high >= 0))
        yield Cell("signed ranks hold the truth", "differences normal", n, held, repetitions, 94.5, 98.5)


def many_welch(a: Array, b: Array) -> Array:
    """p of `welch` over many repetitions. a, b: [repetition, seed]."""
    with catch_warnings(action="ignore", category=RuntimeWarning):  # of arms without any spread
        p = stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue
    p = np.where(np.isnan(p), 1.0, p)
    agree(p[:CHECKED], [welch(x, y).p for x, y in zip(a[:CHECKED], b[:CHECKED], strict=True)])
    return np.asarray(p)


def many_paired(d: Array, confidence: float = 0.95) -> tuple[Array, Array, Array]:
    """Ends and p of `paired_t` of differences d: [repetition, seed]."""
    n = d.shape[1]
    mean, error = d.mean(axis=1), np.maximum(d.std(axis=1, ddof=1) / np.sqrt(n), 1e-300)
    half, p = stats.t.ppf((1 + confidence) / 2, n - 1) * error, 2 * stats.t.sf(np.abs(mean) / error, n - 1)
    ours = [paired_t(row, np.zeros(n), confidence) for row in d[:CHECKED]]
    agree((mean - half)[:CHECKED], [one.low for one in ours])
    agree(p[:CHECKED], [one.p for one in ours])
    return mean - half, mean + half, np.asarray(p)


def many_signed_ranks(d: Array, confidence: float = 0.95) -> tuple[Array, Array]:
    """The ends of `shift_interval` over many repetitions."""
    i, j = np.triu_indices(d.shape[1])
    means = np.sort((d[:, i] + d[:, j]) / 2, axis=1)
    tail = signed_rank_distribution(d.shape[1]).cumsum()
    rejected = int(np.searchsorted(tail, (1 - confidence) / 2 + 1e-12, side="right"))
    low, high = means[:, rejected - 1], means[:, -rejected]
    ours = [shift_interval(row, confidence) for row in d[:CHECKED]]
    agree(low[:CHECKED], [one.low for one in ours])
    agree(high[:CHECKED], [one.high for one in ours])
    return low, high


def ideal_scores(n: int) -> Array:
    """Scores whose sample sd is exactly that of the simulation."""
    scores = stats.norm.ppf((np.arange(n) + 0.5) / n)
    return np.asarray(SD * (scores - scores.mean()) / scores.std(ddof=1))


def percent(hits: NDArray[np.bool_]) -> float:
    """Of all repetitions."""
    return 100 * float(hits.mean())


def agree(ours: object, theirs: object) -> None:
    """Stop where the formula over many repetitions is not the project's own function."""
    np.testing.assert_allclose(np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float), rtol=1e-9, atol=1e-9)


def page(found: list[Cell]) -> str:
    """The table as markdown."""
    sign = "\N{PLUS-MINUS SIGN}"
    head = (
        "Made by `make bench-statistics`; do not edit. Each share is over "
        f"{found[0].repetitions:,} simulated studies; {sign} is two Monte Carlo standard errors. Scores: mean {TRUTH}, "
        f"sd {SD} between seeds; near the ceiling: shares of {PROMPTS} prompts with a mean of {CEILING}; diverged "
        f"seeds end at {DIVERGED}."
    )
    columns = [f"| what | scores | seeds per arm | measured, % | {sign} | target | |", "|---|---|---|---|---|---|---|"]
    return "\n".join([head, "", *columns, *(cell.row for cell in found), ""])


if __name__ == "__main__":
    measured = []
    for one in cells(REPETITIONS):
        measured.append(one)
        print(one.row, flush=True)
    if "--save" in sys.argv[1:]:
        PAGE.write_text(page(measured), encoding="utf-8")
