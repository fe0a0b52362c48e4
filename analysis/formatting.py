"""Numbers as words: the same digits in the tables, the captions and the verdict."""

from math import isnan

from analysis.statistics.intervals import Interval


def plain(value: float | None, digits: int = 3) -> str:
    """The number with so many digits, thousands apart, or `n/a` where there is none."""
    return "n/a" if value is None or isnan(value) else f"{value:,.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """The number with its sign, for differences."""
    return "n/a" if value is None or isnan(value) else f"{value:+,.{digits}f}"


def p_value(value: float | None) -> str:
    """A p value in two significant digits, or `n/a`."""
    if value is None or isnan(value):
        return "n/a"
    if value < 1e-6:
        return "< 1e-6"
    return f"{value:.1e}" if value < 0.001 else f"{value:.2g}"


def bracket(low: float, high: float, digits: int = 3) -> str:
    """An interval of a difference in brackets, with signs, or why there is none."""
    return "[no interval from one seed]" if isnan(low) else f"[{signed(low, digits)}, {signed(high, digits)}]"


def with_interval(interval: Interval, digits: int = 3) -> str:
    """A mean and its interval: `0.687 [0.672, 0.702]`."""
    if isnan(interval.low):
        return plain(interval.mean, digits)
    return f"{plain(interval.mean, digits)} [{plain(interval.low, digits)}, {plain(interval.high, digits)}]"


def counted(n: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def listed(words: list[str]) -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
