"""python -m benchmarks.coverage [--save]: whether the analysis's intervals, tests and power hold what they promise.

Scores are simulated, the statistics are the project's own formulas over all repetitions at once; on every cell a sample
of repetitions is computed by the project's functions too and must agree to 1e-9. --save writes docs/statistics_table.md
and benchmarks/results/.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.intervals import (
    exact_permutation_p,
    holm,
    paired_t,
    seeds_needed,
    smallest_detectable_difference,
    t_interval,
    welch,
)
from analysis.statistics.peak import expected_maximum
from analysis.statistics.robust import rank_sum_distribution, shift_interval
from benchmarks.table import Row, saved
from harness.cli.parser import OneLineParser, run_command

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]
REPETITIONS, CHECKED, SEEDS = 100_000, 20, (3, 5, 10)
SD, TRUTH, CEILING, PROMPTS, DIVERGED = 0.015, 0.88, 0.97, 256, 0.21
PAGE = Path(__file__).resolve().parents[1] / "docs" / "statistics_table.md"


@dataclass(frozen=True)
class Cell:
    """A share over the repetitions in percent, or another number, with the range that it must lie in."""

    what: str
    scores: str
    n: int
    value: float
    low: float | None = None
    high: float | None = None
    repetitions: int = REPETITIONS

    @property
    def error(self) -> float:
        """Two Monte Carlo standard errors of a share, percentage points."""
        return 200 * float(np.sqrt(self.value / 100 * (1 - self.value / 100) / self.repetitions))

    @property
    def verdict(self) -> str:
        """Met, missed, or that there is no target."""
        if self.low is None or self.high is None:
            return "as measured"
        return "met" if self.low <= self.value <= self.high else "MISSED"

    @property
    def target(self) -> str:
        """The range in words."""
        return "" if self.low is None else f"{self.low:g} to {self.high:g}"


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Scores of seeds around 0.88."""
    return rng.normal(TRUTH, SD, shape)


