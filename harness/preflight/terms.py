"""A launch in common terms: the loss in our settings and the numbers that decide what it does; UNKNOWN where unsure."""

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, inf, prod
from typing import Any

from harness.preflight.reading import Given, Launch
from harness.preflight.shell import UNKNOWN
from harness.preflight.tables import TABLES, Table

WORDS = {"true": True, "false": False, "none": None, "null": None, "": None}
SWITCHED = {"yes": True, "y": True, "t": True, "1": True, "no": False, "n": False, "f": False, "0": False}
LARGEST = 1e15  # beyond it, or infinite or NaN, nothing is a number that a launch means
PARALLEL = ("tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size")  # Megatron's
SCALES: dict[Any, str] = {True: "group", False: "none"}


@dataclass
class Terms:
    """`values` by common name; `loss` has our settings, empty where the loss is not one of ours."""

    launch: Launch
    table: Table
    values: dict[str, Any]
    loss: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)

    def number(self, name: str) -> float | None:
        """The setting of the loss or the term as a number; None where it is none or not known."""
        value = self.loss.get(name, self.values.get(name))
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def given(self, key: str) -> Given | None:
        return self.launch.given.get(key)

    def value(self, key: str) -> Any:
        """What the launch or else the library sets the key to; None where neither does."""
        default = self.table.defaults.get(key)
        if given := self.launch.given.get(key):
            is_switch = isinstance(default, bool) and not self.is_verl
            return (SWITCHED if is_switch else {}).get(given.text.lower(), typed(given.text))
        return UNKNOWN if self.launch.is_open else default

    def is_set(self, key: str) -> bool:
        """Whether the launch sets the key to something that is neither nothing nor the default."""
        return key in self.launch.given and self.value(key) not in (None, False, 0, self.table.defaults.get(key))

    def spelled(self, key: str) -> str:
        """The key as the launch writes it, or would."""
        if given := self.launch.given.get(key):
            return given.name
        if self.is_verl:
            return f"actor_rollout_ref.{key}" if key.startswith(("actor.", "rollout.", "model.", "ref.")) else key
        return key if self.launch.path.suffix in (".py", ".yaml", ".yml") else f"--{key}"

    @property
    def flags(self) -> dict[str, str]:
        """The keys that the loss reads, by our setting."""
        flags: dict[str, str] = self.table.losses.get(str(self["loss"]), {}).get("flags", {})
        return flags

    @property
    def is_verl(self) -> bool:
        return self.launch.library == "verl"

    @property
    def is_plain(self) -> bool:
        """Whether the library's own trainer runs, and not one that may read more keys."""
        return not self.is_verl or bool(re.search(r"(^|[./])main_(ppo|dapo)|Hydra", self.launch.program))

    @property
    def is_closed(self) -> bool:
        """Whether the program refuses every argument that the library does not have."""
        is_grouped = any("." in key and not key.startswith("ENV.") for key in self.launch.given)  # a file for Ray
        is_tolerant = self.value("ignore_args_error") is True or is_grouped
        is_trls = self.launch.program in ("trl.scripts.grpo", "GRPOConfig(...)")
        return (
            self.launch.is_trl_command
            or is_trls
            or (self.launch.library in ("ms-swift", "megatron") and not is_tolerant)
        )

    @property
    def is_fork(self) -> bool:
        """Whether the launch is one of the FIPO authors' fork of verl."""
        return self.is_verl and bool(self["loss"] == "future_kl")

    @property
    def is_on_policy(self) -> bool:
        """Whether every ratio is 1: one update of one or of several whole rollouts, by the policy that samples."""
        keys = ("algorithm.rollout_correction.bypass_mode", "actor.use_rollout_log_probs")
        is_stale = any(self.value(key) is True for key in keys)  # old log-probabilities are the sampler's
        updates = self.number("updates_per_rollout") or inf
        is_sure = not is_stale and not (self.is_verl and self.launch.is_open)
        return is_sure and updates <= 1 and (1 / updates).is_integer()

    def dead(self, key: str) -> str | None:
        """Why nothing reads a key that another version or program reads; None if something does."""
        is_recipes = key.startswith("overlong_buffer.") and "_cfg" not in self.spelled(key)
        is_unread = is_recipes and re.search(r"(^|[./])main_ppo", self.launch.program)
        return self.table.dead.get("overlong_buffer" if is_unread else key)


def typed(text: str) -> Any:
    """The number, truth value, none or text that a command line means."""
    if UNKNOWN in text:
        return UNKNOWN
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for kind in (int, float):
        with suppress(ValueError):
            return value if abs(value := kind(text)) < LARGEST else text
    return text


