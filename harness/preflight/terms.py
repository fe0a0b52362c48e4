"""A launch in common terms: the loss in our settings, and the numbers that decide what it does. UNKNOWN where not sure."""

import re
from dataclasses import dataclass
from math import prod
from typing import Any

from harness.preflight.reading import Given, Launch
from harness.preflight.shell import UNKNOWN
from harness.preflight.tables import TABLES, Table

WORDS = {"true": True, "false": False, "none": None, "null": None, "": None}
CLIPPED = ("grpo", "dapo", "fipo")
SCALES = {True: "group", False: "none"}


@dataclass
class Terms:
    """`values` by common name; `loss` has our settings, empty where the loss is not one of ours."""

    launch: Launch
    table: Table
    values: dict[str, Any]
    loss: dict[str, Any]
    is_stale: bool = False  # old log-probabilities are the sampler's, so that a first update has ratios too
    is_fork: bool = False  # averages each micro-batch alone, as verl before 0.9 did

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)

    def number(self, name: str) -> float | None:
        """The setting of the loss or the term as a number; None where it is none or not known."""
        value = self.loss.get(name, self.values.get(name))
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def given(self, key: str) -> Given | None:
        return self.launch.given.get(key)

    def value(self, key: str) -> Any:
        return value_of(self.launch, key)

    def spelled(self, key: str) -> str:
        """The key as the launch's library spells it."""
        if self.launch.library == "verl":
            is_policy = key.startswith(("actor.", "rollout.", "model.", "ref."))
            return f"actor_rollout_ref.{key}" if is_policy else key
        return key if self.launch.path.suffix in (".py", ".yaml", ".yml") else f"--{key}"


def typed(text: str) -> Any:
    """The number, truth value, none or text that a command line means."""
    if UNKNOWN in text:
        return UNKNOWN
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def value_of(launch: Launch, key: str) -> Any:
    if key in launch.given:
        return typed(launch.given[key].text)
    return UNKNOWN if launch.is_open else TABLES[launch.library].defaults.get(key)


def quotient(factors: list[Any], divisors: list[Any]) -> Any:
    """The product of the factors over that of the divisors; UNKNOWN if one is not a number above 0."""
    if not all(isinstance(one, int | float) and one > 0 for one in [*factors, *divisors]):
        return UNKNOWN
    result = prod(factors) / prod(divisors)
    return int(result) if result.is_integer() else result


def terms_of(launch: Launch) -> Terms:
    """What the launch sets, with its library's defaults for what it does not."""
    table = TABLES[launch.library]
    values = {name: value_of(launch, key) for name, key in table.terms.items()}
    terms = Terms(launch, table, values, {})
    {"verl": add_verl, "trl": add_trl, "ms-swift": add_swift}[launch.library](terms)
    row = table.losses.get(values["loss"], {})
    if "type" in row:
        terms.values["averaging"] = row.get("averaging", values.get("averaging"))
        own = {name: value_of(launch, key) for name, key in row.get("flags", {}).items()}
        terms.loss = {"loss_type": row["type"]} | row.get("set", {}) | own
        adapt(terms)
    return terms


def adapt(terms: Terms) -> None:
    """Bring a library's way of giving bounds and levels to ours."""
    loss, library, value = terms.loss, terms.launch.library, terms.value
    if library == "verl":
        for name, key in terms.table.losses[terms["loss"]].get("flags", {}).items():
            if key in ("actor.clip_ratio_low", "actor.clip_ratio_high") and loss[name] is None:
                loss[name] = value("actor.clip_ratio")
    elif "epsilon" in loss and loss["epsilon_high"] is None:
        loss["epsilon_high"] = loss["epsilon"]
    if loss["loss_type"] == "cispo":
        if library != "verl":
            loss["cispo_ratio_max"] = loss["cispo_ratio_max"] or value("epsilon")
        elif terms.number("cispo_ratio_min") is not None and terms.number("cispo_ratio_max") is not None:
            loss["cispo_ratio_min"] = max(0.0, 1 - loss["cispo_ratio_min"])
            loss["cispo_ratio_max"] = 1 + loss["cispo_ratio_max"]
    if str(terms["level"]).startswith("sequence") and loss["loss_type"] in CLIPPED:
        low, high = loss.pop("epsilon"), loss.pop("epsilon_high")
        loss.pop("delta")
        loss |= {"loss_type": "gspo", "gspo_epsilon_low": low, "gspo_epsilon_high": high}
        loss |= {"gspo_token_level": True} if terms["level"] == "sequence_token" else {}
    if loss["loss_type"] == "dapo" and terms["averaging"] == "sequence_mean":
        loss["loss_type"] = "grpo"
    loss |= {"averaging": terms["averaging"], "beta": terms["beta"], "advantage_scale": terms["advantage_scale"]}
    loss["advantage_std_eps"] = 1e-6 if library == "verl" else 1e-4


