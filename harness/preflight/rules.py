"""What is wrong with a launch. A rule yields codes, whether they hold, and keys; words.toml has the sentences."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from harness.preflight.shell import UNKNOWN
from harness.preflight.tables import toml
from harness.preflight.terms import Terms

SENTENCES = toml("words")
SEVERITIES = ("error", "warning", "note")
FINDINGS = {code: (severity, words) for severity in SEVERITIES for code, words in SENTENCES[severity].items()}
SHORT_TOKENS = 1024  # responses that reason are longer: the DAPO paper's limit is 20,480
SEQUENCE_BOUND, TOKEN_BOUND = 0.005, 0.02  # GSPO's published bounds are 3e-4 and 4e-4, bounds of token ratios 0.2
NEAR = 0.9  # difflib's ratio of two names: a letter of ten
Rows = Iterator[tuple[str, Any, list[str]]]  # a code, whether it holds, the keys at fault


@dataclass(frozen=True)
class Finding:
    severity: str
    code: str
    path: Path
    line: int
    what: str
    why: str
    change: str


def finding(t: Terms, code: str, *keys: str, **values: Any) -> Finding:
    """The finding at the line of the first of the keys that the launch gives, else at the launch."""
    (severity, words), launch, table = FINDINGS[code], t.launch, t.table
    at = next((given for key in keys if (given := t.given(key))), None)
    line, path = (at.line, at.path) if at else (values.pop("line", launch.line), launch.path)
    names = t.values | t.loss | {"key": t.spelled(keys[0]) if keys else "", "version": version_of(t)} | values
    names |= {"how": table.second_update, "config": table.config, "trainer": table.trainer}
    names = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in names.items()}
    names = {name: text.replace(UNKNOWN, "...") for name, text in names.items()}
    said = []
    for text in (words["what"], words["why"], words["change"]):
        if isinstance(text, dict):  # ms-swift's are TRL's unless they differ
            text = text.get(launch.library) or text.get("ms-swift") or text["trl"]
        said.append(text.format(**names))
    return Finding("note" if is_softer(t, code) else severity, code, path, line, *said)


def version_of(t: Terms) -> str:
    return "the FIPO authors' fork of verl 0.5" if t.is_fork else t.table.version


def is_softer(t: Terms, code: str) -> bool:
    """Whether a finding is a note here: the program or the reader may well know better."""
    is_strange = bool(foreign(t))  # another version or a fork, which may check and call things otherwise
    softer = {
        "no_such_loss": not t.is_plain,
        "mini_above_batch": is_strange,
        "mini_uneven": is_strange,
        "micro_means": not t.is_fork,
        "group_of_one": is_strange and not t.given(t.table.terms["group_size"]),
        "inert_clip": not t.chosen,
        "kl_default": t.is_verl,
    }
    return softer.get(code, False)


def findings(t: Terms, accuracy: float | None = None) -> list[Finding]:
    """All findings of one launch, the worst first."""
    found = [finding(t, code, line=line, **values) for code, line, values in t.launch.unread]
    for rule in (batches, losses, bounds, averages, costs):
        found += [finding(t, code, *keys) for code, holds, keys in rule(t) if holds]
    found += [*keys_of(t), *([] if accuracy is None else forecast(t, accuracy))]
    return sorted(found, key=lambda one: SEVERITIES.index(one.severity))


def batches(t: Terms) -> Rows:
    """Batch sizes that do not fit together."""
    prompts, mini = t.number("prompts_per_step") or 0, t.number("mini_batch") or 0
    is_checked, size = prompts and mini and t.is_plain, t.table.terms["group_size"]
    is_dynamic = t.value("actor.use_dynamic_bsz") is True
    yield "mini_above_batch", is_checked and prompts < mini and not is_dynamic, ["actor.ppo_mini_batch_size"]
    yield "mini_uneven", is_checked and prompts > mini and prompts % mini, ["actor.ppo_mini_batch_size"]
    yield "groups_split", not t.is_verl and prompts % 1, [size]
    is_distilled = any(t.is_set(key) for key in ("teacher_model", "teacher_model_server", "distillation.enabled"))
    is_of_groups = t["advantage_scale"] in ("group", "none", "batch")
    is_alone = t.number("group_size") == 1 and is_of_groups and not is_distilled
    yield "group_of_one", is_alone, [size, t.table.terms["advantages"]]
    iterations = t.number("epochs") or 1
    yield "megatron_iterations", t.launch.library == "megatron" and iterations > 1, ["num_iterations"]


def losses(t: Terms) -> Rows:
    """Losses that the library does not have, and those that do nothing."""
    kind, at = t.loss.get("loss_type"), t.table.terms["loss"]
    is_refused = t["loss"] in ("fipo", "real") or t.is_set("off_policy_sequence_mask_delta")
    yield "swift_refuses", t.launch.library in ("ms-swift", "megatron") and is_refused, [at]
    yield "inert_fipo", t.is_on_policy and kind == "fipo", [at]
    yield "inert_clip", t.is_on_policy and kind in ("grpo", "dapo"), t.chosen
    yield "inert_loss", t.is_on_policy and kind not in (None, "reinforce", "grpo", "dapo", "fipo"), [at]
    if kind == "fipo":
        delta, safety = t.number("delta"), t.number("fipo_safety_threshold")
        yield "no_delta", t.loss["delta"] is None, [t.flags["delta"], at]
        yield "safety_idle", delta and safety and safety >= delta, [t.flags["fipo_safety_threshold"]]
        yield "weights_free", not t.loss["fipo_clip_range"], [t.flags["fipo_clip_range"], at]


def bounds(t: Terms) -> Rows:
    """Clip bounds that never act, or act on everything."""
    sides = [side for side in (t.number("clip_low"), t.number("clip_high")) if side is not None]
    at = [key for name, key in t.flags.items() if name.removeprefix("gspo_").startswith("epsilon")]
    is_response = t["ratio_of"] == "response" and len(sides) == 2
    yield "token_bounds", is_response and min(sides) >= TOKEN_BOUND, [*at, t.table.terms["loss"]]
    is_token = t["ratio_of"] == "token" and len(sides) == 2
    yield "sequence_bounds", is_token and 0 < max(sides) <= SEQUENCE_BOUND, at
    cap = t.number("cispo_ratio_max")
    yield "cispo_cap", cap is not None and cap < 1, [t.flags.get("cispo_ratio_max", ""), t.table.terms["loss"]]


def averages(t: Terms) -> Rows:
    """Averages that depend on micro-batches or ranks, or are another loss's."""
    at, is_tokens = [t.table.terms.get("averaging", "loss_type"), t.table.terms["loss"]], t["averaging"] == "token_mean"
    yield "micro_means", "recipe" in t.launch.program and is_tokens, at
    is_constant = t.is_verl and t["averaging"] == "constant"
    yield "padded_width", is_constant and t.value("actor.loss_scale_factor") is None, at
    yield "bnpo_mean", t["averaging_word"] == "bnpo_mean", [at[1]]
    yield "gspo_average", t.loss.get("loss_type") == "gspo" and is_tokens, at
    code = "window" if t.launch.library == "ms-swift" else "window_approximate"
    yield code, t["window"], ["steps_per_generation", "generation_batch_size", "gradient_accumulation_steps"]


