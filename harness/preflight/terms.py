"""A launch in common terms: the loss in our settings and the numbers that decide what it does; UNKNOWN where unsure."""

import re
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any

from harness.preflight.reading import Given, Launch
from harness.preflight.shell import UNKNOWN
from harness.preflight.tables import TABLES, Table

WORDS = {"true": True, "false": False, "none": None, "null": None, "": None}
LARGEST = 1e15  # beyond it, or infinite or NaN, nothing is a number that a launch means
CLIPPED = ("grpo", "dapo", "fipo")
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
        if given := self.launch.given.get(key):
            return typed(given.text)
        return UNKNOWN if self.launch.is_open else self.table.defaults.get(key)

    def is_set(self, key: str) -> bool:
        """Whether the launch sets the key to something that is neither nothing nor the default."""
        return key in self.launch.given and self.value(key) not in (None, False, 0, self.table.defaults.get(key))

    def spelled(self, key: str) -> str:
        """The key as the launch writes it, or would."""
        if given := self.launch.given.get(key):
            return given.name
        if self.launch.library == "verl":
            return f"actor_rollout_ref.{key}" if key.startswith(("actor.", "rollout.", "model.", "ref.")) else key
        return key if self.launch.path.suffix in (".py", ".yaml", ".yml") else f"--{key}"

    @property
    def clip(self) -> tuple[float | None, float | None]:
        """How far the ratio may lie below and above 1."""
        prefix, low = ("gspo_", "epsilon_low") if self.loss.get("loss_type") == "gspo" else ("", "epsilon")
        return self.number(f"{prefix}{low}"), self.number(f"{prefix}epsilon_high")

    @property
    def flags(self) -> dict[str, str]:
        """The keys that the loss reads, by our setting."""
        flags: dict[str, str] = self.table.losses.get(str(self["loss"]), {}).get("flags", {})
        return flags

    @property
    def strangers(self) -> list[str]:
        """Given keys that the library does not have: misspelt, or of another version."""
        table = self.table
        return [key for key in self.launch.given if self.is_plain and key not in table.known and table.has_room(key)]

    @property
    def is_fork(self) -> bool:
        """Whether the launch is one of the FIPO authors' fork of verl."""
        return bool(self["loss"] == "future_kl")

    @property
    def is_plain(self) -> bool:
        """Whether the library's own trainer runs, and not one that may read more keys."""
        return self.launch.library != "verl" or bool(re.search(r"r\.main_ppo|\.dapo|Hydra", self.launch.program))

    @property
    def is_megatron(self) -> bool:
        return self.launch.program.startswith("megatron")

    @property
    def is_stale(self) -> bool:
        """Whether old log-probabilities are the sampler's, so that a first update has ratios too."""
        keys = ("algorithm.rollout_correction.bypass_mode", "actor.use_rollout_log_probs")
        return any(self.value(key) is True for key in keys)

    @property
    def version(self) -> str:
        return "the FIPO authors' fork of verl 0.5" if self.is_fork else self.table.version


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


def product(*factors: Any, over: Any = 1) -> Any:
    """The product of the factors divided by `over`; UNKNOWN if one is not a number above 0."""
    if not all(isinstance(one, int | float) and one > 0 for one in (*factors, over)):
        return UNKNOWN
    result = prod(factors) / over
    return int(result) if result % 1 == 0 else result


def terms_of(launch: Launch) -> Terms:
    """What the launch sets, with its library's defaults for what it does not."""
    table = TABLES[launch.library]
    terms = Terms(launch, table, {}, {})
    terms.values = {name: terms.value(key) for name, key in table.terms.items()}
    {"verl": add_verl, "trl": add_trl, "ms-swift": add_swift}[launch.library](terms)
    row = table.losses.get(str(terms["loss"]), {})
    terms.values["averaging"] = row.get("averaging", terms.values.get("averaging", UNKNOWN))
    if "type" in row:
        terms.loss = {"loss_type": row["type"]} | row.get("set", {})
        terms.loss |= {name: terms.value(key) for name, key in terms.flags.items()}
        adapt(terms)
    return terms


def adapt(terms: Terms) -> None:
    """Bring a library's way of giving bounds and levels to ours."""
    loss, is_verl = terms.loss, terms.launch.library == "verl"
    for name, key in terms.flags.items():
        if loss[name] is None and key in ("epsilon_high", "actor.clip_ratio_low", "actor.clip_ratio_high"):
            loss[name] = terms.value("actor.clip_ratio" if is_verl else "epsilon")
    low, high = terms.number("cispo_ratio_min"), terms.number("cispo_ratio_max")
    if is_verl and low is not None and high is not None:  # verl has distances from 1
        loss |= {"cispo_ratio_min": max(0.0, 1 - low), "cispo_ratio_max": 1 + high}
    if str(terms["level"]).startswith("sequence") and loss["loss_type"] in ("grpo", "dapo"):
        loss |= {"loss_type": "gspo", "gspo_epsilon_low": loss["epsilon"], "gspo_epsilon_high": loss["epsilon_high"]}
        for name in ("epsilon", "epsilon_high", "delta"):
            loss.pop(name)
        loss |= {"gspo_token_level": True} if terms["level"] == "sequence_token" else {}
    if loss["loss_type"] == "dapo" and terms["averaging"] == "sequence_mean":
        loss["loss_type"] = "grpo"
    loss |= {name: terms[name] for name in ("averaging", "beta", "advantage_scale")}
    loss["advantage_std_eps"] = 1e-6 if is_verl else 1e-4


