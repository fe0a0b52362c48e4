"""Questions as prompts: the words that ask for an answer format, the chat template, the limit of length."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from harness.errors import UsageError, as_usage_error
from harness.policy import Policy
from harness.questions import BOXED_AFTER, DAPO_AFTER, DAPO_BEFORE, Message, Question
from harness.task import Problem
from harness.task_settings import DataSettings


def prompts_of(questions: Sequence[Question], settings: DataSettings, policy: Policy) -> tuple[dict[str, Problem], int]:
    """The problem of each question by its identity, and how many prompts were longer than the limit and left out.

    Raises UsageError where the chat template cannot render one, or closes it as if it were the model's own text.
    """
    texts = [rendered(messages_of(question, settings), settings, policy.tokenizer) for question in questions]
    problems = {
        question.identity: Problem(text, question.answer)
        for question, text in zip(questions, texts, strict=True)
        if len(policy.encode(text)) <= settings.max_prompt_tokens
    }
    ends = tuple(filter(None, policy.tokenizer.convert_ids_to_tokens(sorted(policy.end_ids))))
    if closed := [problem for problem in problems.values() if problem.prompt.rstrip().endswith(ends)]:
        raise UsageError(
            f"--prompt_template {settings.prompt_template}: expected prompts that the model goes on from, got one that "
            f"ends with an end token, ...{closed[0].prompt[-40:]!r}: use a model whose chat template opens the "
            "assistant's turn (add_generation_prompt), or --prompt_template plain"
        )
    if len({problem.prompt for problem in problems.values()}) < len(problems):
        raise UsageError(
            f"--prompt_template {settings.prompt_template}: expected another prompt for each question, got one for "
            "questions that differ in what stands before them: use a model whose chat template keeps system messages"
        )
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
    today = settings.prompt_date  # in place of the clock, which templates of Llama 3, Granite and SmolLM3 print
    roles = ", ".join(role for role, _ in messages)
    with as_usage_error(
        f"--prompt_template chat: expected a chat template that renders turns of {roles}, got one that does not (use "
        "--prompt_template plain, or another model)"
    ):
        text = str(
            tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, strftime_now=date.fromisoformat(today).strftime
            )
        )
    adds_first = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    return text.removeprefix(tokenizer.bos_token) if adds_first else text