def costs(t: Terms) -> Rows:
    """A KL or a learning rate that nobody asked for, and lengths that mask or penalise most responses."""
    beta, rate, mask = (t.table.terms.get(name, "") for name in ("beta", "lr", "overlong_filter"))
    is_chosen = t.launch.library == "trl" or t.given(beta)
    yield "kl_default", t.number("beta") and not is_chosen, [beta, "actor.use_kl_loss"]
    yield "rate_default", t.number("lr") and not t.given(rate), [rate]
    limit, buffer = t.number("max_response_tokens") or inf, t.number("overlong_penalty_tokens")
    is_of_turns = t.given("multi_turn_scheduler") or t.given("gym_env")  # the limit is then one turn's
    yield "masks_most", t["overlong_filter"] is True and limit <= SHORT_TOKENS and not is_of_turns, [mask]
    yield "penalises_all", buffer and buffer >= limit, [t.table.terms.get("overlong_penalty_tokens", "")]


def forecast(t: Terms, accuracy: float) -> Iterator[Finding]:
    """The groups with right and wrong answers, if every answer is right with this probability."""
    size, prompts = t.number("group_size"), t.number("prompts_per_step")
    if not size or size < 1:
        return
    kept = 1 - accuracy**size - (1 - accuracy) ** size
    share = (t.number("prompts_per_round") or prompts or 1) / (prompts or 1)
    rounds, most = max(1.0, 1 / kept / share) if kept else inf, t.number("max_sampling_rounds") or inf
    is_sampled = t["dynamic_sampling"] is True
    code = "too_few_groups" if is_sampled and rounds > most else "dead_groups"
    at = t.table.terms["dynamic_sampling" if is_sampled else "group_size"]
    yield finding(t, code, at, accuracy=accuracy, dropped=f"{1 - kept:.1%}", rounds=f"{rounds:.1f}", most=most)


