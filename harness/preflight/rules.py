"""What is wrong with a launch. A rule yields codes, whether they hold, and keys; words.toml has the sentences."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from harness.config.loss import LOSS_TYPES
from harness.preflight.shell import UNKNOWN
from harness.preflight.tables import toml
from harness.preflight.terms import Terms, numeral, typed

SENTENCES = toml("words")
SEVERITIES = ("error", "warning", "note")
FINDINGS = {code: (severity, words) for severity in SEVERITIES for code, words in SENTENCES[severity].items()}
SHORT_TOKENS = 1024  # responses that reason are longer: the DAPO paper's limit is 20,480
SEQUENCE_BOUND, TOKEN_BOUND = 0.005, 0.02  # GSPO's published bounds are 3e-4 and 4e-4, bounds of token ratios 0.2
REFERENCE_SIZE = "ref.log_prob_micro_batch_size_per_gpu"
SIZES = ("actor.ppo_micro_batch_size_per_gpu", "rollout.log_prob_micro_batch_size_per_gpu")  # verl's, without a default
SLIP, NEAR = 0.9, 0.7  # difflib's ratio of two names: of keys, a letter of ten; of the few losses, one of three or four
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
    names |= {"how": table.second_update, "config": table.config, "trainer": table.trainer, "near": nearest_loss(t)}
    names = {name: numeral(value) if isinstance(value, float) else str(value) for name, value in names.items()}
    names = {name: text.replace(UNKNOWN, "...") for name, text in names.items()}
    said = []
    for text in (words["what"], words["why"], words["change"]):
        if isinstance(text, dict):  # ms-swift's are TRL's unless they differ
            text = text.get(launch.library) or text.get("ms-swift") or text["trl"]
        said.append(text.format(**names))
    return Finding("note" if is_softer(t, code, keys) else severity, code, path, line, *said)


def version_of(t: Terms) -> str:
    return "the FIPO authors' fork of verl 0.5" if t.is_fork else t.table.version


def is_softer(t: Terms, code: str, keys: Sequence[str]) -> bool:
    """Whether a finding is a note here: the program or the reader may well know better."""
    is_strange = not t.is_closed and None in unknown_keys(t).values()  # another version or fork checks other things
    softer = {
        "no_such_loss": not t.is_plain,
        "mini_above_batch": is_strange,
        "mini_uneven": is_strange,
        "micro_uneven": is_strange,
        "micro_missing": is_strange,
        "delta_inside": t.is_verl,
        "switched_off": not t.is_closed or t.given("external_plugins"),
        "micro_means": not t.is_fork,
        "group_of_one": is_strange and not t.given(t.table.terms["group_size"]),
        "inert_clip": not keys,
        "kl_default": t.is_verl,
    }
    return bool(softer.get(code))


def findings(t: Terms, accuracy: float | None = None) -> list[Finding]:
    """All findings of one launch, the worst first."""
    found = [finding(t, code, line=line, **values) for code, line, values in t.launch.unread]
    for rule in (batches, losses, bounds, averages, costs):
        found += [finding(t, code, *keys) for code, holds, keys in rule(t) if holds]
    found += [*values(t), *keys_of(t), *strange(t), *([] if accuracy is None else forecast(t, accuracy))]
    return sorted(found, key=lambda one: SEVERITIES.index(one.severity))


def batches(t: Terms) -> Rows:
    """Batch sizes that do not fit together."""
    prompts, mini = t.number("prompts_per_step") or 0, t.number("mini_batch") or 0
    is_checked, size = prompts and mini and t.is_plain and not (t.is_verl and prompts % 1), t.table.terms["group_size"]
    is_dynamic = t.value("actor.use_dynamic_bsz") is True
    yield "mini_above_batch", is_checked and prompts < mini and not is_dynamic, ["actor.ppo_mini_batch_size"]
    yield "mini_uneven", is_checked and prompts > mini and prompts % mini, ["actor.ppo_mini_batch_size"]
    micro, rows = t.number("micro_rows"), t.number("mini_rows")
    names = ("actor.ppo_micro_batch_size", "actor.ppo_micro_batch_size_per_gpu", "micro_batch_size")
    yield "micro_uneven", micro and rows and t.is_plain and rows % micro, [*names, "generation_batch_size"]
    is_split = t.is_verl and t.is_plain and not t.is_fork and t.value("actor.use_dynamic_bsz") in (None, False)
    has_reference = True in (t.value("actor.use_kl_loss"), t.value("algorithm.use_kl_in_reward"))
    for key in [*SIZES, *([REFERENCE_SIZE] if has_reference else [])]:
        is_none = t.value(key) is None and t.value(key.removesuffix("_per_gpu")) is None
        yield "micro_missing", is_split and is_none, [key]
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
    is_fipo = str(t["loss"]).lower() == "fipo" and "fipo" not in t.table.losses
    yield "no_fipo", is_fipo, [at]
    yield "no_such_loss", not is_fipo and t["loss"] not in (*t.table.losses, UNKNOWN), [at]
    is_refused = t["loss"] in ("fipo", "real") or t.is_set("off_policy_sequence_mask_delta")
    yield "swift_refuses", t.launch.library in ("ms-swift", "megatron") and is_refused, [at]
    yield "inert_fipo", t.is_on_policy and kind == "fipo", [at]
    yield "inert_clip", t.is_on_policy and kind in ("grpo", "dapo"), [key for key in t.flags.values() if t.is_set(key)]
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
    delta, high = t.number("delta") or 0, t.number("clip_high") or 0
    yield "delta_inside", 1 < delta <= 1 + high, [t.flags.get("delta", "")]
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


def values(t: Terms) -> Iterator[Finding]:
    """Values that the library refuses, or with which a setting means nothing: by the table of what each must be."""
    for row in SENTENCES["must"]:
        for name in row["keys"].split():
            key = (t.flags | t.table.terms).get(name.rstrip("?"), name.rstrip("?"))
            given, value = t.given(key), t.value(key)
            is_free = value == UNKNOWN or (value is None and name.endswith("?"))
            is_streamed = key == "data.train_batch_size" and not t.is_plain  # 0 in verl's asynchronous trainers
            if given and not is_free and not is_streamed and not fits(given.text, row):
                yield finding(t, "invalid_value", key, value=given.text or "empty", be=row["be"], reason=row["reason"])
    if t.launch.processes is not None and t.launch.processes < 1:
        said = {"key": "the number of processes", "be": "1 or more", "reason": "a process trains on each GPU"}
        yield finding(t, "invalid_value", value=t.launch.processes, **said)
    width, key = t.number("fipo_clip_range") or 0, t.flags.get("fipo_clip_range", "")
    if width >= 1 and t.loss.get("fipo_clip_high_only") is False:
        reason = "weights of a two-sided range begin at 1 minus it, and no weight is below 0"
        yield finding(t, "invalid_value", key, value=width, be="below 1, or one-sided", reason=reason)


def fits(text: str, row: dict[str, Any]) -> bool:
    """Whether the text is one of a row's choices, or a number within its bounds."""
    if "choices" in row:
        return text.lower() in row["choices"].split()
    value = typed(text)
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and row.get("least", -inf) <= value <= row.get("most", inf)
        and row.get("above", -inf) < value < row.get("below", inf)
        and not (row.get("is_whole") and value % 1)
    )


