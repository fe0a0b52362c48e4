"""Reads distinct mathematical questions and their answers from rows in either of the published schemas.

chat    `prompt` with chat messages, `reward_model.ground_truth` (DAPO-Math-17k and AIME 2024 as DAPO published them)
plain   `problem` or `question`, and `answer` (AIME 2025, MATH-500; in GSM8K the part of the answer after ####)

Rows without a question or an answer, and questions with contradicting answers, are counted and left out.
"""

import textwrap
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

from harness.errors import UsageError
from harness.files import sha256_of
from harness.tasks.math.answers import tidy
from harness.tasks.math.checker import MathChecker
from harness.tasks.math.files import data_file, encodable, rows_of, text_of
from harness.tasks.task import Message, Question

# DAPO's instructions around a problem. Its data set contains them; --answer_format answer_line adds them to others.
DAPO_BEFORE = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
DAPO_AFTER = '\n\nRemember to put your answer on its own line after "Answer:".'
# Qwen2.5-Math's instruction, placed after the problem because a base model's template may have its own system message.
BOXED_AFTER = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."
# The texts before and after a problem, by answer format; no others have any.
AROUND = {"answer_line": (DAPO_BEFORE, DAPO_AFTER), "boxed": ("", BOXED_AFTER)}

CHAT = "expected prompt to be chat messages {role, content} that end with the user's"


@dataclass(frozen=True)
class Questions:
    """The distinct questions in a file, and what is recorded of it."""

    name: str
    distinct: tuple[Question, ...]
    facts: dict[str, Any]  # where it came from, its rows, and how many of them and of the questions were left out


def read_questions(given: str, flag: str) -> Questions:
    """The distinct questions in order of the file that a flag's value names.

    Raises UsageError if it cannot be found, a row cannot be read or no question is left.
    """
    file = data_file(given, flag)
    found: dict[str, dict[str, Question]] = {}  # by question identity and answer, in order
    rows = incomplete = 0
    for rows, row in enumerate(rows_of(file, flag), start=1):
        try:
            question = question_of(row)
        except ValueError as fault:
            raise UsageError(f"--{flag}: {file.source}, row {rows}: {fault}") from None
        if question.text and question.answer.strip("$. "):  # `tidy` strips these from an answer
            found.setdefault(question.identity, {}).setdefault(question.answer, question)
        else:
            incomplete += 1
    if not found:
        names = textwrap.shorten(", ".join(sorted(map(str, row))), 300, placeholder=" ...") or "none"
        raise UsageError(
            f"--{flag}: {file.source}: expected columns prompt (chat messages) and reward_model.ground_truth, or "
            f"problem (or question) and answer; got no row with both, of the columns {names}: rename them or fill them "
            "in (JSON: a row is an object, one on each line or all in one array)"
        )
    conflicting = conflicts({key: tuple(answers) for key, answers in found.items() if len(answers) > 1})
    distinct = tuple(next(iter(answers.values())) for key, answers in found.items() if key not in conflicting)
    if not distinct:
        raise UsageError(f"--{flag}: {file.source}: expected questions with one answer each, got none: see its rows")
    left = {"distinct": len(distinct), "conflicting": len(conflicting), "incomplete": incomplete}
    whence = {"source": file.source, "revision": file.revision, "sha256": sha256_of(file.path), "rows": rows}
    return Questions(file.name, distinct, whence | left)


def conflicts(answers: Mapping[str, tuple[str, ...]]) -> set[str]:
    """The questions whose answers differ: the checker does not accept each one for the first and the first for it."""
    if not answers:
        return set()
    pairs = {
        key: [pair for one in map(tidy, others) for pair in ((tidy(first), one), (one, tidy(first)))]
        for key, (first, *others) in answers.items()
    }
    with closing(MathChecker()) as checker:
        verdicts = checker.verdicts(chain(*pairs.values()))
        return {key for key, some in pairs.items() if any(verdicts[pair][0] != "right" for pair in some)}


def question_of(row: Mapping[str, Any]) -> Question:
    """The question in a row; missing text or answer is left empty. Raises ValueError if the row cannot be read."""
    model = row.get("reward_model")
    truth = model.get("ground_truth") if isinstance(model, Mapping) else None
    column = next((name for name in ("problem", "question", "prompt") if name in row), "problem")
    # Chat messages beside a plain question count only if there is a `reward_model`.
    if isinstance(row.get("prompt"), list) and ("reward_model" in row or column == "prompt"):
        return from_messages(row["prompt"], text_of(truth, "reward_model.ground_truth").strip())
    answer = text_of(row.get("answer", truth), "answer").rpartition("####")[2]
    return Question(text_of(row.get(column), column).strip(), answer.strip())


def from_messages(messages: list[Any], answer: str) -> Question:
    """The question in chat messages, without instructions. Raises ValueError unless the last message is the user's."""
    *before, (role, text) = [turn_of(turn) for turn in messages] or [("user", "")]
    if role != "user":
        raise ValueError(f"{CHAT}, got {role!r} last: remove what follows the question")
    said = tuple(turn for turn, given in zip(before, messages, strict=False) if given.get("content") is not None)
    return Question(bare(text), answer, said)


def turn_of(turn: Any) -> Message:
    """A message's role and text; the text may be given in parts or be null. Raises ValueError for anything else."""
    role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, Mapping) else (None, None)
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text") or "") for part in content)
    if not isinstance(role, str) or not isinstance(content, str | None):
        raise ValueError(f"{CHAT}, got something else: write each content as text")
    return encodable(role, "prompt"), encodable(content or "", "prompt")


def bare(text: str) -> str:
    """A problem without the known instructions on the answer format."""
    text = text.replace("\r\n", "\n").strip()
    for before, after in AROUND.values():
        start, end = before.strip(), after.strip()
        if text.startswith(start) and text.endswith(end):
            return text[len(start) : -len(end)].strip()
    return text
