"""Which comparison of two losses finds a given effect most cheaply, from measured parts of the variance.

A study's report leaves them in variance.json. Standard error of a paired difference over S seeds, P prompts, K answers:

    Var = seed/S + prompt/P + seed_prompt/(S P) + sample/(S P K)        (warm start/W beside it, where W are a sample)
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import Config, UsageError
from sweeps.plan import minutes
from sweeps.search.plan import quantiles
from sweeps.study.folder import read_json
from sweeps.workers.estimate import Speed

SHIPPED = Path(__file__).resolve().parents[1] / "docs" / "study" / "variance.json"
PARTS = ("warm_start", "seed", "prompt", "seed_prompt", "sample")
MOST_SEEDS = 200
PROMPTS, ANSWERS = (64, 128, 256, 512, 1024, 2048), (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Design:
    """Seeds per loss, held-out prompts, answers to each in the last evaluation; what a comparison of two takes."""

    seeds: int
    prompts: int
    answers: int
    seconds: float
    detects: float


def read_parts(path: Path) -> Mapping[str, Mapping[str, float]]:
    """`difference` (accuracy at the last evaluation) and `auc` of a variance.json. Raises UsageError where they are "
    "not there."""
    content: Any = read_json(path)
    if content is None:
        raise UsageError(f"--variance: expected the variance.json of a study's report, got no file {str(path)!r}")
    for name in ("difference", "auc"):
        values = content.get(name) if isinstance(content, dict) else None
        if not isinstance(values, dict) or not all(isinstance(values.get(part), int | float) for part in PARTS):
            raise UsageError(f"--variance {path}: expected {name} with {', '.join(PARTS)}, got {values!r}")
    return dict(content)


def effect_lines(effect: float, parts: Mapping[str, Mapping[str, float]], config: Config, speed: Speed) -> list[str]:
    """For each metric the cheapest design that finds the effect in 80 % of the comparisons, at 5 %."""
    lines = []
    for name, metric in (("auc", "AUC"), ("difference", "accuracy at the last evaluation")):
        best = cheapest(effect, parts[name], config, speed)
        if best is None:
            lines.append(f"effect: {effect:g} in {metric} is found by no design of up to {MOST_SEEDS} seeds")
            continue
        asked = "" if name == "auc" else f", {best.prompts} prompts x {best.answers} answers there"
        lines.append(
            f"effect: {effect:g} in {metric} of two losses is found most cheaply by {best.seeds} seeds each{asked}: "
            f"about {minutes(best.seconds)} on one core (it detects {best.detects:.3f}; paired seeds, 80 % power at "
            "5 %)"
        )
    spread = math.sqrt(parts["difference"]["warm_start"])
    lines.append(
        "effect: given the warm starts used; that of two losses varies between warm starts by "
        f"{spread:.3f} (sd) in accuracy, and to speak of others takes several of them"
    )
    return lines


def cheapest(effect: float, parts: Mapping[str, float], config: Config, speed: Speed) -> Design | None:
    """The design of least time whose smallest detectable effect is the one asked for or smaller; None without one."""
    fit = (design for design in designs(parts, config, speed) if design.detects <= effect)
    return min(fit, key=lambda design: (design.seconds, design.seeds), default=None)


def designs(parts: Mapping[str, float], config: Config, speed: Speed) -> Iterator[Design]:
    """All designs, each with what it takes and detects; where answers have no part only the config's are looked at."""
    settings = config.evaluation
    fixed = parts["prompt"] == parts["seed_prompt"] == parts["sample"] == 0
    asked = (
        [(settings.eval_prompts, settings.final_eval_samples)] if fixed else [(p, k) for p in PROMPTS for k in ANSWERS]
    )
    training = speed.start_s + speed.step_s * speed.steps(config)
    for prompts, answers in asked:
        evaluation = speed.answer_s * prompts * answers
        for seeds in range(2, MOST_SEEDS + 1):
            seconds = 2 * seeds * (training + evaluation)
            yield Design(seeds, prompts, answers, seconds, detects(parts, seeds, prompts, answers))


def detects(parts: Mapping[str, float], seeds: int, prompts: int, answers: int) -> float:
    """(t_{.975, S-1} + t_{.8, S-1}) sqrt(Var): the smallest effect found in 80 % of the comparisons."""
    variance = parts["seed"] / seeds + parts["prompt"] / prompts
    variance += (parts["seed_prompt"] + parts["sample"] / answers) / (seeds * prompts)
    return quantiles(seeds - 1) * math.sqrt(variance)