def keys_of(t: Terms) -> Iterator[Finding]:
    """Keys that are not known, that nothing reads, and that do not exist."""
    deciding = {*t.table.terms.values(), *t.flags.values(), "per_device_train_batch_size", "actor.use_kl_loss"}
    deciding -= {t.table.terms[name] for name in ("model", "train_data", "reward")}
    if unsure := [key for key in t.launch.given if key in deciding and t.value(key) == UNKNOWN]:
        yield finding(t, "unknown", *unsure, names=", ".join(map(t.spelled, unsure)))
    if t["loss"] not in (*t.table.losses, UNKNOWN):
        near = difflib.get_close_matches(str(t["loss"]), t.table.losses, n=1) or [f"one of {', '.join(t.table.losses)}"]
        yield finding(t, "no_such_loss", t.table.terms["loss"], near=near[0])
    read = {*t.flags.values()} | ({"epsilon"} if t.value("epsilon_high") is None else set())
    read |= t.table.own if t["loss"] not in t.table.losses or t["loss"] == "bypass_mode" else set()
    for key in t.launch.given:
        if reason := t.dead(key):
            yield finding(t, "dead", key, reason=reason)
        elif key in t.table.own - read and t.is_set(key):
            yield finding(t, "unread", key)
        elif t.is_plain and not t.table.has(key) and (near_key := nearest(t, key)):
            yield finding(t, "misspelt", key, near=t.spelled(near_key))
    if others := foreign(t):
        yield finding(t, "strangers", others[0], names=", ".join(map(t.spelled, others[:3])), count=len(others))
    if not t.is_verl or t.launch.is_open:
        return
    clip, low, high = (t.value(f"actor.{name}") for name in ("clip_ratio", "clip_ratio_low", "clip_ratio_high"))
    if t.given("actor.clip_ratio") and None not in (low, high) and not clip == low == high:
        yield finding(t, "clip_ratio", "actor.clip_ratio", low=low, high=high, clip=clip)
    for key, switch in SENTENCES["switches"].items():
        if t.is_set(key) and t.value(switch) in (False, None):
            yield finding(t, "switched_off", key, switch=t.spelled(switch))


def foreign(t: Terms) -> list[str]:
    """Keys that the library does not have and that are no slip of the pen."""
    return [key for key in t.launch.given if t.is_plain and not t.table.has(key) and nearest(t, key) is None]


def nearest(t: Terms, key: str) -> str | None:
    """The known key that is meant: what the other program of ms-swift calls it, or one a letter away beside it."""
    room, dot, name = key.rpartition(".")
    beside = [other.rpartition(".")[2] for other in sorted(t.table.known) if other.rpartition(".")[0] == room]
    found = difflib.get_close_matches(name, beside, 1, NEAR)
    return t.table.names.get(key) or (f"{room}{dot}{found[0]}" if found else None)
