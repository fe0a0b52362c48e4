"""Formats questions as prompts: chat template and length limit."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from harness.config.task import DataSettings
from harness.errors import UsageError, as_usage_error
from harness.model.policy import Policy, encoded
from harness.tasks.task import Message, Problem, Question

RENDERED_TWICE = 16  # prompts rendered again, to detect a template with random choices


def prompts_of(
    questions: Sequence[Question], around: tuple[str, str], settings: DataSettings, policy: Policy
) -> tuple[Problem, ...]:
    """The problems of different questions, in order, but for those whose prompts are too long.

    around: instructions before and after the text of each question.

    Raises UsageError unless the chat template renders a distinct prompt for each question that leaves room to answer.
    """
    messages = [question.messages(around) for question in questions]
    texts = [rendered(one, settings, policy.tokenizer) for one in messages]
    again = [rendered(one, settings, policy.tokenizer) for one in messages[:RENDERED_TWICE]]
    if again != texts[:RENDERED_TWICE]:
        raise UsageError(
            f"--prompt_template {settings.prompt_template}: expected the same prompt each time, got others: the chat "
            "template makes a random choice; use --prompt_template plain, or another model"
        )
    check_open(messages, texts, settings, policy)
    problems = tuple(
        Problem(text, question.answer)
        for question, text in zip(questions, texts, strict=True)
        if len(policy.encode(text)) <= settings.max_prompt_tokens
    )
    if len({problem.prompt for problem in problems}) < len(problems):
        raise UsageError(
            f"--prompt_template {settings.prompt_template}: expected a different prompt for each question, got the "
            "same for several: the chat template leaves out the question or the system message that distinguishes them"
        )
    return problems


def check_open(
    messages: Sequence[Sequence[Message]], texts: Sequence[str], settings: DataSettings, policy: Policy
) -> None:
    """Raise UsageError if a prompt ends with an end token that does not open the assistant's turn (Phi-3's does)."""
    ends = tuple(filter(None, policy.tokenizer.convert_ids_to_tokens(sorted(policy.end_ids))))
    for one, text in zip(messages, texts, strict=True):
        if text.rstrip().endswith(ends) and text == rendered(one, settings, policy.tokenizer, opens_answer=False):
            raise UsageError(
                f"--prompt_template {settings.prompt_template}: expected prompts that the model can continue, got one "
                f"that ends with an end token, ...{text[-40:]!r}: use a model whose chat template opens the "
                "assistant's turn (add_generation_prompt), or --prompt_template plain"
            )


def rendered(messages: Sequence[Message], settings: DataSettings, tokenizer: Any, opens_answer: bool = True) -> str:
    """The prompt's text, without the begin-of-text token if the tokenizer would add it a second time."""
    if settings.prompt_template == "plain":
        return "\n\n".join(content for _, content in messages)
    if not tokenizer.chat_template:
        raise UsageError(
            "--prompt_template chat: expected a tokenizer with a chat template, got one without: use a model that has "
            "one, or --prompt_template plain"
        )
    turns = [{"role": role, "content": content} for role, content in messages]
    day = date.fromisoformat(settings.prompt_date)  # templates of Llama 3, Granite and SmolLM3 print today's
    roles = ", ".join(role for role, _ in messages)
    with as_usage_error(
        f"--prompt_template chat: expected a chat template that renders turns of {roles}, got one that does not (use "
        "--prompt_template plain, or another model)"
    ):
        made = {"tokenize": False, "add_generation_prompt": opens_answer, "strftime_now": day.strftime}
        text = str(tokenizer.apply_chat_template(turns, **made))
    is_twice = encoded(tokenizer, text)[:2] == (tokenizer.bos_token_id,) * 2
    return text.removeprefix(tokenizer.bos_token) if is_twice else text
