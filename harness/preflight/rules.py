"""What is wrong with a launch. Each rule yields the findings of one subject; words.toml has their sentences."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.base import spelled
from harness.preflight.shell import UNKNOWN
from harness.preflight.tables import toml
from harness.preflight.terms import CLIPPED, Terms

SENTENCES = toml("words")
SHORT_TOKENS = 1024  # responses that reason are longer: the DAPO paper's limit is 20,480
SEQUENCE_BOUND, TOKEN_BOUND = 0.005, 0.02  # GSPO's published bounds are 3e-4 and 4e-4, bounds of token ratios 0.2
NEAR = 0.85  # of difflib's ratio: one or two letters in a key of ten


@dataclass(frozen=True)
class Finding:
    severity: str  # error, warning or note
    code: str
    path: Path
    line: int
    what: str
    why: str
    change: str


def finding(terms: Terms, code: str, *keys: str, severity: str | None = None, **values: Any) -> Finding:
    """The finding at the line of the first of the keys that the launch gives, else at the launch."""
    words, launch = SENTENCES["findings"][code], terms.launch
    at = next((given for key in keys if (given := launch.given.get(key))), None)
    line, path = (at.line, at.path) if at else (values.pop("line", launch.line), launch.path)
    names = {"key": terms.spelled(keys[0]) if keys else "", "version": terms.table.version}
    names |= {name: spelled(value) if isinstance(value, bool | float | None) else value for name, value in values.items()}
    said = {}
    for part in ("what", "why", "change"):
        text = words[part]
        said[part] = (text[launch.library] if isinstance(text, dict) else text).format(**names)
    return Finding(severity or words["severity"], code, path, line, **said)


def findings(terms: Terms, accuracy: float | None = None) -> list[Finding]:
    """All findings of one launch, the worst first."""
    found: list[Finding] = []
    for rule in (reading, starting, ratios, fipo, bounds, averaging, divergence, truncation, groups, keys):
        found += rule(terms)
    if accuracy is not None:
        found += forecast(terms, accuracy)
    return by_severity(found)


def by_severity(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda one: ("error", "warning", "note").index(one.severity))


def reading(t: Terms) -> Iterator[Finding]:
    if t.launch.cut_off:
        words = " ".join(word.text for word in t.launch.cut_off[:3])
        yield finding(t, "cut_off", line=t.launch.cut_off[0].line, words=words)
    for line, text in t.launch.gaps:
        yield finding(t, "gap", line=line, text=text)
    if t["loss"] not in (*t.table.losses, UNKNOWN):
        near = difflib.get_close_matches(str(t["loss"]), t.table.losses, n=1)
        hint = f"{near[0]}" if near else f"one of {', '.join(t.table.losses)}"
        yield finding(t, "no_such_loss", t.table.terms["loss"], loss=t["loss"], hint=hint)


def starting(t: Terms) -> Iterator[Finding]:
    """What stops a launch in its first seconds."""
    batch, group, processes = t.value("generation_batch_size"), t["group_size"], t.launch.processes
    if t.launch.library == "verl":
        prompts, mini = t.number("prompts_per_step"), t.value("actor.ppo_mini_batch_size")
        if isinstance(mini, int) and prompts and 0 < prompts < mini and t.value("actor.use_dynamic_bsz") is not True:
            yield finding(t, "mini_above_batch", "actor.ppo_mini_batch_size", mini=mini, prompts=prompts)
        return
    if t.launch.library == "trl" and batch is not None and t.given("steps_per_generation"):
        yield finding(t, "both_given", "steps_per_generation", "generation_batch_size")
    responses = t.number("prompts_per_step")
    if responses and responses % 1:
        total = round(responses * group)
        yield finding(t, "groups_split", t.table.terms["group_size"], total=total, group=group, processes=processes)
    if t["loss"] in ("fipo", "real") and not t.launch.program.startswith("megatron"):
        yield finding(t, "swift_refuses", "loss_type", loss=t["loss"]) if t.launch.library == "ms-swift" else None


def ratios(t: Terms) -> Iterator[Finding]:
    """One update per rollout: every ratio is 1."""
    updates, loss = t.number("updates_per_rollout"), t.loss.get("loss_type")
    if updates != 1 or t.is_stale or loss in (None, "reinforce"):
        return
    row = t.table.losses[t["loss"]]
    chosen = [key for key in row["flags"].values() if t.given(key) and t.value(key) != t.table.defaults.get(key)]
    code = {"fipo": "inert_fipo"}.get(str(loss), "inert_clip" if loss in CLIPPED else "inert_loss")
    severity = "note" if code == "inert_clip" and not chosen else None
    at = chosen if code == "inert_clip" else [t.table.terms["loss"]]
    yield finding(t, code, *at, severity=severity, loss=loss, how=SENTENCES["updates"][t.launch.library])


def fipo(t: Terms) -> Iterator[Finding]:
    if t.loss.get("loss_type") != "fipo":
        return
    own = t.table.losses[t["loss"]]["flags"]
    delta, safety, clip = t.number("delta"), t.number("fipo_safety_threshold"), t.loss["fipo_clip_range"]
    if t.loss["delta"] is None:
        yield finding(t, "no_delta", own["delta"], t.table.terms["loss"])
    if delta and safety and safety >= delta:
        yield finding(t, "safety_idle", own["fipo_safety_threshold"], safety=safety, delta=delta)
    if not clip and clip is not False:
        bound = t.loss.get("fipo_weight_bound", "nothing")
        yield finding(t, "weights_free", own["fipo_clip_range"], t.table.terms["loss"], bound=bound)


def bounds(t: Terms) -> Iterator[Finding]:
    loss, flags = t.loss.get("loss_type"), t.table.losses.get(t["loss"], {}).get("flags", {})
    is_sequence = loss == "gspo"
    low, high = (t.number("gspo_epsilon_low" if is_sequence else "epsilon"), None)
    high = t.number("gspo_epsilon_high" if is_sequence else "epsilon_high")
    low_key, high_key = flags.get("epsilon", "actor.clip_ratio_low"), flags.get("epsilon_high", "actor.clip_ratio_high")
    if low is not None and high is not None:
        if is_sequence and min(low, high) >= TOKEN_BOUND:
            yield finding(t, "token_bounds", low_key, high_key, t.table.terms["loss"], low=low, high=high)
        if loss in CLIPPED and 0 < max(low, high) <= SEQUENCE_BOUND:
            yield finding(t, "sequence_bounds", low_key, high_key, low=low, high=high)
        if high < low:
            yield finding(t, "high_below_low", high_key, low=low, high=high)
        if (delta := t.number("delta")) and delta <= 1 + high:
            yield finding(t, "delta_in_clip", flags["delta"], delta=delta, top=1 + high)
    if loss == "cispo" and (cap := t.number("cispo_ratio_max")) is not None and cap < 1:
        yield finding(t, "cispo_cap", flags["cispo_ratio_max"], "loss_type", cap=cap)
    if t["loss"] == "luspo" and not is_sequence and t["level"] != UNKNOWN:
        yield finding(t, "luspo_level", "importance_sampling_level", "loss_type")


def averaging(t: Terms) -> Iterator[Finding]:
    """Averages that depend on micro-batches or ranks, or are another loss's."""
    key, average, library = t.table.terms.get("averaging", "loss_type"), t["averaging"], t.launch.library
    steps, accumulation = t.number("steps_per_generation"), t.number("accumulation")
    if t.is_fork and average == "token_mean":
        yield finding(t, "micro_means", key)
    if library == "verl" and average == "constant" and t.value("actor.loss_scale_factor") is None and t.loss:
        yield finding(t, "padded_width", key)
    if t["loss"] == "geo_mean":
        yield finding(t, "geo_mean_sum", t.table.terms["loss"])
    if t["loss"] == "bnpo":
        yield finding(t, "local_mean", key)
    if t.loss.get("loss_type") == "gspo" and average == "token_mean":
        yield finding(t, "gspo_average", key, t.table.terms["loss"])
    is_window = average == "token_mean" and library != "verl" and t["loss"] != "bnpo"
    if is_window and steps and accumulation and steps != accumulation and not t.launch.program.startswith("megatron"):
        code = "window_scale" if library == "ms-swift" else "window_guess"
        at = ("steps_per_generation", "generation_batch_size", "gradient_accumulation_steps")
        yield finding(t, code, *at, steps=steps, accumulation=accumulation, factor=f"{accumulation / steps:g}")
    if is_window and library == "ms-swift" and t["overlong_filter"] is True:
        yield finding(t, "masked_divisor", "overlong_filter")


