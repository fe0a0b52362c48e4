"""Settings of the task, its data and its rewards."""

import json
import re
from collections.abc import Callable
from datetime import date
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from harness.config.base import Count, Positive, Section, setting

DEMONSTRATED = "graded_chain_sum", "retry"  # what the tiny model is taught
TASKS = (*DEMONSTRATED, "worked_sums", "math")
ANSWER_FORMATS = "answer_line", "boxed", "hash", "last_number"


def known_task(value: str) -> str:
    """Refuse a task that is neither built in nor named as FILE.py:CLASS or reasoning_gym:NAME."""
    if value in TASKS or re.fullmatch(r"reasoning_gym:\w+|.+\.py:\w+", value):
        return value
    raise ValueError(
        f"--task: expected {', '.join(TASKS)}, reasoning_gym:NAME or FILE.py:CLASS, got {value!r}: name one of them"
    )


def task_arguments(text: str | None) -> dict[str, Any]:
    """The arguments in --task_settings. Raises ValueError unless the text is a JSON object."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f'--task_settings: expected a JSON object, such as {{"largest": 20}}, got {text!r}')
    return found


def reward_weights(spec: str) -> dict[str, float]:
    """The weight of each name in FILE.py:NAME=WEIGHT,... Raises ValueError for any other form."""
    file, _, listed = spec.partition(".py:")
    pairs = [re.fullmatch(r"\s*(\w+)\s*=\s*([-+0-9.eE]+)\s*", part) for part in listed.split(",")]
    try:
        weights = {pair[1]: float(pair[2]) for pair in pairs if pair}
    except ValueError:
        weights = {}
    if weights and len(weights) < sum(pair is not None for pair in pairs):
        raise ValueError(f"--reward: expected each name once, got {listed!r}")
    if not file or not any(weights.values()) or len(weights) < len(pairs) or not all(map(isfinite, weights.values())):
        raise ValueError(
            f"--reward: expected FILE.py:NAME=WEIGHT,... such as my_rewards.py:correct=1.0,brevity=0.2, with a finite "
            f"weight other than 0, got {spec!r}"
        )
    return weights


def checked_text(check: Callable[[str], Any]) -> AfterValidator:
    """A validator of optional text: `check` raises ValueError for text that is not as expected."""

    def validate(text: str | None) -> str | None:
        if text is not None:
            check(text)
        return text

    return AfterValidator(validate)


class TaskSettings(Section):
    """The problems, and the reward of an answer."""

    task: Annotated[str, AfterValidator(known_task)] = setting(
        "graded_chain_sum",
        "Built in: graded_chain_sum, retry, in which longer responses can be more often right, "
        "worked_sums, or math: the problems of --train_data. "
        "reasoning_gym:NAME, or FILE.py:CLASS: a task of your own.",
    )
    task_settings: Annotated[str | None, checked_text(task_arguments)] = setting(
        None, "Arguments of the task as a JSON object, such as '{\"largest\": 20}'."
    )
    reward: Annotated[str | None, checked_text(reward_weights)] = setting(
        None,
        "Rewards of your own, FILE.py:NAME=WEIGHT,...: functions of prompt, response and answer. The name correct is "
        "the task's reward, which is the only one by default.",
    )
    wrong_reward: float = setting(-1.0, "Reward of a wrong answer; a right one gets 1.", le=0)
    overlong_buffer: Count | None = setting(
        None, "Soft overlong penalty: tokens before the limit over which it grows (DAPO eq. 13)."
    )
    overlong_factor: Positive = setting(1.0, "Size of the overlong penalty at the limit.")
    overlong_filter: bool = setting(False, "Leave responses cut at the limit out of the loss (DAPO section 3.4).")
    control: Literal["none", "blame", "damp", "random_blame", "random_reward"] = setting(
        "none",
        "Planted control. blame: a negative advantage falls only on the first wrong step of a response; damp: its "
        "sum is spread over the response; random_blame: it falls on a step at random. random_reward: the reward is "
        "a coin toss.",
    )

    @property
    def is_demonstrated(self) -> bool:
        """Whether the task comes with demonstrations, from which the tiny model learns it."""
        return self.task in DEMONSTRATED

    @property
    def needs_steps(self) -> bool:
        """Whether the control needs a task whose individual steps can be checked."""
        return self.control in ("blame", "damp", "random_blame")


def iso_date(value: str) -> str:
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise ValueError(f"--prompt_date: expected a day as YYYY-MM-DD, got {value!r}") from None


def known_format(value: str) -> str:
    """Refuse an answer format that is neither a name nor a regular expression with a group."""
    try:
        is_known = value in ANSWER_FORMATS or re.compile(value).groups > 0
    except re.error:
        is_known = False
    if not is_known:
        raise ValueError(
            f"--answer_format: expected {', '.join(ANSWER_FORMATS)} or a regular expression with a group, such as "
            f"'The answer is (-?[0-9]+)', got {value!r}"
        )
    return value


class DataSettings(Section):
    """The problems of task math: a shipped data set's name, OWNER/NAME:FILE, or a path."""

    train_data: str | None = setting(
        None, "Trained on. A hub data set may end in @COMMIT; a path in .parquet, .jsonl or .json."
    )
    eval_data: str | None = setting(None, "Evaluated on: one or more of the same, with commas.")
    prompt_template: Literal["chat", "plain"] = setting(
        "chat", "chat: the tokenizer's chat template. plain: the prompt without a template."
    )
    prompt_date: Annotated[str, AfterValidator(iso_date)] = setting(
        "2026-01-01", "The day (ISO 8601) that chat templates print as today's: the same in every run."
    )
    answer_format: Annotated[str, AfterValidator(known_format)] = setting(
        "answer_line",
        "Where the answer is read. answer_line: a last line 'Answer: 5'; boxed: \\boxed{5}; the prompt asks for these. "
        "hash: after ####; last_number; or a regular expression, whose first group it is.",
    )
    max_prompt_tokens: Count = setting(2048, "Longer prompts are left out, and counted.")


def check_task(task: TaskSettings, data: DataSettings, max_response_tokens: int) -> None:
    """Raise ValueError for combinations of task and data settings that are not supported."""
    buffer = task.overlong_buffer
    if buffer is not None and buffer >= max_response_tokens:
        raise ValueError(
            f"--overlong_buffer {buffer} must be below --max_response_tokens {max_response_tokens}: lower it"
        )
    if task.task == "math" and task.needs_steps:
        raise ValueError(
            f"--control {task.control} needs a task whose individual steps can be checked, got math: "
            "use a task of the tiny model, or --control random_reward"
        )
    if task.task_settings and (task.is_demonstrated or task.task == "math"):
        raise ValueError(f"--task_settings needs a task with arguments, got {task.task}: leave it out")
    if task.task != "math" and (data.train_data or data.eval_data):
        flag = "train_data" if data.train_data else "eval_data"
        raise ValueError(f"--{flag} needs --task math, got {task.task}, which makes its own problems: pass it")
