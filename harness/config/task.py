"""Task, data and rewards."""

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from harness.config.base import Count, Positive, Section

TaskName = Literal["graded_chain_sum", "keyed_chain_sum", "math"]


class TaskSettings(Section):
    """The problems, and the reward of an answer."""

    task: TaskName = Field(
        default="graded_chain_sum",
        description="Problem generator (the keyed one is easier), or math: the problems of --train_data.",
    )
    wrong_reward: float = Field(default=-1.0, le=0, description="Reward of a wrong answer; a right one gets 1.")
    overlong_buffer: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Soft overlong penalty: tokens before the limit over which it grows (DAPO eq. 13)."
    )
    overlong_factor: Positive = Field(default=1.0, description="Size of the overlong penalty at the limit.")
    overlong_filter: bool = Field(
        default=False, description="Leave responses cut at the limit out of the loss (DAPO section 3.4)."
    )
    control: Literal["none", "blame", "damp", "random_blame", "random_reward"] = Field(
        default="none",
        description="Planted control. blame: a negative advantage falls only on the first wrong step of a response; "
        "damp: its sum is spread over the response; random_blame: it falls on a step at random. "
        "random_reward: the reward is a coin toss.",
    )


def iso_date(value: str) -> str:
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise ValueError(f"--prompt_date: expected a day as YYYY-MM-DD, got {value!r}") from None


class DataSettings(Section):
    """The problems of task math: a shipped data set's name, OWNER/NAME:FILE, or a path."""

    train_data: str | None = Field(
        default=None, description="Trained on. A hub data set may end in @COMMIT; a path in .parquet, .jsonl or .json."
    )
    eval_data: str | None = Field(default=None, description="Evaluated on: one or more of the same, with commas.")
    prompt_template: Literal["chat", "plain"] = Field(
        default="chat", description="chat: the tokenizer's chat template. plain: the prompt as it stands."
    )
    prompt_date: Annotated[str, AfterValidator(iso_date)] = Field(
        default="2026-01-01",
        description="The day (ISO 8601) that chat templates print as today's: the same in every run.",
    )
    answer_format: Literal["answer_line", "boxed"] = Field(
        default="answer_line",
        description="How a response must give its answer, and is told to: a last line 'Answer: 5', or \\boxed{5}.",
    )
    max_prompt_tokens: Count = Field(default=2048, description="Longer prompts are left out, and counted.")


def check_task(task: TaskSettings, data: DataSettings, max_response_tokens: int) -> None:
    """Raise ValueError for settings of task and data that do not go together."""
    buffer = task.overlong_buffer
    if buffer is not None and buffer >= max_response_tokens:
        raise ValueError(
            f"--overlong_buffer {buffer} must be below --max_response_tokens {max_response_tokens}: lower it"
        )
    if task.task == "math" and task.control not in ("none", "random_reward"):
        raise ValueError(
            f"--control {task.control} needs a task whose steps can be told right from wrong, got math: "
            "use a chain sum, or --control random_reward"
        )
    if task.task != "math" and (data.train_data or data.eval_data):
        flag = "train_data" if data.train_data else "eval_data"
        raise ValueError(f"--{flag} needs --task math, got {task.task}, which makes its own problems: pass it")
