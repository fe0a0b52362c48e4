"""Explains the resolved loss: each step's formula and source, the flags that set it, and what other implementations do.

This file has the parts that depend on the settings; explain.toml has the fixed parts.
"""

import inspect
import textwrap
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from harness.config.base import spelled
from harness.config.schema import Config, LossSettings, section_of
from losses import LOSSES
from losses.future_kl import weight_bounds
from losses.precision import exponent_limit

WIDTH = 110
FACTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
FORMULAS = ("grpo", "dapo", "fipo")  # the losses that are explained step by step
EXPONENT = exponent_limit(torch.float32)
AUTHORS, VERL, SWIFT = "the authors' code", "verl (vanilla)", "ms-swift 4.6.0"
TRL, TRL_PR, SLIME = "TRL 1.16.0", "TRL PR 5434", "slime PR 1801"
WITHOUT_FIPO, FIPO_ALONE = {VERL, TRL}, {AUTHORS, TRL_PR, SLIME}
EVERYONE = WITHOUT_FIPO | FIPO_ALONE | {SWIFT}


@dataclass(frozen=True)
class Step:
    """One step of the loss; `elsewhere` has a line for each way in which other implementations differ."""

    name: str
    formula: str
    source: str
    flags: tuple[str, ...]
    elsewhere: tuple[str, ...]


def loss_text(config: Config) -> str:
    """The steps of the loss, numbered."""
    head = f"--loss_type {config.loss.loss_type}: the loss of a token, and how tokens become a number"
    steps = [step_text(number, step, config) for number, step in enumerate(loss_steps(config), start=1)]
    return "\n\n".join([head, *steps, "Measured on the reference vectors: docs/implementations.md"])


def step_text(number: int, step: Step, config: Config) -> str:
    values = {flag: getattr(getattr(config, section_of()[flag]), flag) for flag in step.flags}
    flags = "  ".join(f"--{flag} {spelled(value)}" for flag, value in values.items())
    labelled = [("", step.formula), ("source: ", step.source), ("set by: ", flags)]
    lines = [f"{number}. {step.name}"]
    for label, text in [*labelled, *(("other:  ", line) for line in step.elsewhere)]:
        first, rest = " " * 3 + label, " " * (3 + len(label))
        lines += textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False)
    return "\n".join(lines)


def loss_steps(config: Config) -> list[Step]:
    """The steps of the resolved loss, in the order in which they are computed."""
    loss = config.loss
    steps = [advantage(loss), log_ratio(loss)]
    if loss.loss_type not in FORMULAS:
        return [*steps, own_formula(loss), reference_kl(loss), averaging(loss), updates(config)]
    if loss.loss_type == "fipo":
        steps += [token_filter(loss), future_kl(loss), influence_weight(loss), safety(loss)]
    return [*steps, surrogate(loss), reference_kl(loss), response_filter(loss), averaging(loss), updates(config)]


def described(name: str, loss: LossSettings, formula: str, ours: str = "", alike: Collection[str] = ()) -> Step:
    """The step with its source, flags and other implementations from explain.toml.

    Implementations of this loss are listed unless they are in `alike` or their description equals `ours`.
    """
    facts, irrelevant = FACTS[name], WITHOUT_FIPO if loss.loss_type == "fipo" else FIPO_ALONE
    by_words: dict[str, list[str]] = {}
    for who, words in facts.get("others", {}).items() if loss.loss_type in FORMULAS else ():
        if who not in irrelevant and who not in alike and words != ours:
            by_words.setdefault(words, []).append(who)
    lines = [f"{', '.join(names)}: {words}" for words, names in by_words.items()]
    lines += [f"{who}: {words}" for who, words in facts.get("notes", {}).items() if who not in irrelevant]
    return Step(name, formula, facts["source"], tuple(facts["flags"]), tuple(lines))


def own_formula(loss: LossSettings) -> Step:
    """The step of a loss that is not in FORMULAS, from its class's docstring."""
    kind = LOSSES[loss.loss_type]
    head, _, rest = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")
    flags = tuple(flag for name in loss.loss_fields() if (flag := loss.flag(name)).startswith(f"{loss.loss_type}_"))
    formula = rest.partition("\n\n")[0].strip() or f"{kind.__module__}.{kind.__name__}"
    return Step("loss of a token", formula, head, flags, ())


def advantage(loss: LossSettings) -> Step:
    scale, added = loss.advantage_scale, f"{loss.advantage_std_eps:g}"
    divisor = "" if scale == "none" else f" / (std of the {scale} + {added}), n - 1 in the std"
    formula = f"A = (R - mean of the group){divisor}; 0 for equal rewards and groups of one"
    return described("advantage", loss, formula, f"over the group's std, {added} added" if scale == "group" else scale)