def add_verl(terms: Terms) -> None:
    value, values, launch = terms.value, terms.values, terms.launch
    mini = value("actor.ppo_mini_batch_size")
    is_async = re.search(r"async|off_policy", launch.program)
    updates = product(values["prompts_per_step"], values["epochs"], over=mini)
    values["updates_per_rollout"] = UNKNOWN if is_async else updates
    values["responses_per_update"] = product(mini, values["group_size"])
    values["averaging"] = terms.table.averagings.get(str(values["averaging"]), values["averaging"])
    if value("actor.use_kl_loss") is not True:
        values["beta"] = 0.0 if value("actor.use_kl_loss") is False else UNKNOWN
    if value("algorithm.use_kl_in_reward") is True:
        values["kl_in_reward"] = value("algorithm.kl_ctrl.kl_coef")
    for name, key in (("grad_clip", "actor.grad_clip"), ("lr_schedule", "actor.optim.warmup_style")):
        values[name] = value(key) if key in launch.given else values[name]
    scale = SCALES.get(value("algorithm.norm_adv_by_std_in_grpo"), UNKNOWN)
    is_grpo = values["advantages"] in ("grpo", "grpo_vectorized")
    values["advantage_scale"] = scale if is_grpo else f"{values['advantages']}'s, not ours"
    if value("overlong_buffer.enable") is not True:
        values["overlong_penalty_tokens"] = None


def add_rollouts(terms: Terms, accumulation: Any, per_pass: Any, iterations: Any, ranks_per_row: Any = 1) -> None:
    """How many optimizer steps a generation batch of TRL or ms-swift makes."""
    steps, batch = terms.value("steps_per_generation"), terms.value("generation_batch_size")
    if steps is None:
        steps = accumulation if batch is None else product(batch, over=per_pass)
    updates = product(steps, iterations, ranks_per_row, over=accumulation)
    if updates != UNKNOWN and updates < 1 and accumulation % (steps * iterations * ranks_per_row) == 0:
        updates = 1  # several generations make one update, each still with the present policy
    terms.values |= {
        "steps_per_generation": steps,
        "accumulation": accumulation,
        "updates_per_rollout": updates,
        "responses_per_update": product(per_pass, accumulation, over=ranks_per_row),
        "prompts_per_step": product(per_pass, steps, over=terms["group_size"]),
    }


def scale_of(terms: Terms) -> str:
    """What divides advantages; `none` is a choice here and not the absence of one."""
    given, value = terms.given("scale_rewards"), terms["advantages"]
    return SCALES.get(value, value or ("none" if given else "group"))


def add_trl(terms: Terms) -> None:
    value, launch = terms.value, terms.launch
    per_pass = product(value("per_device_train_batch_size"), launch.processes)
    add_rollouts(terms, value("gradient_accumulation_steps"), per_pass, value("num_iterations"))
    terms.values["advantage_scale"] = scale_of(terms)
    if value("use_peft") is not True:
        terms.values["lora_rank"] = None


def add_swift(terms: Terms) -> None:
    value, values = terms.value, terms.values
    if terms.is_megatron:
        values |= {"lr": value("lr"), "grad_clip": value("clip_grad"), "lr_schedule": value("lr_decay_style")}
        add_rollouts(terms, 1, value("global_batch_size"), 1)
    else:
        per_pass = product(value("per_device_train_batch_size"), terms.launch.processes)
        ranks_per_row = value("sequence_parallel_size")
        add_rollouts(terms, value("gradient_accumulation_steps"), per_pass, value("num_iterations"), ranks_per_row)
    tuner = terms.given("tuner_type") or terms.given("train_type")  # the name before 4.0
    is_full = tuner.text == "full" if tuner else terms.is_megatron
    values["lora_rank"] = None if is_full else values["lora_rank"]
    if values["lr"] is None:
        values["lr"] = 1e-5 if is_full else 1e-4
    estimator = value("advantage_estimator")
    values["advantage_scale"] = scale_of(terms) if estimator == "grpo" else f"{estimator}'s, not ours"
    if "soft_overlong" not in str(values["reward"]):
        values["overlong_penalty_tokens"] = None
