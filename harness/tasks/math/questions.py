"""Distinct mathematical questions and their answers, from rows of the published schemas.

chat    `prompt`: chat messages, `reward_model.ground_truth` (DAPO-Math-17k and AIME 2024 as DAPO published them)
plain   `problem` or `question`, and `answer` (AIME 2025, MATH-500; of GSM8K's answer what follows ####)

Rows without a question or an answer, and questions with several answers, are counted and left out.
"""

import re
import textwrap
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Any

from harness.errors import UsageError
from harness.tasks.math.answers import tidy
from harness.tasks.math.checker import MathChecker
from harness.tasks.math.files import DataFile, decoded, encodable, plain_decimal, rows_of, text_of

# DAPO's instructions around a problem: in the prompts of its data set, and added to others by --answer_format
# answer_line.
DAPO_BEFORE = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
DAPO_AFTER = '\n\nRemember to put your answer on its own line after "Answer:".'
# Qwen2.5-Math's instruction, but after the problem: a base model's template may already have a system message.
BOXED_AFTER = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."

NUMBER = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)

CHAT = "expected prompt to be chat messages {role, content} that end with the user's"

Message = tuple[str, str]  # role, content
Pair = tuple[str, str]  # two answers to one question


@dataclass(frozen=True)
class Question:
    """A problem without instructions, its answer, and the data set's messages before it."""

    text: str
    answer: str
    before: tuple[Message, ...] = ()  # a system message, earlier turns

    @property
    def words(self) -> str:
        """The problem's text whatever its spacing, without the messages before it."""
        return one_line(self.text)

    @property
    def identity(self) -> str:
        """Equal for equal questions: all messages and the problem, a line each, whatever their spacing."""
        return "\n".join(map(one_line, (*chain(*self.before), self.text)))


def one_line(text: str) -> str:
    return " ".join(text.split())


@dataclass(frozen=True)
class Questions:
    """The distinct questions of a file, and how many were left out."""

    file: DataFile
    rows: int
    distinct: tuple[Question, ...]
    conflicting: int = 0  # questions with several answers
    incomplete: int = 0  # rows without a question or an answer


def read_questions(file: DataFile, flag: str) -> Questions:
    """A file's questions in order, each once. Raises UsageError if a row cannot be read or no question is left."""
    found: dict[str, Question] = {}
    others: dict[str, dict[str, None]] = {}  # the other answers to a question
    rows = incomplete = 0
    for row in rows_of(file, flag):
        rows += 1
        try:
            question = question_of(row)
        except ValueError as fault:
            raise UsageError(f"--{flag}: {file.source}, row {rows}: {fault}") from None
        if not (question.text and question.answer.strip("$. ")):  # as `tidy` reads an answer
            incomplete += 1
            continue
        key = question.identity
        if found.setdefault(key, question).answer != question.answer:
            others.setdefault(key, {})[question.answer] = None
    if not found:
        raise UsageError(f"--{flag}: {file.source}: {no_question(row)}")
    pairs = {key: [(found[key].answer, other) for other in answers] for key, answers in others.items()}
    differ = conflicting_pairs(chain(*pairs.values()))
    conflicting = {key for key, compared in pairs.items() if not differ.isdisjoint(compared)}
    distinct = tuple(question for key, question in found.items() if key not in conflicting)
    if not distinct:
        raise UsageError(f"--{flag}: {file.source}: expected questions with one answer each, got none: see its rows")
    return Questions(file, rows, distinct, len(conflicting), incomplete)


def no_question(row: Mapping[str, Any]) -> str:
    """The message for a file without any question and answer; `row` is one of its rows."""
    names = textwrap.shorten(", ".join(sorted(map(str, row))), 300, placeholder=" ...") or "none"
    return (
        "expected columns prompt (chat messages) and reward_model.ground_truth, or problem (or question) and answer; "
        f"got no row with both, of the columns {names}: rename them or fill them in (JSON: a row is an object, one on "
        "each line or all in one array)"
    )


