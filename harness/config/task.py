"""Settings of the task, its data and its rewards."""

import re
from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator

from harness.config.base import Count, Positive, Section, setting

TaskName = Literal["graded_chain_sum", "keyed_chain_sum", "math"]
ANSWER_FORMATS = "answer_line", "boxed", "hash", "last_number"


class TaskSettings(Section):
    """The problems, and the reward of an answer."""

    task: TaskName = setting(
        "graded_chain_sum", "Problem generator (the keyed one is easier), or math: the problems of --train_data."
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
    if task.task == "math" and task.control not in ("none", "random_reward"):
        raise ValueError(
            f"--control {task.control} needs a task whose individual steps can be checked, got math: "
            "use a chain sum, or --control random_reward"
        )
    if task.task != "math" and (data.train_data or data.eval_data):
        flag = "train_data" if data.train_data else "eval_data"
        raise ValueError(f"--{flag} needs --task math, got {task.task}, which makes its own problems: pass it")