def add_verl(terms: Terms) -> None:
    value, values, launch = terms.value, terms.values, terms.launch
    mini, prompts, group = value("actor.ppo_mini_batch_size"), values["prompts_per_step"], values["group_size"]
    is_async = re.search(r"async|off_policy", launch.program) is not None
    values["updates_per_rollout"] = UNKNOWN if is_async else quotient([prompts, values["epochs"]], [mini])
    values["responses_per_update"] = quotient([mini, group], [])
    values["averaging"] = terms.table.averagings.get(values["averaging"], values["averaging"])
    if value("actor.use_kl_loss") is not True:
        values["beta"] = 0.0 if value("actor.use_kl_loss") is False else UNKNOWN
    if value("algorithm.use_kl_in_reward") is True:
        values["kl_in_reward"] = value("algorithm.kl_ctrl.kl_coef")
    for name, key in (("grad_clip", "actor.grad_clip"), ("lr_schedule", "actor.optim.warmup_style")):
        values[name] = value(key) if key in launch.given else values[name]
    values["advantage_scale"] = SCALES.get(value("algorithm.norm_adv_by_std_in_grpo"), UNKNOWN)
    if values["advantages"] not in ("grpo", "grpo_vectorized"):
        values["advantage_scale"] = f"of {values['advantages']}"
    if value("reward_model.overlong_buffer.enable") is not True:
        values["overlong_penalty_tokens"] = None
    launch.processes = launch.processes or quotient([value("trainer.n_gpus_per_node"), value("trainer.nnodes")], [])
    terms.is_stale = True in (value("algorithm.rollout_correction.bypass_mode"), value("actor.use_rollout_log_probs"))
    terms.is_fork = values["loss"] == "future_kl" or launch.program.rpartition(" ")[2].startswith("recipe.")


def add_rollouts(terms: Terms, accumulation: Any, per_pass: Any, iterations: Any) -> None:
    """How many optimizer steps a generation batch of TRL or ms-swift makes."""
    steps, batch = terms.value("steps_per_generation"), terms.value("generation_batch_size")
    if steps is None:
        steps = accumulation if batch is None else quotient([batch], [per_pass])
    updates = quotient([steps, iterations], [accumulation])
    if isinstance(updates, int | float) and updates < 1 and accumulation % (steps * iterations) == 0:
        updates = 1  # several generations make one update, each still with the present policy
    terms.values |= {
        "steps_per_generation": steps,
        "accumulation": accumulation,
        "updates_per_rollout": updates,
        "responses_per_update": quotient([per_pass, accumulation], []),
        "prompts_per_step": quotient([per_pass, steps], [terms["group_size"]]),
    }


def add_trl(terms: Terms) -> None:
    value, launch = terms.value, terms.launch
    per_pass = quotient([value("per_device_train_batch_size"), launch.processes], [])
    add_rollouts(terms, value("gradient_accumulation_steps"), per_pass, value("num_iterations"))
    terms.values["advantage_scale"] = SCALES.get(terms["advantages"], terms["advantages"])
    if "use_peft" not in launch.given and "lora_r" not in launch.given:
        terms.values["lora_rank"] = None


def add_swift(terms: Terms) -> None:
    value, values, launch = terms.value, terms.values, terms.launch
    if launch.program.startswith("megatron"):
        values |= {"lr": value("lr"), "grad_clip": value("clip_grad") or 1.0, "lr_schedule": value("lr_decay_style")}
        add_rollouts(terms, 1, value("global_batch_size"), 1)
    else:
        per_pass = quotient([value("per_device_train_batch_size"), launch.processes], [])
        add_rollouts(terms, value("gradient_accumulation_steps"), per_pass, value("num_iterations"))
    is_full = value("tuner_type" if "train_type" not in launch.given else "train_type") == "full"
    values["lora_rank"] = None if is_full else values["lora_rank"]
    if values["lr"] is None:
        values["lr"] = 1e-5 if is_full else 1e-4
    estimator = value("advantage_estimator")
    scale = values["advantages"] or {"grpo": "group", "rloo": "none", "reinforce_plus_plus": "batch"}.get(estimator)
    values["advantage_scale"] = SCALES.get(scale, scale) if estimator == "grpo" else f"of {estimator}"
    if "soft_overlong" not in str(values["reward"]):
        values["overlong_penalty_tokens"] = None