def ceiling(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Shares of 256 prompts answered right by seeds whose skill lies near 0.97 and cannot pass 1 (a beta)."""
    variance = (SD / 1.5) ** 2
    total = CEILING * (1 - CEILING) / variance - 1
    skill = rng.beta(CEILING * total, (1 - CEILING) * total, shape)
    return rng.binomial(PROMPTS, skill) / PROMPTS


def diverging(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """As normal, but each seed diverges with probability 0.1 and ends at chance."""
    return np.where(rng.random(shape) < 0.1, DIVERGED, normal(rng, shape))


SCORES: dict[str, tuple[Draw, float]] = {"normal": (normal, TRUTH), "near the ceiling": (ceiling, CEILING)}


def cells(repetitions: int = REPETITIONS) -> Iterator[Cell]:
    """Every cell of the table."""
    for number, part in enumerate((coverage, false_alarms, power, equivalence, divergence)):
        yield from part(np.random.default_rng([7, number]), repetitions)


def coverage(rng: np.random.Generator, repetitions: int) -> Iterator[Cell]:
    """How often the interval that calls itself 95 % holds the truth."""
    for name, (draw, truth) in SCORES.items():
        for n in SEEDS:
            low, high = many_t(draw(rng, (repetitions, n)))
            yield Cell("coverage of the t interval of a mean", name, n, inside(low, high, truth), 94, 96, repetitions)
        for n in SEEDS:
            a, b = draw(rng, (2, repetitions, n))
            _, low, high, _ = many_welch(a, b)
            yield Cell("coverage of Welch's interval", name, n, inside(low, high, 0.0), 94.5, 97, repetitions)


def false_alarms(rng: np.random.Generator, repetitions: int) -> Iterator[Cell]:
    """How often two equal arms are called different at 5 %."""
    for name, (draw, _) in SCORES.items():
        for n in SEEDS:
            a, b = draw(rng, (2, repetitions, n))
            p = many_welch(a, b)[3]
            yield Cell("A/A by Welch, independent seeds", name, n, percent(p < 0.05), 3, 5.5, repetitions)
    for shared in (0.3, 0.6, 0.9):
        for n in SEEDS:
            common, own = rng.normal(size=(repetitions, n)), rng.normal(size=(2, repetitions, n))
            a, b = TRUTH + SD * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)
            name = f"normal, seeds shared, correlation {shared}"
            yield Cell("A/A by the paired t", name, n, percent(many_paired(a, b) < 0.05), 4.5, 5.5, repetitions)
            yield Cell("A/A by Welch", name, n, percent(many_welch(a, b)[3] < 0.05), repetitions=repetitions)
    n = 5
    p = many_permutation(*normal(rng, (2, repetitions, n)))
    yield Cell("A/A by exact permutation", "normal", n, percent(p < 0.05), repetitions=repetitions)
    arms = normal(rng, (3, repetitions, n))
    raw = np.stack([many_welch(arms[i], arms[j])[3] for i, j in combinations(range(3), 2)], axis=1)
    # Holm finds anything at all exactly where the smallest p is below 5 % over the number of questions.
    agree([min(holm(list(row))) < 0.05 for row in raw[:CHECKED]], list(raw[:CHECKED].min(axis=1) < 0.05 / 3))
    name = "normal, three equal arms"
    yield Cell("any false claim after Holm", name, n, percent(raw.min(axis=1) < 0.05 / 3), 2, 5.5, repetitions)


def power(rng: np.random.Generator, repetitions: int) -> Iterator[Cell]:
    """How often a planted effect is found, of the size that is called detectable with 80 %."""
    for n in (5, 10):
        ideal = ideal_scores(n)
        effect = smallest_detectable_difference(ideal, ideal)
        a, b = normal(rng, (2, repetitions, n))
        found = percent(many_welch(a + (effect or 0.0), b)[3] < 0.05)
        yield Cell("power at the smallest detectable effect", "normal", n, found, 78, 82, repetitions)
    for wanted in (0.02, 0.01):
        n = seeds_needed(ideal_scores(5), ideal_scores(5), wanted) or 0
        a, b = normal(rng, (2, repetitions, n))
        found = percent(many_welch(a + wanted, b)[3] < 0.05)
        yield Cell(f"power for {wanted} with the seeds said to be needed", "normal", n, found, 79, 90, repetitions)


def equivalence(rng: np.random.Generator, repetitions: int) -> Iterator[Cell]:
    """How often two arms are called the same within a margin: when they are, and when they differ by just that."""
    for n in (5, 10):
        ideal = ideal_scores(n)
        margin = smallest_detectable_difference(ideal, ideal, alpha=0.10, power=0.9) or 0.0
        a, b = normal(rng, (2, repetitions, n))
        for shift, what, range_ in ((margin, "at the margin", (0.0, 5.5)), (0.0, "at no difference", (78.0, 84.0))):
            _, low, high, _ = many_welch(a + shift, b, 0.90)
            same = percent((low > -margin) & (high < margin))
            yield Cell(f"equivalence declared {what}", "normal", n, same, *range_, repetitions)


def divergence(rng: np.random.Generator, repetitions: int) -> Iterator[Cell]:
    """What is left where one seed in ten diverges: shown as the limit that it is."""
    name, mean = "one seed in ten diverges", 0.9 * TRUTH + 0.1 * DIVERGED
    for n in SEEDS:
        low, high = many_t(diverging(rng, (repetitions, n)))
        yield Cell("coverage of the t interval of a mean", name, n, inside(low, high, mean), repetitions=repetitions)
        held, what = inside(low, high, TRUTH), "the same, of the mean of those that do not diverge"
        yield Cell(what, name, n, held, repetitions=repetitions)
    for n in (5, 10):
        a, b = diverging(rng, (2, repetitions, n))
        low, high = many_shifts(a, b)
        value = inside(low, high, 0.0)
        yield Cell("coverage of the median shift's interval, equal arms", name, n, value, 94.5, 97.5, repetitions)
        effect = 0.04
        low, high = many_shifts(a + effect, b)
        found = percent(low > 0)
        yield Cell(f"a shift of {effect} found by it", name, n, found, repetitions=repetitions)
        p = many_welch(a + effect, b)[3]
        yield Cell(f"a shift of {effect} found by Welch", name, n, percent(p < 0.05), repetitions=repetitions)


def many_t(scores: Array, confidence: float = 0.95) -> tuple[Array, Array]:
    """The ends of t_interval over many repetitions. scores: [repetition, seed]."""
    n = scores.shape[1]
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * scores.std(axis=1, ddof=1) / np.sqrt(n)
    low, high = scores.mean(axis=1) - half, scores.mean(axis=1) + half
    for row, ends in zip(scores[:CHECKED], zip(low, high, strict=True), strict=False):
        agree(ends, (t_interval(row, confidence).low, t_interval(row, confidence).high))
    return low, high


def many_welch(a: Array, b: Array, confidence: float = 0.95) -> tuple[Array, Array, Array, Array]:
    """Difference, ends and p of `welch` over many repetitions."""
    var_a, var_b = a.var(axis=1, ddof=1) / a.shape[1], b.var(axis=1, ddof=1) / b.shape[1]
    both = np.maximum(var_a + var_b, 1e-300)
    df = both**2 / np.maximum(var_a**2 / (a.shape[1] - 1) + var_b**2 / (b.shape[1] - 1), 1e-300)
    df = np.where(var_a + var_b > 0, df, a.shape[1] - 1)
    difference, error = a.mean(axis=1) - b.mean(axis=1), np.sqrt(var_a + var_b)
    half = stats.t.ppf((1 + confidence) / 2, df) * error
    p = np.where(error > 0, 2 * stats.t.sf(np.abs(difference) / np.maximum(error, 1e-300), df), difference == 0)
    for i in range(min(CHECKED, len(a))):
        ours = welch(a[i], b[i], confidence)
        agree((difference[i], difference[i] - half[i], p[i]), (ours.difference, ours.low, ours.p))
    return difference, difference - half, difference + half, p


def many_paired(a: Array, b: Array) -> Array:
    """p of `paired_t` over many repetitions."""
    d, n = a - b, a.shape[1]
    p = 2 * stats.t.sf(np.abs(d.mean(axis=1)) / (d.std(axis=1, ddof=1) / np.sqrt(n)), n - 1)
    agree(p[:CHECKED], [paired_t(x, y).p for x, y in zip(a[:CHECKED], b[:CHECKED], strict=True)])
    return np.asarray(p)


def many_permutation(a: Array, b: Array) -> Array:
    """`exact_permutation_p` over many repetitions."""
    pool, n = np.concatenate([a, b], axis=1), a.shape[1]
    chosen = np.array(list(combinations(range(2 * n), n)))
    sums = np.stack([pool[:, row].sum(axis=1) for row in chosen], axis=1)
    differences = np.abs(2 * sums - pool.sum(axis=1, keepdims=True)) / n
    p = (differences >= differences[:, :1] - 1e-12).mean(axis=1)
    agree(p[:CHECKED], [exact_permutation_p(x, y) for x, y in zip(a[:CHECKED], b[:CHECKED], strict=True)])
    return np.asarray(p)


def many_shifts(a: Array, b: Array, confidence: float = 0.95) -> tuple[Array, Array]:
    """The ends of `shift_interval` over many repetitions."""
    differences = np.sort((a[:, :, None] - b[:, None, :]).reshape(len(a), -1), axis=1)
    tail = rank_sum_distribution(a.shape[1], b.shape[1]).cumsum()
    rejected = int(np.searchsorted(tail, (1 - confidence) / 2 + 1e-12, side="right"))
    low, high = differences[:, rejected - 1], differences[:, -rejected]
    for i in range(min(CHECKED, len(a))):
        ours = shift_interval(a[i], b[i], confidence)
        agree((low[i], high[i]), (ours.low, ours.high))
    return low, high


def ideal_scores(n: int) -> Array:
    """Scores whose sample sd is exactly that of the simulation."""
    scores = stats.norm.ppf((np.arange(n) + 0.5) / n)
    return np.asarray(SD * (scores - scores.mean()) / scores.std(ddof=1))


def inside(low: Array, high: Array, truth: float) -> float:
    """Percent of the intervals that hold the truth."""
    return percent((low <= truth) & (truth <= high))


def percent(hits: NDArray[np.bool_]) -> float:
    """Of all repetitions."""
    return 100 * float(hits.mean())


def agree(ours: object, theirs: object) -> None:
    """Stop where the formula over many repetitions is not the project's own function."""
    np.testing.assert_allclose(np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float), rtol=1e-9, atol=1e-9)


