"""What is wrong with a launch. Each rule yields the findings of one subject; words.toml has their sentences."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from harness.preflight.shell import UNKNOWN
from harness.preflight.tables import toml
from harness.preflight.terms import CLIPPED, Terms

SENTENCES = toml("words")
SEVERITIES = ("error", "warning", "note")
SHORT_TOKENS = 1024  # responses that reason are longer: the DAPO paper's limit is 20,480
SEQUENCE_BOUND, TOKEN_BOUND = 0.005, 0.02  # GSPO's published bounds are 3e-4 and 4e-4, bounds of token ratios 0.2
NEAR = 0.85  # difflib's ratio of two names: one or two letters of ten


@dataclass(frozen=True)
class Finding:
    severity: str
    code: str
    path: Path
    line: int
    what: str
    why: str
    change: str


def finding(terms: Terms, code: str, *keys: str, severity: str | None = None, **values: Any) -> Finding:
    """The finding at the line of the first of the keys that the launch gives, else at the launch."""
    words, launch = SENTENCES["findings"][code], terms.launch
    at = next((given for key in keys if (given := terms.given(key))), None)
    line, path = (at.line, at.path) if at else (values.pop("line", launch.line), launch.path)
    names = {"key": terms.spelled(keys[0]) if keys else "", "version": terms.version}
    names |= {name: f"{value:g}" if type(value) is float else str(value) for name, value in values.items()}
    names = {name: text.replace(UNKNOWN, "...") for name, text in names.items()}
    texts = [words[part] for part in ("severity", "what", "why", "change")]
    usual, *said = [(text[launch.library] if isinstance(text, dict) else text).format(**names) for text in texts]
    return Finding(severity or usual, code, path, line, *said)


def findings(terms: Terms, accuracy: float | None = None) -> list[Finding]:
    """All findings of one launch, the worst first."""
    found: list[Finding] = []
    for rule in (reading, starting, ratios, fipo, bounds, averaging, divergence, lengths, keys, switches):
        found += rule(terms)
    found += [] if accuracy is None else forecast(terms, accuracy)
    return sorted(found, key=lambda one: SEVERITIES.index(one.severity))


def reading(t: Terms) -> Iterator[Finding]:
    """What could not be read, and words that the shell will not read."""
    if lost := t.launch.cut_off:
        yield finding(t, "cut_off", line=lost[0].line, word=lost[0].text, count=len(lost))
    for line, text in t.launch.gaps:
        yield finding(t, "gap", line=line, text=text)


def starting(t: Terms) -> Iterator[Finding]:
    """What stops a launch, at its start or after its first rollout."""
    library, key = t.launch.library, t.table.terms["loss"]
    if t["loss"] not in (*t.table.losses, UNKNOWN):
        near = difflib.get_close_matches(str(t["loss"]), t.table.losses, n=1) or [f"one of {', '.join(t.table.losses)}"]
        yield finding(t, "no_such_loss", key, severity=None if t.is_plain else "note", loss=t["loss"], near=near[0])
    if library == "ms-swift" and t["loss"] in ("fipo", "real") and not t.is_megatron:
        yield finding(t, "swift_refuses", key, loss=t["loss"])
    if library == "trl" and t.given("steps_per_generation") and t.given("generation_batch_size"):
        yield finding(t, "both_given", "steps_per_generation")
    prompts, mini = t.number("prompts_per_step"), t.value("actor.ppo_mini_batch_size")
    is_checked = library == "verl" and t.is_plain and t.value("actor.use_dynamic_bsz") is not True
    if is_checked and not foreign(t) and prompts and isinstance(mini, int) and prompts < mini:
        yield finding(t, "mini_above_batch", "actor.ppo_mini_batch_size", mini=mini, prompts=prompts)
    if library != "verl" and prompts and prompts % 1:
        total, group = round(prompts * t["group_size"]), t["group_size"]
        yield finding(t, "groups_split", t.table.terms["group_size"], total=total, group=group)
    teachers = [key for key in ("teacher_model", "teacher_model_server", "distillation.enabled") if t.is_set(key)]
    size, is_group = t.table.terms["group_size"], t["advantage_scale"] in ("group", "none", "batch")
    if t.number("group_size") == 1 and is_group and not teachers:
        is_sure = t.given(size) or not foreign(t)  # a fork may have another key for it
        yield finding(t, "group_of_one", size, t.table.terms["advantages"], severity=None if is_sure else "note")


def ratios(t: Terms) -> Iterator[Finding]:
    """One update per rollout: every ratio is 1."""
    loss, is_unsure = t.loss.get("loss_type"), t.launch.library == "verl" and t.launch.is_open  # of its old policy
    if t.number("updates_per_rollout") != 1 or t.is_stale or is_unsure or loss in (None, "reinforce"):
        return
    chosen = [key for key in t.flags.values() if t.given(key) and t.value(key) != t.table.defaults.get(key)]
    code = "inert_fipo" if loss == "fipo" else "inert_clip" if loss in CLIPPED else "inert_loss"
    severity = "note" if code == "inert_clip" and not chosen else None
    at = chosen if code == "inert_clip" else [t.table.terms["loss"]]
    yield finding(t, code, *at, severity=severity, loss=loss, how=SENTENCES["updates"][t.launch.library])


def fipo(t: Terms) -> Iterator[Finding]:
    if t.loss.get("loss_type") != "fipo":
        return
    delta, safety, clip = t.number("delta"), t.number("fipo_safety_threshold"), t.loss["fipo_clip_range"]
    if t.loss["delta"] is None:
        yield finding(t, "no_delta", t.flags["delta"], t.table.terms["loss"])
    if delta and safety and safety >= delta:
        yield finding(t, "safety_idle", t.flags["fipo_safety_threshold"], safety=safety, delta=delta)
    if not clip:
        bound = t.loss.get("fipo_weight_bound", "nothing")
        yield finding(t, "weights_free", t.flags["fipo_clip_range"], t.table.terms["loss"], bound=bound)


def bounds(t: Terms) -> Iterator[Finding]:
    """Clip bounds that never act, or act on everything."""
    loss, (low, high) = t.loss.get("loss_type"), t.clip
    is_sequence, delta = loss == "gspo", t.value(t.flags["delta"]) if "delta" in t.flags else None
    at = [key for name, key in t.flags.items() if name.removeprefix("gspo_").startswith("epsilon")]
    values: dict[str, Any] = {"low": low, "high": high}
    if low is not None and high is not None:
        if is_sequence and min(low, high) >= TOKEN_BOUND:
            yield finding(t, "token_bounds", *at, t.table.terms["loss"], **values)
        if not is_sequence and 0 < max(low, high) <= SEQUENCE_BOUND:
            yield finding(t, "sequence_bounds", *at, **values)
        if high < low:
            yield finding(t, "high_below_low", at[-1], at[0], **values)
        if isinstance(delta, int | float) and delta <= 1 + high:
            yield finding(t, "delta_in_clip", t.flags["delta"], delta=delta, top=1 + high)
    cap = t.number("cispo_ratio_max")
    if cap is not None and cap < 1:
        yield finding(t, "cispo_cap", t.flags["cispo_ratio_max"], t.table.terms["loss"], cap=cap)
    if t["loss"] == "luspo" and not is_sequence and t["level"] != UNKNOWN:
        yield finding(t, "luspo_level", "importance_sampling_level", "loss_type")


def averaging(t: Terms) -> Iterator[Finding]:
    """Averages that depend on micro-batches or ranks, or are another loss's."""
    at, is_tokens = [t.table.terms.get("averaging", "loss_type"), t.table.terms["loss"]], t["averaging"] == "token_mean"
    if "recipe." in t.launch.program and is_tokens:
        yield finding(t, "micro_means", *at, severity=None if t.is_fork else "note")
    if t["averaging"] == "constant" and t.launch.library == "verl" and t.value("actor.loss_scale_factor") is None:
        yield finding(t, "padded_width", *at)
    if t["loss"] in ("geo_mean", "bnpo"):
        yield finding(t, f"{t['loss']}_mean", at[1])
    if t.loss.get("loss_type") == "gspo" and is_tokens:
        yield finding(t, "gspo_average", *at)
    if t.launch.library == "verl" or not is_tokens or t["loss"] == "bnpo" or t.is_megatron:
        return
    steps, accumulation = t.number("steps_per_generation"), t.number("accumulation")
    if steps and accumulation and steps != accumulation and t.value("sequence_parallel_size") in (None, 1):
        at = ["steps_per_generation", "generation_batch_size", "gradient_accumulation_steps"]
        yield finding(t, "window", *at, steps=steps, accumulation=accumulation, factor=f"{accumulation / steps:g}")
    if t.launch.library == "ms-swift" and t["overlong_filter"] is True:
        yield finding(t, "masked_divisor", "overlong_filter")