def keys_of(t: Terms) -> Iterator[Finding]:
    """Keys that are not known, that nothing reads, and that do not exist."""
    deciding = {*t.table.terms.values(), *t.flags.values(), "per_device_train_batch_size", "actor.use_kl_loss"}
    deciding -= {t.table.terms[name] for name in ("model", "train_data", "reward")}
    if unsure := [key for key in t.launch.given if key in deciding and t.value(key) == UNKNOWN]:
        yield finding(t, "unknown", *unsure, names=", ".join(map(t.spelled, unsure)))
    read = {*t.flags.values()} | ({"epsilon"} if t.value("epsilon_high") is None else set())
    read |= t.table.own if t["loss"] not in t.table.losses or t["loss"] == "bypass_mode" else set()
    for key in t.launch.given:
        if reason := t.dead(key):
            yield finding(t, "dead", key, reason=reason)
        elif key in t.table.own - read and t.is_set(key):
            yield finding(t, "unread", key)
    clip, low, high = (t.value(f"actor.{name}") for name in ("clip_ratio", "clip_ratio_low", "clip_ratio_high"))
    if t.given("actor.clip_ratio") and not {None, UNKNOWN} & {low, high} and not clip == low == high:
        yield finding(t, "clip_ratio", "actor.clip_ratio", low=low, high=high, clip=clip)
    for key, text in SENTENCES["switches"].items():
        switch, _, word = text.partition(" ")
        state, name = t.value(switch), t.spelled(switch)
        is_off = state != UNKNOWN and word not in str(state).split() if word else state in (False, None)
        lack, remedy = (f"does not name {word}", f"add {word} to {name}") if word else ("is false", f"set {name}")
        if is_off and t.is_set(key):
            yield finding(t, "switched_off", key, switch=name, lack=lack, remedy=remedy)


def strange(t: Terms) -> Iterator[Finding]:
    """Keys that the library does not have: an error where its program refuses them, or where another one is meant."""
    others = []
    for key, near in unknown_keys(t).items():
        if near or t.is_closed:
            meant, instead = (
                (f": {near} is meant?", f"write {near}") if near else ("", "leave it out, or run a version that has it")
            )
            yield finding(t, "no_such_key", key, meant=meant, instead=instead)
        else:
            others.append(key)
    if others:
        yield finding(t, "strangers", others[0], names=", ".join(map(t.spelled, others[:3])), count=len(others))


def unknown_keys(t: Terms) -> dict[str, str | None]:
    """The keys that the library does not have, each with the one that is meant, as the launch would spell it."""
    keys = [key for key in t.launch.given if t.is_plain and not t.table.has(key)]
    return {key: t.spelled(near) if (near := nearest(t, key)) else None for key in keys}


def nearest(t: Terms, key: str) -> str | None:
    """The known key that is meant: what the other program of ms-swift calls it, or a similar one beside it."""
    room, dot, name = key.rpartition(".")
    beside = [other.rpartition(".")[2] for other in sorted(t.table.known) if other.rpartition(".")[0] == room]
    swapped = [other for other in beside if sorted(other) == sorted(name)]
    cutoff = (
        min(SLIP, max(0.75, 1 - 1 / max(1, len(name)))) if t.is_closed else SLIP
    )  # a letter of four where it is refused
    found = swapped or difflib.get_close_matches(name, beside, 1, cutoff)
    return t.table.names.get(key) or (f"{room}{dot}{found[0]}" if found else None)


def nearest_loss(t: Terms) -> str:
    """The library's own name of the loss, or a similar name, or all of its names."""
    losses, name = t.table.losses, str(t["loss"]).lower()
    same = [loss for loss, row in losses.items() if name in (row.get("type"), *row.get("names", "").split())]
    similar = [] if name in LOSS_TYPES else difflib.get_close_matches(name, losses, 1, NEAR)
    return (same or similar or [f"one of {', '.join(losses)}"])[0]