def numeral(number: float) -> str:
    """The number in six digits, or as a fraction where these do not hold it."""
    if float(short := f"{number:g}") == number:
        return short
    fraction = Fraction(number).limit_denominator(100)
    return str(fraction) if float(fraction) == number else short


def product(*factors: Any, over: Any = 1) -> Any:
    """The product of the factors divided by `over`; UNKNOWN if one is not a number above 0."""
    if not all(isinstance(one, int | float) and one > 0 for one in (*factors, over)):
        return UNKNOWN
    result = prod(factors) / over
    return int(result) if result % 1 == 0 else result


def terms_of(launch: Launch) -> Terms:
    """What the launch sets, with its library's defaults for what it does not."""
    table = TABLES[launch.library]
    take_parsed(launch, table)
    terms = Terms(launch, table, {}, {})
    terms.values = {name: terms.value(key) for name, key in table.terms.items()}
    terms.values |= {name: UNKNOWN for name in ("model", "train_data", "reward") if terms[name] is None}
    (add_verl if terms.is_verl else add_rollouts)(terms)
    row = table.losses.get(str(terms["loss"]), {})
    add_averaging(terms, row)
    is_of_responses = row.get("type") == "gspo" or str(terms["level"]).startswith("sequence")
    terms.values["ratio_of"] = UNKNOWN if terms["level"] == UNKNOWN else "response" if is_of_responses else "token"
    if "type" in row:
        terms.loss = {"loss_type": row["type"]} | row.get("set", {})
        terms.loss |= {name: terms.value(key) for name, key in terms.flags.items()}
        adapt(terms)
    return terms


def take_parsed(launch: Launch, table: Table) -> None:
    """Name arguments as argparse does, which takes the beginning of a name for the name, and X false for --no_X."""
    off = {f"no_{key}": key for key in table.on}
    for key, given in list(launch.given.items()):
        if not given.name.startswith("--") or table.has(key):
            continue
        full = [key] if key in off else [name for name in {*table.known, *off} if name.startswith(key)]
        if len(full) == 1 and full[0] not in off:
            launch.given[full[0]] = launch.given.pop(key)
        elif len(full) == 1 and given.is_alone:
            launch.given.pop(key)
            launch.given[off[full[0]]] = replace(given, text="false", name=f"--{off[full[0]]}")
        elif len(full) == 1:  # which takes no value
            launch.given[key] = replace(given, name=f"{given.name} {given.text}")


def add_averaging(terms: Terms, row: dict[str, Any]) -> None:
    """The averaging in our terms, in the library's words, and how much a token mean over a rollout is off."""
    values, library = terms.values, terms.launch.library
    values["averaging"] = row.get("averaging", values.get("averaging", UNKNOWN))
    is_tokens = values["averaging"] == "token_mean"
    values["averaging_word"] = "micro_mean" if terms.is_fork and is_tokens else row.get("words", values["averaging"])
    steps, accumulation = terms.number("steps_per_generation"), terms.number("accumulation")
    is_whole = library in ("trl", "ms-swift") and terms.value("sequence_parallel_size") in (None, 1)
    if is_whole and values["averaging_word"] == "token_mean" and steps and accumulation and steps != accumulation:
        values["window"] = accumulation / steps
        values["averaging_word"] = "rollout_mean" if library == "ms-swift" else "token_mean"


def adapt(terms: Terms) -> None:
    """Bring a library's way of giving bounds and levels to ours."""
    loss = terms.loss
    for name, key in terms.flags.items():
        if loss[name] is None and key in ("epsilon_high", "actor.clip_ratio_low", "actor.clip_ratio_high"):
            loss[name] = terms.value("actor.clip_ratio" if terms.is_verl else "epsilon")
    low, high = terms.number("cispo_ratio_min"), terms.number("cispo_ratio_max")
    if terms.is_verl and low is not None and high is not None:  # verl has distances from 1
        loss |= {"cispo_ratio_min": max(0.0, 1 - low), "cispo_ratio_max": 1 + high}
    terms.values["delta"] = loss.get("delta")
    if terms["ratio_of"] == "response" and loss["loss_type"] in ("grpo", "dapo"):
        loss |= {"loss_type": "gspo", "gspo_epsilon_low": loss["epsilon"], "gspo_epsilon_high": loss["epsilon_high"]}
        for name in ("epsilon", "epsilon_high", "delta"):
            loss.pop(name)
        loss |= {"gspo_token_level": True} if terms["level"] == "sequence_token" else {}
    terms.values["clip_low"] = loss.get("gspo_epsilon_low", loss.get("epsilon"))
    terms.values["clip_high"] = loss.get("gspo_epsilon_high", loss.get("epsilon_high"))
    if loss["loss_type"] == "dapo" and terms["averaging"] == "sequence_mean":
        loss["loss_type"] = "grpo"
    loss |= {name: terms[name] for name in ("averaging", "beta", "advantage_scale")}
    loss["advantage_std_eps"] = 1e-6 if terms.is_verl else 1e-4


