r"""Reads the answer from a response: the formats of --answer_format, and the lenient reading recorded beside each.

boxed                the content of the only box after the reasoning (the prompt asks for it)
answer_line          what follows the last "Answer:", as DAPO's verifier reads it (the prompt asks for it)
hash                 the rest of the line after the last `####`, as GSM8K writes its answers (no instruction is added)
last_number          the last number of the response, as lm-eval's flexible extraction reads it
a regular expression the first group of its last match

The lenient reading is the strict one where there is one, else the first of boxed, answer_line, hash and last_number
that finds an answer. What a run gains by the strict reading alone is format.
"""

import re
from collections.abc import Callable, Iterator

MAX_ANSWER_CHARACTERS = 2_000

# An escaped character is one token, so \} closes nothing, and `\\boxed` is a line break followed by the word "boxed".
TOKEN = re.compile(r"\\boxed(?![a-zA-Z])\s*(?P<open>\{)?|\\.|[{}]", re.DOTALL)
NESTED = re.compile(r"\s*\\boxed\s*\{(.*)\}\s*", re.DOTALL)
# Emphasis may close before or after the colon. A display may span lines if nothing follows it on the last one.
ANSWER_LINE = re.compile(
    r"answer\s*[*_`]{0,3}\s*[:\uff1a](?:[*_`]{1,3}(?=\s))?\s*"
    r"((?:\\\[.*?\\\]|\$\$.*?\$\$)(?=[\s.*_`]*(?:\n|$))|[^\n]+)",
    re.IGNORECASE | re.DOTALL,
)
LAST_CHARACTERS = 300  # DAPO's verifier looks only there
HASH = re.compile(r"(?<!#)####(?!#)[^\S\n]*([^\n]+)")
HASH_NUMBER = re.compile(r"(?<!#)####(?!#)\s*\$?(-?[\d.,]*\d)", re.ASCII)  # not a heading of markdown
# A minus after a digit, a letter or a bracket subtracts; a fraction is one number; commas group three digits.
LAST_NUMBER = re.compile(
    r"(?<![\d./])((?:(?<![\w)\]}])[-\u2212])?)\$?((?:\d{1,3}(?:,\d{3})+(?![\d,]*\d)|\d+|(?=\.\d))(?:\.\d+)?(?:/\d+)?)",
    re.ASCII,
)

# Special tokens of chats, which a base model may write without stopping at them.
SPECIAL = re.compile(
    r"<\|[\w.-]+\|>|<\uff5c[\w\u2581.-]+\uff5c>|</s>|<(?:eos|bos|pad|end_of_turn|start_of_turn|end_of_text|end_of_utterance)>"
)
FINAL_STOP = re.compile(r"(?<![.\\])[.\u3002]$")
SPACES = re.compile(r"[^\S\u2008\u2009\u202f]+")  # except thin spaces, which separate thousands
# Markup around a whole text, which its content must not close earlier.
ENCLOSED = re.compile(
    r"""(?P<mark>\*{1,3}|__?|`+|\$\$?|")\s*(?P<inner>(?:(?!(?P=mark)).)+?)\s*(?<!\\)(?P=mark)"""
    r"|\\\((?P<inline>(?:(?!\\\)).)+)\\\)|\\\[(?P<display>(?:(?!\\\]).)+)\\\]|“(?P<quoted>[^”]+)”",
    re.DOTALL,
)
EMPHASIS = ("**", "__", "*", "_", "`")


class NoAnswer(Exception):
    """The response has no valid answer; the message says why."""


def read_answer(response: str, answer_format: str) -> tuple[str | None, str | None, str | None]:
    """(strict answer, None, None), or (None, lenient answer if any, reason) if the format has no valid answer.

    Special tokens of chats count as line breaks.
    """
    text = SPECIAL.sub("\n", response)
    try:
        return (EXTRACTORS.get(answer_format) or last_of(re.compile(answer_format)))(text), None, None
    except NoAnswer as none:
        return None, read_leniently(text), str(none)


def read_leniently(response: str) -> str | None:
    """The answer in the first format that finds one, or None."""
    for extractor in (extract, extract_line, last_of(HASH_NUMBER), extract_last_number):
        try:
            return extractor(response)
        except NoAnswer:
            continue
    return None


def extract(response: str) -> str:
    """The content of the only box after the reasoning, found in linear time. Raises NoAnswer if there is none.

    The same answer given twice is one answer; a box inside a box counts only if it fills it.
    """
    conclusion = response.rpartition("</think>")[2]
    answer = ""
    for box in () if "<think>" in conclusion else boxes(conclusion):
        content = answer_in(box)
        if "\\boxed" in content:
            raise NoAnswer("nested boxes")
        if answer and content != answer:
            raise NoAnswer("several answers")
        answer = content
    return given(answer)


def extract_line(response: str) -> str:
    """The answer after the last "Answer:" in the last 300 characters (DAPO's). Raises NoAnswer if there is none."""
    lines = ANSWER_LINE.findall(response[-LAST_CHARACTERS:])
    return given(answer_in(tidy(unpaired_removed(lines[-1].strip()))) if lines else "")


def extract_last_number(response: str) -> str:
    """The last number, without a dollar sign and thousands separators. Raises NoAnswer if there is none."""
    sign, number = (LAST_NUMBER.findall(response) or [("", "")])[-1]
    return given(f"{'-' if sign else ''}{number.replace(',', '')}")


def last_of(pattern: re.Pattern[str]) -> Callable[[str], str]:
    """Reads the first group that took part in the pattern's last match."""

    def read(response: str) -> str:
        matches = list(pattern.finditer(response))
        found: str = next(filter(None, matches[-1].groups()), "") if matches else ""
        if len(found) > MAX_ANSWER_CHARACTERS:
            raise NoAnswer("too long")
        return given(tidy(found))

    return read


EXTRACTORS: dict[str, Callable[[str], str]] = {
    "boxed": extract,
    "answer_line": extract_line,
    "hash": last_of(HASH),
    "last_number": extract_last_number,
}


def given(answer: str) -> str:
    if not answer:
        raise NoAnswer("no answer")
    return answer


def boxes(text: str) -> Iterator[str]:
    """The contents of the outermost boxes. Raises NoAnswer for a box that is malformed or too long."""
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


def answer_in(text: str) -> str:
    """The text without markup, or the content of the innermost box if outer boxes hold nothing else."""
    while inner := NESTED.fullmatch(text):
        text = inner[1]
    return tidy(text)


def tidy(text: str) -> str:
    """The text with single spaces, without a final full stop and markup around the whole."""
    text = SPACES.sub(" ", text).strip()
    while (tidier := without_markup(FINAL_STOP.sub("", text).strip())) != text:
        text = tidier
    return text


def without_markup(text: str) -> str:
    inner = ENCLOSED.fullmatch(text)
    return next(filter(None, inner.group("inner", "inline", "display", "quoted"))).strip() if inner else text


def unpaired_removed(line: str) -> str:
    """The line without unpaired emphasis marks at its start or end."""
    for mark in EMPHASIS:
        if line.count(mark) % 2:
            line = re.sub(rf"^{re.escape(mark)}|(?<![\^_{{]){re.escape(mark)}(?=\.?$)", "", line).strip()
    return line
