"""What a resolved loss does, step by step: formula, source, the flags that set it, and who does it otherwise.

The facts about other implementations are from their sources: the authors' verl fork (qwenpilot/FIPO, March 2026),
verl's `vanilla` loss in it, ms-swift 4.6.0, TRL 1.16.0, TRL's pull request 5434 and slime's pull request 1801.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from harness.config.schema import Config, LossSettings
from losses import LOSSES
from losses.future_kl import weight_bounds
from losses.precision import exponent_limit

FORMULAS = ("grpo", "dapo", "fipo")  # the losses whose steps are told here
EXPONENT = exponent_limit(torch.float32)
AUTHORS, VERL, SWIFT = "the authors' code", "verl (vanilla)", "ms-swift 4.6.0"
TRL, TRL_PR, SLIME = "TRL 1.16.0", "TRL PR 5434", "slime PR 1801"
# at what the implementations that have no way to switch it off set the bound c of dual clip and filter
BOUND = {
    AUTHORS: "3 by default, 10 in their scripts",
    VERL: "3 by default",
    TRL_PR: "10 by default",
    SLIME: "any above 1",
}
# what becomes of the weights before they are used; all but the first are placebos of this harness
PLACEBOS = {
    "none": "",
    "sign_mean": ", then their mean per sign of A over the optimizer step (a placebo)",
    "shuffle_within": ", then permuted within each response (a placebo)",
    "shuffle_batch": ", then permuted over the optimizer step (a placebo)",
}


@dataclass(frozen=True)
class Step:
    """One step of the loss."""

    name: str
    formula: str
    source: str
    flags: tuple[str, ...]
    elsewhere: tuple[str, ...]  # a line for each way in which others differ from the settings here


def loss_steps(config: Config) -> list[Step]:
    """The steps of the resolved loss, in the order in which they are computed."""
    loss = config.loss
    if loss.loss_type not in FORMULAS:
        own = [own_formula(loss), reference_kl(loss), averaging(loss), updates(config)]
        return [advantage(loss), log_ratio(loss), *own]
    steps = [advantage(loss), log_ratio(loss)]
    if loss.loss_type == "fipo":
        steps += [token_filter(loss), future_kl(loss), influence_weight(loss), safety(loss)]
    return [*steps, surrogate(loss), reference_kl(loss), response_filter(loss), averaging(loss), updates(config)]


def own_formula(loss: LossSettings) -> Step:
    """Of a loss that is not this project's: what its class says of itself."""
    kind = LOSSES[loss.loss_type]
    head, _, rest = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")
    flags = tuple(flag for name in loss.loss_fields() if (flag := loss.flag(name)).startswith(f"{loss.loss_type}_"))
    formula = rest.partition("\n\n")[0].strip() or f"{kind.__module__}.{kind.__name__}"
    return Step("loss of a token", formula, head, flags, ())


def others(loss: LossSettings, ours: str, theirs: Mapping[str, str]) -> tuple[str, ...]:
    """A line for each way of the implementations that have this loss, but those whose way is ours."""
    if loss.loss_type not in FORMULAS:
        return ()
    of_fipo, of_the_rest = {AUTHORS, TRL_PR, SLIME}, {VERL, TRL}
    left_out = of_the_rest if loss.loss_type == "fipo" else of_fipo
    by_value: dict[str, list[str]] = {}
    for name, value in theirs.items():
        if name not in left_out and value != ours:
            by_value.setdefault(value, []).append(name)
    return tuple(f"{', '.join(names)}: {value}" for value, names in by_value.items())


def advantage(loss: LossSettings) -> Step:
    """From rewards to advantages."""
    divisor = {"group": "std of the group", "batch": "std of the batch", "none": None}[loss.advantage_scale]
    scale = f" / ({divisor} + {loss.advantage_std_eps:g}), n - 1 in the std" if divisor else ""
    theirs = dict.fromkeys((AUTHORS, VERL), adds(1e-6)) | dict.fromkeys((SWIFT, TRL, TRL_PR), adds(1e-4))
    ours = adds(loss.advantage_std_eps) if loss.advantage_scale == "group" else loss.advantage_scale
    single = AUTHORS if loss.loss_type == "fipo" else VERL
    return Step(
        "advantage",
        f"A = (R - mean of the group){scale}; 0 for equal rewards and groups of one",
        "DeepSeekMath section 4.1.2, DAPO eq. 9; neither states what is added to the std",
        ("advantage_scale", "advantage_std_eps"),
        (
            *others(loss, ours, theirs),
            f"{single}: R / (1 + 1e-6) for a group of one",
        ),
    )


def adds(epsilon: float) -> str:
    """What is added to the standard deviation, in words."""
    return f"over the group's std, {epsilon:g} added"