def conflicting_pairs(pairs: Iterable[Pair]) -> set[Pair]:
    """The pairs that are different answers: numbers by value, others unless the checker accepts each for the other."""
    differ: set[Pair] = set()
    unsure: dict[Pair, Pair] = {}
    for pair in pairs:
        first, other = canonical(pair[0]), canonical(pair[1])
        if first == other:
            continue
        if NUMBER.fullmatch(first) and NUMBER.fullmatch(other):
            differ.add(pair)
        else:
            unsure[pair] = first, other
    if not unsure:
        return differ
    with closing(MathChecker()) as checker:
        checker.learn(unsure.values())
        accepted = {pair: (b, a) for pair, (a, b) in unsure.items() if checker.known[a, b][0] == "right"}
        checker.learn(accepted.values())
        same = {pair for pair, turned in accepted.items() if checker.known[turned][0] == "right"}
    return differ | (unsure.keys() - same)


def canonical(answer: str) -> str:
    """The answer as `tidy` returns it, numbers as plain decimals."""
    text = tidy(answer)
    return plain_decimal(Decimal(text)) if NUMBER.fullmatch(text) else text


def question_of(row: Mapping[str, Any]) -> Question:
    """The question of a row, with empty text or answer if it has none. Raises ValueError if it cannot be read."""
    prompt = decoded(row.get("prompt"))
    if is_chat(prompt, row):
        return from_messages(prompt, text_of(ground_truth(row), "reward_model.ground_truth").strip())
    column = next((name for name in ("problem", "question", "prompt") if name in row), "problem")
    answer = text_of(row.get("answer", ground_truth(row)), "answer").rpartition("####")[2]
    return Question(text_of(row.get(column), column).strip(), answer.strip())


def ground_truth(row: Mapping[str, Any]) -> Any:
    truth = decoded(row.get("reward_model"))
    return truth.get("ground_truth") if isinstance(truth, Mapping) else None


def is_chat(prompt: Any, row: Mapping[str, Any]) -> bool:
    """Whether the question is chat messages, possibly as JSON text; a plain problem may begin with a bracket too."""
    if not isinstance(prompt, list) or ("reward_model" not in row and ("problem" in row or "question" in row)):
        return False
    return isinstance(row["prompt"], list) or any(isinstance(turn, Mapping) and "role" in turn for turn in prompt)


def from_messages(messages: list[Any], answer: str) -> Question:
    """The question of chat messages that end with the user's, without instructions. Raises ValueError otherwise."""
    turns = [turn_of(turn) for turn in messages] or [("user", "")]
    *before, (role, text) = turns
    if role != "user":
        raise ValueError(f"{CHAT}, got {role!r} last: cut what follows the question")
    said = tuple(turn for turn, given in zip(before, messages, strict=False) if given.get("content") is not None)
    return Question(bare(text), answer, said)


def turn_of(turn: Any) -> Message:
    """A message's role and text, which may come in parts or be null."""
    role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, Mapping) else (None, None)
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text") or "") for part in content)
    if not isinstance(role, str) or not isinstance(content, str | None):
        raise ValueError(f"{CHAT}, got others: write each content as text")
    return encodable(role, "prompt"), encodable(content or "", "prompt")


def bare(text: str) -> str:
    """A problem without the known instructions for the answer's format."""
    text = text.replace("\r\n", "\n").strip()
    for start, end in ((DAPO_BEFORE.strip(), DAPO_AFTER.strip()), ("", BOXED_AFTER.strip())):
        if text.startswith(start) and text.endswith(end):
            return text[len(start) : -len(end)].strip()
    return text


def overlap(training: Questions, evaluation: Questions) -> tuple[Question, ...]:
    """The evaluation questions whose words are in the training data too, whatever messages precede them."""
    trained = {question.words for question in training.distinct}
    return tuple(question for question in evaluation.distinct if question.words in trained)