def page(found: list[Cell]) -> str:
    """The table as markdown."""
    sign = "\N{PLUS-MINUS SIGN}"
    lines = [f"| what | scores | seeds per arm | measured, % | {sign} | target | |", "|---|---|---|---|---|---|---|"]
    for cell in found:
        numbers = f"{cell.n} | {cell.value:.1f} | {cell.error:.1f} | {cell.target}"
        lines.append(f"| {cell.what} | {cell.scores} | {numbers} | {cell.verdict} |")
    peaks = [f"{t}: {expected_maximum(np.ones(t)):.2f}" for t in (5, 10, 30, 60)]
    head = (
        "Made by `python -m benchmarks.coverage --save`; do not edit. Each share is over "
        f"{found[0].repetitions:,} simulated studies; {sign} is two Monte Carlo standard errors. Scores: mean {TRUTH}, "
        f"sd {SD} between seeds; near the ceiling: shares of {PROMPTS} prompts with a mean of {CEILING}; diverged "
        f"seeds end at {DIVERGED}."
    )
    tail = (
        "A peak over T evaluations of constant skill lies above it by so many standard errors of one evaluation: "
        f"{', '.join(peaks)}."
    )
    return "\n".join([head, "", *lines, "", tail, ""])


def main(arguments: list[str]) -> None:
    """Print the table, and keep it where asked."""
    parser = OneLineParser(
        prog="python -m benchmarks.coverage", allow_abbrev=False, description=__doc__.splitlines()[0]
    )
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help=f"per cell (default: {REPETITIONS:,})")
    parser.add_argument("--save", action="store_true", help="write docs/statistics_table.md and benchmarks/results")
    options = parser.parse_args(arguments)
    found = []
    for cell in cells(options.repetitions):
        found.append(cell)
        print(f"{cell.what}, {cell.scores}, n = {cell.n}: {cell.value:.1f} % {cell.target} {cell.verdict}", flush=True)
    if options.save:
        PAGE.write_text(page(found), encoding="utf-8")
        rows = [Row(f"{one.what}, {one.scores}, n = {one.n}", one.value, "%", one.high, one.low) for one in found]
        print(f"saved: {PAGE}, {saved(rows, 'cpu', 'coverage')}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("analysis", "harness")))