def divergence(t: Terms) -> Iterator[Finding]:
    """A KL or a learning rate that nobody asked for."""
    beta, rate = t.table.terms["beta"], "lr" if t.is_megatron else t.table.terms["lr"]
    if t.launch.library != "trl" and t.number("beta") and not t.given(beta):
        yield finding(t, "kl_default", beta, "actor.use_kl_loss", beta=t["beta"])
    if t.number("beta") and t.number("kl_in_reward"):
        yield finding(t, "two_kl", "algorithm.use_kl_in_reward", beta=t["beta"], other=t["kl_in_reward"])
    if not t.given(rate) and t.number("lr"):
        yield finding(t, "rate_default", rate, rate=t["lr"])


def lengths(t: Terms) -> Iterator[Finding]:
    """Truncation that masks or penalises most responses."""
    limit, buffer = t.number("max_response_tokens"), t.number("overlong_penalty_tokens")
    is_of_turns = t.given("multi_turn_scheduler") or t.given("gym_env")  # the limit is then one turn's
    if t["overlong_filter"] is True and limit and limit <= SHORT_TOKENS and not is_of_turns:
        yield finding(t, "masks_most", t.table.terms["overlong_filter"], limit=limit)
    if buffer and limit and buffer >= limit:
        yield finding(t, "penalises_all", t.table.terms["overlong_penalty_tokens"], buffer=buffer, limit=limit)


