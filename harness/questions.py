"""Mathematical questions with their answers, from rows of the published schemas; each question once.

chat    `prompt`: chat messages, `reward_model.ground_truth` (DAPO-Math-17k and AIME 2024 as DAPO published them)
plain   `problem` or `question`, and `answer` (AIME 2025, MATH-500; of GSM8K's answer what stands behind its ####)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.data_files import DataFile, rows_of
from harness.errors import UsageError

# DAPO's words around a problem: the prompts of its data set have them, and other problems get them with
# --answer_format answer_line.
DAPO_BEFORE = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
DAPO_AFTER = '\n\nRemember to put your answer on its own line after "Answer:".'
# Qwen2.5-Math's own instruction, here behind the problem: a base model's template may have a system message already.
BOXED_AFTER = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."

Message = tuple[str, str]  # role, content


@dataclass(frozen=True)
class Question:
    """A problem in its own words, its answer, and what the data set says before it, if anything."""

    text: str
    answer: str
    before: tuple[Message, ...] = ()  # a system message, earlier turns

    @property
    def identity(self) -> str:
        """What makes two questions one: the words, whatever their spacing."""
        return " ".join(self.text.split())


@dataclass(frozen=True)
class Questions:
    """The distinct questions of a file."""

    file: DataFile
    rows: int
    distinct: tuple[Question, ...]
    conflicting: int = 0  # questions left out, since the file has several answers for them


def read_questions(file: DataFile, flag: str) -> Questions:
    """A file's questions in its order, each once. Raises UsageError where a row is not of a known schema."""
    found: dict[str, Question] = {}
    conflicting: set[str] = set()
    rows = 0
    for row in rows_of(file, flag):
        rows += 1
        try:
            question = question_of(row)
        except ValueError as fault:
            raise UsageError(f"--{flag}: {file.source}, row {rows}: {fault}") from None
        first = found.setdefault(question.identity, question)
        if first.answer != question.answer:
            conflicting.add(question.identity)
    distinct = tuple(question for key, question in found.items() if key not in conflicting)
    if not distinct:
        raise UsageError(f"--{flag}: {file.source}: expected questions with one answer each, got none: see its rows")
    return Questions(file, rows, distinct, len(conflicting))


def question_of(row: Mapping[str, Any]) -> Question:
    """The question of a row; raises ValueError, in words, where there is none."""
    if isinstance(row.get("prompt"), list):
        truth = row.get("reward_model")
        answer = truth.get("ground_truth") if isinstance(truth, Mapping) else None
        return from_messages(row["prompt"], text_of(answer, "reward_model.ground_truth", row))
    column = next((name for name in ("problem", "question", "prompt") if name in row), "problem")
    answer = text_of(row.get("answer"), "answer", row)
    return Question(text_of(row.get(column), column, row).strip(), answer.rpartition("####")[2].strip())


def from_messages(messages: Iterable[Any], answer: str) -> Question:
    """The question of chat messages, of which the last is the user's; the words that ask for a form are taken off."""
    turns = [
        (str(turn["role"]), turn["content"])
        for turn in messages
        if isinstance(turn, Mapping) and isinstance(turn.get("content"), str) and "role" in turn
    ]
    if not turns or turns[-1][0] != "user":
        raise ValueError("expected prompt to be chat messages {role, content} that end with the user's, got others")
    *before, (_, text) = turns
    return Question(bare(text), answer.strip(), tuple(before))


def bare(text: str) -> str:
    """A problem without the words that ask for a form of answer."""
    text = text.replace("\r\n", "\n").strip()
    for start, end in ((DAPO_BEFORE.strip(), DAPO_AFTER.strip()), ("", BOXED_AFTER.strip())):
        if text.startswith(start) and text.endswith(end):
            return text[len(start) : -len(end)].strip()
    return text


def text_of(value: Any, column: str, row: Mapping[str, Any]) -> str:
    """A column's text, or its number as text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        names = ", ".join(sorted(map(str, row))) or "none"
        wanted = "prompt (chat messages) and reward_model.ground_truth, or problem (or question) and answer"
        raise ValueError(f"expected columns {wanted}; got nothing in {column}, of the columns {names}: rename them")
    return value


def overlap(training: Questions, evaluation: Questions) -> list[Question]:
    """The evaluation's questions that stand in the training data too, word for word."""
    trained = {question.identity for question in training.distinct}
    return [question for question in evaluation.distinct if question.identity in trained]
