"""Explains the resolved loss: each step's formula and source, and the flags that set it.

explain.toml has the words; this file chooses among them by the settings and fills in the numbers.
"""

import inspect
import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.config.base import spelled
from harness.config.loss import LossSettings
from harness.config.schema import Config, section_of
from losses import LOSSES
from losses.parts.future_kl import weight_bounds
from losses.parts.precision import exponent_limit

WIDTH = 110
FACTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
FORMULAS = ("grpo", "dapo", "fipo")  # the losses that are explained step by step
OF_FORMULAS = ("clipped surrogate", "sequence filter")  # steps of those
OF_FIPO = ("filter of the Future-KL", "Future-KL", "influence weight", "safety rule")


@dataclass(frozen=True)
class Step:
    """One step of the loss."""

    name: str
    formula: str
    source: str
    flags: tuple[str, ...]
    notes: tuple[str, ...] = ()


def loss_text(config: Config) -> str:
    """The steps of the loss, numbered."""
    head = f"--loss_type {config.loss.loss_type}: the loss of a token, and how tokens become a number"
    steps = [step_text(number, step, config) for number, step in enumerate(loss_steps(config), start=1)]
    return "\n\n".join([head, *steps, "What other implementations do: docs/implementations.md"])


def step_text(number: int, step: Step, config: Config) -> str:
    values = {flag: getattr(getattr(config, section_of()[flag]), flag) for flag in step.flags}
    flags = "  ".join(f"--{flag} {spelled(value)}" for flag, value in values.items())
    labelled = [("", step.formula), ("source: ", step.source), ("set by: ", flags)]
    lines = [f"{number}. {step.name}"]
    for label, text in [*labelled, *(("note:   ", line) for line in step.notes)]:
        first, rest = " " * 3 + label, " " * (3 + len(label))
        lines += textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False)
    return "\n".join(lines)


def loss_steps(config: Config) -> list[Step]:
    """The steps of the resolved loss, in the order in which they are computed."""
    left_out = {*(() if config.loss.loss_type == "fipo" else OF_FIPO)}
    left_out |= {*(() if config.loss.loss_type in FORMULAS else OF_FORMULAS)}
    left_out |= set() if config.loss.has_placebo else {"placebo"}
    steps = [described(name, form, config) for name, form in forms(config).items() if name not in left_out]
    return steps if config.loss.loss_type in FORMULAS else [*steps[:2], own_formula(config.loss), *steps[2:]]


def described(name: str, form: str, config: Config) -> Step:
    """The step as explain.toml has it, in the form that the settings give it."""
    facts = FACTS[name]
    formula = facts["forms"][form]["formula"].format(**quantities(config))
    return Step(name, formula, facts["source"], tuple(facts["flags"]))


def forms(config: Config) -> dict[str, str]:
    """The form of each step in explain.toml, in order."""
    loss = config.loss
    is_free = loss.fipo_weight_bound is None and not loss.fipo_clip_range
    of_filter = "log_ratio" if loss.fipo_filter_in_log_space else "ratio"
    return {
        "advantage": loss.advantage_scale,
        "log-ratio and ratio": "free" if loss.log_ratio_clamp is None else "cut",
        "filter of the Future-KL": "none" if loss.delta is None else of_filter,
        "Future-KL": "any",
        "influence weight": "free" if is_free else "clipped",
        "safety rule": "threshold" if loss.fipo_safety_threshold else "none",
        "clipped surrogate": "dual" if loss.delta else "single",
        "placebo": loss.placebo,
        "KL to the reference": "k3" if loss.beta else "none",
        "sequence filter": "filter" if loss.sequence_filter else "none",
        "averaging": loss.averaging,
        "updates per rollout": "fipo" if loss.loss_type == "fipo" else "other",
    }


def quantities(config: Config) -> dict[str, Any]:
    """What formulas in explain.toml may name: the settings of the loss, and quantities that follow from them."""
    loss, is_fipo = config.loss, config.loss.loss_type == "fipo"
    values = dict(loss) | {"exponent": exponent_limit(torch.float32), "updates": config.updates_per_rollout}
    values |= {"lowest_ratio": 1 - loss.epsilon, "highest_ratio": 1 + loss.epsilon_high, "A": "A f" if is_fipo else "A"}
    values["weight"] = "f" if is_fipo else "w, the factor of A grad log pi,"
    if not is_fipo:
        return values
    low, high = weight_bounds(loss.fipo_clip_range, loss.fipo_clip_high_only, loss.fipo_weight_bound)
    future = "sign(A) F" if loss.fipo_signed else "F"
    gamma = 2 ** (-1 / loss.fipo_decay_rate)
    return values | {"lowest_weight": low, "highest_weight": high, "future": future, "gamma": gamma}


def own_formula(loss: LossSettings) -> Step:
    """The step of a loss that is not in FORMULAS, from its class's docstring: source, formula, notes."""
    kind = LOSSES[loss.loss_type]
    head, formula, *others = [*inspect.cleandoc(kind.__doc__ or "").split("\n\n"), ""]
    flags = tuple(flag for name in loss.loss_fields() if (flag := loss.flag(name)).startswith(f"{loss.loss_type}_"))
    formula = "; ".join(line.strip() for line in formula.splitlines()) or f"{kind.__module__}.{kind.__name__}"
    return Step("loss of a token", formula, head.removesuffix(", per token:"), flags, tuple(filter(None, others)))