def divergence(t: Terms) -> Iterator[Finding]:
    """A KL, or a learning rate, that nobody asked for."""
    if t.launch.library == "ms-swift" and "beta" not in t.launch.given and t["beta"] != UNKNOWN:
        yield finding(t, "kl_default", beta=t["beta"])
    if t.launch.library == "verl" and t.number("beta") and t.number("kl_in_reward"):
        yield finding(t, "two_kl", "algorithm.use_kl_in_reward", beta=t["beta"], other=t["kl_in_reward"])
    rate = "lr" if t.launch.program.startswith("megatron") else t.table.terms["lr"]
    if rate not in t.launch.given and not t.launch.is_open:
        yield finding(t, "rate_default", rate, rate=t["lr"])


def truncation(t: Terms) -> Iterator[Finding]:
    limit = t.number("max_response_tokens")
    if t["overlong_filter"] is True and limit and limit <= SHORT_TOKENS:
        yield finding(t, "masks_most", t.table.terms["overlong_filter"], limit=limit)
    if (buffer := t.number("overlong_penalty_tokens")) and limit and buffer >= limit:
        yield finding(t, "penalises_all", t.table.terms["overlong_penalty_tokens"], buffer=buffer, limit=limit)


def groups(t: Terms) -> Iterator[Finding]:
    is_group = t["advantage_scale"] in ("group", "none", "batch")
    if t.number("group_size") == 1 and is_group:
        yield finding(t, "group_of_one", t.table.terms["group_size"], t.table.terms["advantages"])