def forecast(t: Terms, accuracy: float) -> Iterator[Finding]:
    """The groups with right and wrong answers, if every answer is right with this probability."""
    size, prompts = t.number("group_size"), t.number("prompts_per_step")
    if not size or size < 1:
        return
    kept = 1 - accuracy**size - (1 - accuracy) ** size
    share = (t.number("prompts_per_round") or prompts or 1) / (prompts or 1)
    rounds, most = max(1.0, 1 / kept / share) if kept else inf, t.number("max_sampling_rounds") or inf
    is_sampled = t["dynamic_sampling"] is True
    code = "dead_groups" if not is_sampled else "too_few_groups" if rounds > most else "group_forecast"
    at = [t.table.terms["dynamic_sampling"]] if is_sampled else [t.table.terms["group_size"]]
    shares = {"kept": f"{kept:.1%}", "dropped": f"{1 - kept:.1%}"}
    yield finding(t, code, *at, size=size, accuracy=accuracy, rounds=f"{rounds:.1f}", most=f"{most:g}", **shares)


def keys(t: Terms) -> Iterator[Finding]:
    """Keys that nothing reads, and keys that do not exist."""
    read = {*t.flags.values()} | ({"epsilon"} if t.value("epsilon_high") is None else set())
    read |= t.table.own if t["loss"] not in t.table.losses or t["loss"] == "bypass_mode" else set()
    for key in t.launch.given:
        if key in t.table.dead:
            yield finding(t, "dead", key, reason=t.table.dead[key])
        elif key in t.table.own - read and t.is_set(key):
            yield finding(t, "unread", key, loss=t["loss"])
    for key in t.strangers:
        if near := nearest(key, t.table.known):
            yield finding(t, "misspelt", key, near=t.spelled(near))
    if others := foreign(t):
        yield finding(t, "strangers", others[0], names=", ".join(map(t.spelled, others[:3])), count=len(others))


def foreign(t: Terms) -> list[str]:
    """Keys that the library does not have and that are no slip of the pen."""
    return [key for key in t.strangers if nearest(key, t.table.known) is None]


def nearest(key: str, known: set[str]) -> str | None:
    """The known key that differs least from this one by a slip of the pen, or by its place below the same section."""
    (section, *_), (room, _, name) = key.split("."), key.rpartition(".")
    for other in sorted(known):
        if other.split(".")[0] == section and "." in key and other.rpartition(".")[2] == name:
            return other
    beside = [theirs for other in sorted(known) for at, _, theirs in [other.rpartition(".")] if at == room]
    alike = [theirs for theirs in beside if abs(len(theirs) - len(name)) < 3]
    found = difflib.get_close_matches(name, alike, 1, NEAR)
    return f"{room}.{found[0]}".lstrip(".") if found else None


def switches(t: Terms) -> Iterator[Finding]:
    """Keys of verl that another key overrides or has switched off."""
    if t.launch.library != "verl" or t.launch.is_open:
        return
    clip, low, high = (t.value(f"actor.{name}") for name in ("clip_ratio", "clip_ratio_low", "clip_ratio_high"))
    if t.given("actor.clip_ratio") and None not in (low, high) and not clip == low == high:
        yield finding(t, "clip_ratio", "actor.clip_ratio", low=low, high=high, clip=clip)
    for key, switch in SENTENCES["switches"].items():
        if t.is_set(key) and t.value(switch) in (False, None):
            yield finding(t, "switched_off", key, switch=t.spelled(switch))