def log_ratio(loss: LossSettings) -> Step:
    clamp = loss.log_ratio_clamp
    cut = "no cut" if clamp is None else f"cut at +-{clamp:g}, without gradient beyond"
    ratio = f"r = exp(l), l cut at {EXPONENT:.1f} there, in float32 at least"
    return described("log-ratio and ratio", loss, f"l = log pi_theta - log pi_old, {cut}; {ratio}", cut)


def token_filter(loss: LossSettings) -> Step:
    name, delta = "filter of the Future-KL", loss.delta
    if delta is None:
        return described(name, loss, "M: every response token", alike=[SWIFT])
    bound = f"l > log({delta})" if loss.fipo_filter_in_log_space else f"r > {delta}"
    alike = FIPO_ALONE if loss.fipo_filter_in_log_space else [SWIFT]
    return described(name, loss, f"M: tokens with {bound} are left out, whatever the sign of A", alike=alike)


def future_kl(loss: LossSettings) -> Step:
    tau = loss.fipo_decay_rate
    gamma = f"gamma = 2^(-1 / {tau:g}) = {2 ** (-1 / tau):.6f}"
    formula = f"F_t = sum over k >= t of gamma^(k - t) M_k l_k, {gamma}; no gradient"
    return described("Future-KL", loss, formula, f"decay rate {tau:g}")


def influence_weight(loss: LossSettings) -> Step:
    low, high = weight_bounds(loss.fipo_clip_range, loss.fipo_clip_high_only, loss.fipo_weight_bound)
    weight = f"clip(exp(F), {low:g}, {high:g})" if high < float("inf") else f"exp(F), F cut at {EXPONENT:.1f}"
    ours = "no bound" if loss.fipo_weight_bound is None else f"at most {loss.fipo_weight_bound:g}"
    formula = f"f = {weight}{FACTS['influence weight']['placebos'][loss.fipo_placebo]}; no gradient"
    return described("influence weight", loss, formula, ours, EVERYONE if loss.fipo_clip_range else ())


def safety(loss: LossSettings) -> Step:
    threshold = loss.fipo_safety_threshold
    if not threshold:
        return described("safety rule", loss, "none", "no rule")
    formula = f"where A < 0 and r > {threshold:g}: f = clip(f, 0.8, 1)"
    return described("safety rule", loss, formula, f"threshold {threshold:g}")


def surrogate(loss: LossSettings) -> Step:
    weighted = "A f" if loss.loss_type == "fipo" else "A"
    clipped = f"max(-{weighted} r, -{weighted} clip(r, {1 - loss.epsilon:g}, {1 + loss.epsilon_high:g}))"
    dual = f"where A < 0 at most -{weighted} {loss.delta:g}" if loss.delta else "no dual clip"
    return described("clipped surrogate", loss, f"L = {clipped}; {dual}", alike=EVERYONE if loss.delta else ())


def reference_kl(loss: LossSettings) -> Step:
    if not loss.beta:
        return described("KL to the reference", loss, "none", alike=EVERYONE)
    formula = f"+ {loss.beta:g} (exp(d) - d - 1), d = log pi_ref - log pi_theta"
    return described("KL to the reference", loss, formula, alike=() if loss.sequence_filter else [AUTHORS])


def response_filter(loss: LossSettings) -> Step:
    if not loss.sequence_filter:
        return described("sequence filter", loss, "none", "none")
    formula = f"responses with two or more tokens of A < 0 and r > {loss.delta} are dropped"
    return described("sequence filter", loss, f"{formula}, from the sum and from its divisor", alike=[AUTHORS, TRL_PR])


def averaging(loss: LossSettings) -> Step:
    step = described(
        "averaging", loss, f"{FACTS['averaging']['formulas'][loss.averaging]}; all micro-batches and ranks together"
    )
    mean = "mean of the responses' means" if loss.averaging == "sequence_mean" else "token mean"
    return replace(step, elsewhere=tuple(line.format(mean=mean) for line in step.elsewhere))


def updates(config: Config) -> Step:
    is_fipo = config.loss.loss_type == "fipo"
    inert = "; at the first of them every ratio is 1" + (", so FIPO is DAPO there" if is_fipo else "")
    formula = f"{config.updates_per_rollout}{inert}"
    return described("updates per rollout", config.loss, formula, alike=() if is_fipo else EVERYONE)