def forecast(t: Terms, accuracy: float) -> Iterator[Finding]:
    """The groups with both right and wrong answers, if each answer is right with this probability."""
    size = t.number("group_size")
    if not size:
        return
    kept = 1 - accuracy**size - (1 - accuracy) ** size
    values = {"accuracy": f"{accuracy:g}", "size": size, "kept": f"{kept:.1%}", "dropped": f"{1 - kept:.1%}"}
    if t["dynamic_sampling"] is not True:
        yield finding(t, "dead_groups", t.table.terms["group_size"], **values)
        return
    at = (t.table.terms["dynamic_sampling"], t.table.terms["max_sampling_rounds"])
    per_round = (t.number("prompts_per_round") or t.number("prompts_per_step") or 1) / (t.number("prompts_per_step") or 1)
    rounds, most = 1 / (kept * per_round) if kept else float("inf"), t.number("max_sampling_rounds")
    most = most + 1 if most and t.launch.library == "ms-swift" else most
    code = "too_few_groups" if most and rounds > most else "group_forecast"
    yield finding(t, code, *at, rounds=f"{rounds:.1f}", most=f"{most or 0:g}", **values)


def keys(t: Terms) -> Iterator[Finding]:
    """Keys that nothing reads, and keys that do not exist."""
    row = t.table.losses.get(t["loss"], {})
    read = set(row.get("flags", {}).values())
    read |= {"epsilon"} if t.value("epsilon_high") is None else set()
    own = {key for loss in t.table.losses.values() for key in loss.get("flags", {}).values()}
    for key, given in t.launch.given.items():
        value = t.value(key)
        if key in t.table.dead:
            yield finding(t, "dead", key, reason=t.table.dead[key])
        elif key in own - read and t["loss"] in t.table.losses and t["loss"] != "bypass_mode":
            severity = "note" if value == t.table.defaults.get(key) or not value else None
            yield finding(t, "unread", key, severity=severity, loss=t["loss"])
        elif key not in t.table.known | own and key.split(".")[0] in sections(t):
            near = difflib.get_close_matches(key, t.table.known | own, n=1, cutoff=NEAR)
            if near:
                yield finding(t, "misspelt", key, near=t.spelled(near[0]), given=given.text)
    yield from verl_keys(t)


def sections(t: Terms) -> set[str]:
    """The first words of keys that the table lists in full."""
    return {key.split(".")[0] for key in t.table.known} if t.launch.library == "verl" else {*t.launch.given}


def verl_keys(t: Terms) -> Iterator[Finding]:
    """Keys of verl whose switch is off, or whose value another key overrides."""
    clip = t.given("actor.clip_ratio") and t.value("actor.clip_ratio")
    low, high = t.value("actor.clip_ratio_low"), t.value("actor.clip_ratio_high")
    if clip and low is not None and high is not None and UNKNOWN not in (clip, low, high):
        severity = "note" if clip == low == high else None
        yield finding(t, "clip_ratio", "actor.clip_ratio", severity=severity, low=low, high=high, clip=clip)
    for key, switch in SENTENCES["switches"].items():
        if t.given(key) and t.value(switch) in (False, None) and not t.launch.is_open and t.value(key) not in (0, None):
            yield finding(t, "switched_off", key, switch=t.spelled(switch))