def log_ratio(loss: LossSettings) -> Step:
    """From log-probabilities to ratios."""
    clamp = loss.log_ratio_clamp
    cut = "no cut" if clamp is None else f"cut at +-{clamp:g}, without gradient beyond"
    verls = "cut at +-20, without gradient beyond"
    theirs = dict.fromkeys((AUTHORS, VERL, TRL_PR, SLIME), verls) | dict.fromkeys((SWIFT, TRL), "no cut")
    own = f"{SLIME}: log pi_old is the rollout engine's, not recomputed, so noise enters at the first update"
    return Step(
        "log-ratio and ratio",
        f"l = log pi_theta - log pi_old, {cut}; r = exp(l), l cut at {EXPONENT:.1f} there, in float32 at least",
        "all three papers, without a cut; the cut is verl's",
        ("log_ratio_clamp",),
        (*others(loss, cut, theirs), *([own] if loss.loss_type == "fipo" else [])),
    )


def token_filter(loss: LossSettings) -> Step:
    """Which tokens take part in the Future-KL."""
    log_space = f"tokens with l > log({loss.delta}) are left out, whatever the sign of A"
    ratio_space = f"tokens with r > {loss.delta} are left out, whatever the sign of A"
    ours = "every response token" if loss.delta is None else log_space if loss.fipo_filter_in_log_space else ratio_space
    in_their_way = loss.delta is not None and loss.fipo_filter_in_log_space
    always = {name: f"l > log(c), always on, c {BOUND[name]}" for name in (AUTHORS, TRL_PR, SLIME)}
    theirs = dict.fromkeys(always, ours) if in_their_way else always
    page = loss.delta is None or not loss.fipo_filter_in_log_space
    paper = "the paper's first version (20 March 2026): only tokens with A < 0"
    return Step(
        "filter of the Future-KL",
        f"M: {ours}",
        'FIPO, "Future-KL"; the published page has it only with delta',
        ("delta", "fipo_filter_in_log_space"),
        (*others(loss, ours, theirs | {SWIFT: ours if page else "r > delta, only where delta is set"}), paper),
    )


def future_kl(loss: LossSettings) -> Step:
    """The discounted sum."""
    tau = loss.fipo_decay_rate
    gamma = 2 ** (-1 / tau)
    theirs = dict.fromkeys((AUTHORS, SWIFT, TRL_PR), "decay rate 32")
    return Step(
        "Future-KL",
        f"F_t = sum over k >= t of gamma^(k - t) M_k l_k, gamma = 2^(-1 / {tau:g}) = {gamma:.6f}; no gradient",
        'FIPO, "Future-KL"; distances are positions, the current token is included',
        ("fipo_decay_rate",),
        (
            *others(loss, f"decay rate {tau:g}", theirs),
            f"{AUTHORS}: 128 without their script; its future_kl_start, _window and _average are read by nothing",
        ),
    )


def influence_weight(loss: LossSettings) -> Step:
    """From the Future-KL to a weight."""
    low, high = weight_bounds(loss.fipo_clip_range, loss.fipo_clip_high_only, loss.fipo_weight_bound)
    unclipped: tuple[str, ...] = ()
    if not loss.fipo_clip_range:
        ours = "no bound" if loss.fipo_weight_bound is None else f"at most {loss.fipo_weight_bound:g}"
        theirs = dict.fromkeys((AUTHORS, TRL_PR), "at most 10") | {SWIFT: "no bound", SLIME: "always a clip range"}
        unclipped = others(loss, ours, theirs)
    bounds = f"clip(exp(F), {low:g}, {high:g})" if high < float("inf") else f"exp(F), F cut at {EXPONENT:.1f}"
    words = "the page's text: [0.8, 1.2] for a range of 0.2, against its own default, [1, 1.2]"
    placebo = PLACEBOS[loss.fipo_placebo]
    return Step(
        "influence weight",
        f"f = {bounds}{placebo}; no gradient",
        'FIPO, "influence weight": [1, 1.2] in the 32B recipe, [0.8, 1.2] in the 7B one',
        ("fipo_clip_range", "fipo_clip_high_only", "fipo_weight_bound", "fipo_placebo"),
        (*unclipped, f"{SLIME}: the two bounds are set apart, 0.2 each by default", words),
    )


