"""Questions as prompts: the words that ask for an answer format, the chat template, the limit of length."""

from collections.abc import Sequence
from typing import Any

from harness.errors import UsageError
from harness.policy import Policy
from harness.questions import BOXED_AFTER, DAPO_AFTER, DAPO_BEFORE, Message, Question
from harness.task import Problem
from harness.task_settings import DataSettings


def prompts_of(questions: Sequence[Question], settings: DataSettings, policy: Policy) -> tuple[dict[str, Problem], int]:
    """The problem of each question by its identity, and how many prompts were longer than the limit and left out."""
    texts = [rendered(messages_of(question, settings), settings, policy.tokenizer) for question in questions]
    problems = {
        question.identity: Problem(text, question.answer)
        for question, text in zip(questions, texts, strict=True)
        if len(policy.encode(text)) <= settings.max_prompt_tokens
    }
    return problems, len(questions) - len(problems)


def messages_of(question: Question, settings: DataSettings) -> list[Message]:
    """What is said to the model."""
    asked = {
        "answer_line": f"{DAPO_BEFORE}{question.text}{DAPO_AFTER}",
        "boxed": f"{question.text}{BOXED_AFTER}",
    }[settings.answer_format]
    return [*question.before, ("user", asked)]


def rendered(messages: Sequence[Message], settings: DataSettings, tokenizer: Any) -> str:
    """The prompt's text, without the token that the tokenizer itself puts before every text."""
    if settings.prompt_template == "plain":
        return "\n\n".join(content for _, content in messages)
    if not tokenizer.chat_template:
        raise UsageError(
            "--prompt_template chat: expected a tokenizer with a chat template, got one without: use a model that has "
            "one, or --prompt_template plain"
        )
    turns = [{"role": role, "content": content} for role, content in messages]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    adds_first = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    return text.removeprefix(tokenizer.bos_token) if adds_first else text
