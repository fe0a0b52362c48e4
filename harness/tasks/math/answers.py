r"""The answer that a response gives, in one of two forms. Strict on purpose: what is read leniently is soon exploited.

boxed        what stands in its one \boxed{...} after the reasoning. `\boxed 5` without braces and a box that never
             closes leave the whole response without an answer; \fbox is no box. A box inside a box counts only if it is
             all of it. The same answer twice is one answer; two that differ are none.
answer_line  what follows the last "Answer:" on its line, within the last 300 characters: DAPO's form, as its authors
             read it. A display \[...\] may follow on lines of its own. A box around all of it is taken off.

In both, a chat's tokens end a line, and markup around all of an answer (`**5**`, backticks, dollars, quotes) is not
part of it.
"""

import re
from collections.abc import Callable, Iterator
from typing import Literal

AnswerFormat = Literal["answer_line", "boxed"]

MAX_ANSWER_CHARACTERS = 2_000

# An escaped character is one token, so \} closes nothing and `\\boxed` is a new line and the word "boxed".
TOKEN = re.compile(r"\\boxed(?![a-zA-Z])\s*(?P<open>\{)?|\\.|[{}]", re.DOTALL)
NESTED = re.compile(r"\s*\\boxed\s*\{(.*)\}\s*", re.DOTALL)
# Emphasis may close before or after the colon. A display may take several lines, but nothing else stands on its last.
ANSWER_LINE = re.compile(
    r"answer\s*[*_`]{0,3}\s*[:\uff1a](?:[*_`]{1,3}(?=\s))?\s*"
    r"((?:\\\[.*?\\\]|\$\$.*?\$\$)(?=[\s.*_`]*(?:\n|$))|[^\n]+)",
    re.IGNORECASE | re.DOTALL,
)
LAST_CHARACTERS = 300  # where DAPO's verifier looks
# A chat's tokens, which a base model may write and go on after.
SPECIAL = re.compile(
    r"<\|[\w.-]+\|>|<\uff5c[\w\u2581.-]+\uff5c>|</s>|<(?:eos|bos|pad|end_of_turn|start_of_turn|end_of_text|end_of_utterance)>"
)
FINAL_STOP = re.compile(r"(?<![.\\])[.\u3002]$")
SPACES = re.compile(r"[^\S\u2008\u2009\u202f]+")  # not the thin ones, which separate thousands
# Markup that opens and closes; the content may not close it before.
ENCLOSED = [
    re.compile(rf"{left}\s*((?:(?!{right}).)+?)\s*{right}", re.DOTALL)
    for left, right in (
        (r"\*{2,3}", r"\*{2,3}"),
        (r"\*", r"\*"),
        ("__", "__"),
        ("_", "_"),
        ("`+", "`+"),
        (r"\$\$", r"(?<!\\)\$\$"),
        (r"\$", r"(?<!\\)\$"),
        (r"\\\(", r"\\\)"),
        (r"\\\[", r"\\\]"),
        ('"', '"'),
        ("“", "”"),
    )
]
EMPHASIS = ("**", "__", "*", "_", "`")


class NoAnswer(Exception):
    """The response gives no answer that counts; the message says why."""


def extract(response: str) -> str:
    """The answer; raises NoAnswer. The time grows with the length alone, whatever the text."""
    conclusion = response.rpartition("</think>")[2]
    answer = ""
    for box in () if "<think>" in conclusion else boxes(conclusion):
        content = tidy(unnested(box))
        if "\\boxed" in content:
            raise NoAnswer("nested boxes")
        if answer and content != answer:
            raise NoAnswer("several answers")
        answer = content
    if not answer:
        raise NoAnswer("no answer")
    return answer


def extract_line(response: str) -> str:
    """The same of DAPO's last line."""
    lines = ANSWER_LINE.findall(response[-LAST_CHARACTERS:])
    answer = tidy(unnested_line(tidy(without_loose(lines[-1].strip())))) if lines else ""
    if not answer:
        raise NoAnswer("no answer")
    return answer


def unnested_line(line: str) -> str:
    """The content of a box that is all of the line, in dollars or not."""
    return unnested(inner[1]) if (inner := NESTED.fullmatch(line)) else line


def boxes(text: str) -> Iterator[str]:
    """The contents of the outermost boxes."""
    depth = start = 0
    for token in TOKEN.finditer(text):
        opens = token["open"] is not None or token[0] == "{"
        if depth > 0:
            if token.start() - start > MAX_ANSWER_CHARACTERS:
                raise NoAnswer("too long")
            depth += opens - (token[0] == "}")
            if depth == 0:
                yield text[start : token.start()]
        elif token[0].startswith("\\boxed"):
            if not opens:
                raise NoAnswer("no braces")
            depth, start = 1, token.end()
    if depth > 0:
        raise NoAnswer("unclosed box")


def unnested(box: str) -> str:
    """The innermost of boxes that hold nothing but a box."""
    while inner := NESTED.fullmatch(box):
        box = inner[1]
    return box


def tidy(text: str) -> str:
    """The text with single spaces, without the final stop and markup around all of it."""
    text = SPACES.sub(" ", text).strip()
    while (tidier := enclosed(FINAL_STOP.sub("", text).strip())) != text:
        text = tidier
    return text


def enclosed(text: str) -> str:
    """The content of markup around all of the text, else the text."""
    return next((inner[1] for markup in ENCLOSED if (inner := markup.fullmatch(text))), text)


def without_loose(line: str) -> str:
    """The line without a mark of emphasis at its start or end that has no partner on it."""
    for mark in EMPHASIS:
        if line.count(mark) % 2:
            line = re.sub(rf"^{re.escape(mark)}|(?<![\^_{{]){re.escape(mark)}(?=\.?$)", "", line).strip()
    return line


EXTRACTORS: dict[AnswerFormat, Callable[[str], str]] = {"boxed": extract, "answer_line": extract_line}