def safety(loss: LossSettings) -> Step:
    """The rule for negative tokens that became more likely."""
    threshold = loss.fipo_safety_threshold
    rule = f"where A < 0 and r > {threshold:g}: f = clip(f, 0.8, 1)" if threshold else "none"
    theirs = dict.fromkeys((TRL_PR, SLIME), "threshold 10") | {SWIFT: "threshold 4"}
    theirs[AUTHORS] = "threshold 10 in the 32B script, 4 or 3 where nothing is set"
    return Step(
        "safety rule",
        rule,
        "FIPO; the threshold is 10 in the 32B recipe, 3 in the 7B one",
        ("fipo_safety_threshold",),
        (
            *others(loss, f"threshold {threshold:g}" if threshold else "no rule", theirs),
            'the paper\'s text: "reset f_t = 1"; every code clips, which raises a small f to 0.8',
        ),
    )


def surrogate(loss: LossSettings) -> Step:
    """The clipped loss of a token."""
    weighted = "A f" if loss.loss_type == "fipo" else "A"
    clipped = f"max(-{weighted} r, -{weighted} clip(r, {1 - loss.epsilon:g}, {1 + loss.epsilon_high:g}))"
    dual = f"; where A < 0 at most -{weighted} {loss.delta:g}" if loss.delta else "; no dual clip"
    theirs = {} if loss.delta else {name: f"a dual clip always, at {bound}" for name, bound in BOUND.items()}
    return Step(
        "clipped surrogate",
        f"L = {clipped}{dual}",
        "DeepSeekMath eq. 3, DAPO eq. 8; the dual clip is in no paper's formula",
        ("epsilon", "epsilon_high", "delta"),
        others(loss, "", theirs),
    )


def reference_kl(loss: LossSettings) -> Step:
    """The KL to the initial policy."""
    term = f"+ {loss.beta:g} (exp(d) - d - 1), d = log pi_ref - log pi_theta" if loss.beta else "none"
    clamped = f"{SWIFT}: d cut at +-20, the estimate at +-10"
    kept = f"{AUTHORS}: the KL of a response that their sequence filter drops still counts"
    lines = (clamped, kept) if loss.loss_type == "fipo" and loss.sequence_filter else (clamped,)
    return Step(
        "KL to the reference",
        term,
        "DeepSeekMath eq. 4, beta 0.04; DAPO and FIPO have none",
        ("beta",),
        lines if loss.beta else (),
    )


def response_filter(loss: LossSettings) -> Step:
    """The authors' filter of whole responses."""
    on, off = f"responses with two or more tokens of A < 0 and r > {loss.delta} are dropped", "none"
    ours = on if loss.sequence_filter else off
    never = "written, but its counter is a bool and it never fires"
    theirs = {AUTHORS: "two or more dual-clipped tokens drop the response", SWIFT: off, VERL: off, TRL: off}
    if loss.sequence_filter:
        theirs[AUTHORS] = on
    return Step(
        "sequence filter",
        f"{ours}{', from the sum and from its divisor' if loss.sequence_filter else ''}",
        "the authors' code; in no paper",
        ("sequence_filter", "delta"),
        others(loss, ours, theirs | {TRL_PR: theirs[AUTHORS], SLIME: never}),
    )


def averaging(loss: LossSettings) -> Step:
    """From token losses to a number."""
    formula = {
        "token_mean": "sum of L over the optimizer step / its response tokens",
        "sequence_mean": "mean over the optimizer step's responses of each one's mean L",
        "constant": "sum of L over the optimizer step / (its responses x the response limit)",
    }[loss.averaging]
    means = "mean of the responses' means" if loss.averaging == "sequence_mean" else "token mean"
    rows = f"{means} of each micro-batch, weighted by its rows: not reproduced, the batch split would change the loss"
    rollout = "dapo and fipo divide by the tokens of the whole rollout, grpo averages responses"
    window = "dapo divides by the expected tokens of the accumulation window, grpo averages responses"
    theirs = {AUTHORS: rows, VERL: rows, SWIFT: rollout, TRL: window}
    theirs |= {TRL_PR: "token mean of each micro-batch", SLIME: "mean of each response, then over responses"}
    return Step(
        "averaging",
        f"{formula}; all micro-batches and ranks together",
        "GRPO: DeepSeekMath eq. 3 (sequence_mean); DAPO eq. 12 (token_mean); Dr. GRPO (constant)",
        ("averaging",),
        others(loss, "", theirs),
    )


def updates(config: Config) -> Step:
    """How often the same rollouts are used."""
    count = config.updates_per_rollout
    inert = "; at the first of them every ratio is 1"
    theirs = {AUTHORS: "8 in FIPO's scripts, 16 in DAPO's", SWIFT: "1 by default, where fipo changes nothing"}
    return Step(
        "updates per rollout",
        f"{count}{inert}{', so FIPO is DAPO there' if config.loss.loss_type == 'fipo' else ''}",
        "minibatches x epochs",
        ("minibatches", "epochs"),
        others(config.loss, "", theirs) if config.loss.loss_type == "fipo" else (),
    )