def add_verl(terms: Terms) -> None:
    value, values, launch = terms.value, terms.values, terms.launch
    mini, prompts = value("actor.ppo_mini_batch_size"), values["prompts_per_step"]
    values["mini_batch"] = mini
    if value("actor.use_dynamic_bsz") is not True:
        splits = ["actor.ulysses_sequence_parallel_size", *(f"actor.megatron.{key}" for key in PARALLEL)]
        gpus = product(value("trainer.n_gpus_per_node"), value("trainer.nnodes"))
        ranks = product(gpus, over=product(*(value(key) or 1 for key in splits)))
        micro, per_gpu = value("actor.ppo_micro_batch_size"), value("actor.ppo_micro_batch_size_per_gpu")
        values["micro_rows"] = micro or product(1 if ranks == UNKNOWN else ranks, per_gpu)
        values["mini_rows"] = mini if micro else product(mini, values["group_size"])
    updates = product(prompts, over=mini)
    is_async = re.search(r"async|off_policy", launch.program)
    is_known = updates != UNKNOWN and not is_async
    values["updates_per_rollout"] = product(ceil(updates), values["epochs"]) if is_known else UNKNOWN
    values["responses_per_update"] = product(min(mini, prompts) if is_known else mini, values["group_size"])
    values["averaging"] = terms.table.averagings.get(str(values["averaging"]), values["averaging"])
    values["divisor"] = value("actor.loss_scale_factor") or "the padded width"
    if value("actor.use_kl_loss") is not True:
        values["beta"] = 0.0 if value("actor.use_kl_loss") is False else UNKNOWN
    if value("algorithm.use_kl_in_reward") is True:
        values["kl_in_reward"] = value("algorithm.kl_ctrl.kl_coef")
    scale = SCALES.get(value("algorithm.norm_adv_by_std_in_grpo"), UNKNOWN)
    is_grpo = values["advantages"] in ("grpo", "grpo_vectorized")
    values["advantage_scale"] = scale if is_grpo else f"{values['advantages']}'s, not ours"
    if value("overlong_buffer.enable") is not True or terms.dead("overlong_buffer.enable"):
        values["overlong_penalty_tokens"] = None


def add_rollouts(terms: Terms) -> None:
    """What TRL and ms-swift do in a generation batch, and with which advantages and rate."""
    value, values, library = terms.value, terms.values, terms.launch.library
    accumulation, ranks_per_row = value("gradient_accumulation_steps"), value("sequence_parallel_size") or 1
    per_pass = product(value("per_device_train_batch_size"), terms.launch.processes)
    steps, batch = value("steps_per_generation"), value("generation_batch_size")
    values |= {"micro_rows": per_pass, "mini_rows": None if steps else batch}
    if library == "megatron":
        accumulation, ranks_per_row, per_pass = 1, 1, value("global_batch_size")
        ranks = product(terms.launch.processes or 1, over=product(*(value(key) or 1 for key in PARALLEL)))
        values |= {"micro_rows": product(value("micro_batch_size"), ranks), "mini_rows": per_pass}
    if steps is None:
        steps = accumulation if batch is None else product(batch, over=per_pass)
    responses = product(per_pass, steps) if batch is None else batch
    values |= {
        "steps_per_generation": steps,
        "accumulation": accumulation,
        "updates_per_rollout": product(steps, value("num_iterations"), ranks_per_row, over=accumulation),
        "responses_per_update": product(per_pass, accumulation, over=ranks_per_row),
        "prompts_per_step": product(responses, over=values["group_size"]),
        "responses_per_rollout": responses,
        "divisor": values["max_response_tokens"],
    }
    estimator, scale = value("advantage_estimator") or "grpo", values["advantages"]
    scale = SCALES.get(scale, scale or ("none" if terms.given("scale_rewards") else "group"))  # none is a choice here
    values["advantage_scale"] = scale if estimator == "grpo" else f"{estimator}'s, not ours"
    if library == "trl":
        values["lora_rank"] = values["lora_rank"] if value("use_peft") is True else None
        return
    is_full = value("tuner_type") == "full"
    values["lora_rank"] = None if is_full else values["lora_rank"]
    if values["lr"] is None:
        values["lr"] = 1e-5 if is_full else 1e-4
    if "soft_overlong" not in str(values["reward"]):
        values["overlong_penalty_tokens"] = None
