"""What a search will take, said before anything runs, and what it could tell apart."""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from scipy import stats

from harness import Config
from sweeps.search.controller import Caps
from sweeps.search.spec import Search
from sweeps.workers.estimate import Speed
from sweeps.workers.progress import minutes

GIGABYTE = 1e9
ALPHA, POWER = 0.05, 0.8


def plan_lines(search: Search, runs_left: int, slots: int, speed: Speed, caps: Caps) -> list[str]:
    """The plan: trials, runs, tokens, time, disk, and the smallest effect that it can detect."""
    config = search.typical_config()
    losses, all_runs = len(search.losses), len(search.losses) * search.trials * len(search.seeds)
    winners = losses * len(search.report_seeds)
    runs = runs_left + winners
    hours = runs * speed.seconds(config) / max(1, slots) / 3600
    tokens, size = runs * speed.tokens(config), runs * speed.bytes(config)
    before = f", {all_runs - runs_left} of them finished before" if runs_left < all_runs else ""
    again = f"run again on {len(search.report_seeds)} fresh seeds each, on the reporting prompts: {winners} runs"
    return [
        f"search: {', '.join(search.losses)}: {search.trials} trials each by {search.sampler.name} x "
        f"{len(search.seeds)} seeds = {all_runs} runs of at most {config.run.steps} steps{before}",
        f"sampler: {search.sampler.name} {arguments(search.sampler.arguments)}",
        f"winners: {again if winners else 'not run again: the best of a search is biased upwards, so quote no value'}",
        f"tokens: about {in_millions(tokens)} million generated; at most {in_millions(runs * most_tokens(config))}",
        f"time: about {minutes(3600 * hours)} with {slots} at a time ({speed.seconds(config):.0f} s a run; from "
        f"{speed.source}), and the warm start where it is not cached",
        f"disk: about {size / GIGABYTE:.2f} GB of {free_bytes(search.study) / GIGABYTE:.0f} GB free",
        *cap_lines(caps, hours, tokens),
        f"detects: {detectable(search)}",
    ]


def most_tokens(config: Config) -> float:
    """Tokens that a run can generate at the most: every response at its limit, every sampling round used."""
    rounds = config.rollout.max_sampling_rounds if config.rollout.dynamic_sampling else 1
    step = config.responses_per_step * rounds * config.rollout.max_response_tokens
    total = step * config.run.steps
    return total if config.run.token_budget is None else min(total, config.run.token_budget + step)


def cap_lines(caps: Caps, hours: float, tokens: float) -> list[str]:
    """What a cap will cut off, as far as can be seen now."""
    lines = []
    for flag, cap, estimate in (("--max_hours", caps.hours, hours), ("--max_tokens", caps.tokens, tokens)):
        if cap is not None:
            share = (
                f": expected to end it at about {cap / estimate:.0%}" if estimate > cap else ": not expected to matter"
            )
            lines.append(f"cap: {flag} {cap:g}{share}")
    return lines


def detectable(search: Search) -> str:
    """The smallest effect that the design finds four times in five, in standard deviations between seeds."""
    levels = designed_levels(search)
    if levels is not None:
        seeds = len(search.seeds)
        if seeds < 2:
            return "no trend: one seed per value has no spread"
        spread = math.sqrt(seeds * sum((x - sum(levels) / len(levels)) ** 2 for x in levels))
        slope = quantiles(seeds - 1) / spread
        ends = slope * (max(levels) - min(levels))
        return (
            f"a trend of {slope:.2f} seed sd per doubling, {ends:.2f} from one end to the other "
            f"({seeds} seeds; 80 % power at 5 %)"
        )
    seeds = len(search.report_seeds)
    if len(search.losses) < 2 or seeds < 2:
        return "nothing is compared here: a search finds settings; their differences are for `sweeps compare`"
    pairs = len(search.losses) * (len(search.losses) - 1) // 2
    found = quantiles(2 * seeds - 2, ALPHA / pairs) * math.sqrt(2 / seeds)
    return f"differences between winners of {found:.2f} seed sd ({seeds} seeds; 80 % power at 5 % over {pairs} pairs)"


def designed_levels(search: Search) -> Sequence[float] | None:
    """The values of the one number that a grid varies, in doublings; None for any other search."""
    searched = [one for space in search.spaces.values() for one in space.searched.values()]
    if search.sampler.name != "grid" or len(searched) != 1 or searched[0].listed is None:
        return None
    values = [float(value) for value in searched[0].listed if type(value) in (int, float)]
    if len(values) < len(searched[0].listed) or min(values) <= 0:
        return None
    return [math.log2(value) for value in values]


def quantiles(df: float, alpha: float = ALPHA) -> float:
    """t_{1 - alpha/2, df} + t_{power, df} (STATISTICS of the smallest detectable difference)."""
    return float(stats.t.ppf(1 - alpha / 2, df) + stats.t.ppf(POWER, df))


def free_bytes(path: Path) -> int:
    """Room on the disk where the study will be."""
    nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(nearest).free


def arguments(given: Mapping[str, object]) -> str:
    """Arguments as a line."""
    return ", ".join(f"{name} {value}" for name, value in given.items()) or "without arguments"


def in_millions(number: float) -> str:
    """A count in millions with three figures."""
    return f"{number / 1e6:.3g}"
