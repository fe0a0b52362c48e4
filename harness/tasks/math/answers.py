r"""Extracts the answer from a response and compares its form with the gold answer's. Strict: leniency gets exploited.

math-verify is too lenient for a reward: it reads "5 6" as 11 and "5 \approx 6" as 5, and drops a \text{...} at the end.
So an answer may contain a mark (a list, a relation, words, ...) only if the gold answer contains it as well. The two
may differ in notation (notation.py), a name ("x = 5" for 5), a unit on one of them (units.py) and thousands separators.
Words are compared as words (words.py). docs/math-answers.md lists these decisions; answers.toml has the tables.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from harness.tasks.math.notation import END, notation
from harness.tasks.math.units import ANGLE, elements, without_units
from harness.tasks.math.words import PROSE, WORD_SYMBOL, spoken, unspaced, worded

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
# Special tokens of chats, which a base model may write without stopping at them.
SPECIAL = re.compile(
    r"<\|[\w.-]+\|>|<\uff5c[\w\u2581.-]+\uff5c>|</s>|<(?:eos|bos|pad|end_of_turn|start_of_turn|end_of_text|end_of_utterance)>"
)
FINAL_STOP = re.compile(r"(?<![.\\])[.\u3002]$")
SPACES = re.compile(r"[^\S\u2008\u2009\u202f]+")  # except thin spaces, which separate thousands
TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
# The content of markup must not close it earlier.
ENCLOSED = [re.compile(rf"{left}\s*((?:(?!{right}).)+?)\s*{right}", re.DOTALL) for left, right in TABLES["enclosed"]]
EMPHASIS = ("**", "__", "*", "_", "`")


class NoAnswer(Exception):
    """The response has no valid answer; the message says why."""


def extract(response: str) -> str:
    """The content of the only box after the reasoning, found in linear time. Raises NoAnswer if there is none.

    The same answer given twice is one answer; a box inside a box counts only if it fills it.
    """
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
    """The answer after the last "Answer:" in the last 300 characters (DAPO's). Raises NoAnswer if there is none."""
    lines = ANSWER_LINE.findall(response[-LAST_CHARACTERS:])
    line = tidy(unpaired_removed(lines[-1].strip())) if lines else ""
    answer = tidy(unnested(inner[1]) if (inner := NESTED.fullmatch(line)) else line)
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


def unnested(box: str) -> str:
    """The content of the innermost box, if the outer boxes hold nothing else."""
    while inner := NESTED.fullmatch(box):
        box = inner[1]
    return box


def tidy(text: str) -> str:
    """The text with single spaces, without a final full stop and markup around the whole."""
    text = SPACES.sub(" ", text).strip()
    while (tidier := without_markup(FINAL_STOP.sub("", text).strip())) != text:
        text = tidier
    return text


def without_markup(text: str) -> str:
    return next((inner[1] for markup in ENCLOSED if (inner := markup.fullmatch(text))), text)


def unpaired_removed(line: str) -> str:
    """The line without unpaired emphasis marks at its start or end."""
    for mark in EMPHASIS:
        if line.count(mark) % 2:
            line = re.sub(rf"^{re.escape(mark)}|(?<![\^_{{]){re.escape(mark)}(?=\.?$)", "", line).strip()
    return line


MARKS: dict[str, re.Pattern[str]] = {
    name: re.compile(mark.replace("<END>", END)) for name, mark in TABLES["marks"].items()
}
NUMBER_WITH_COMMAS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?=(?:\.\d+)?(?:\\%|\\times *1[^,]*)?$)")
NAMED = re.compile(
    rf"(?P<name>(?!{PROSE}?not?\b)\\?{PROSE}?[a-zA-Z]+(?:_(?:\w|\{{\w+\}}))?(?:\([a-zA-Z]\))?)\s*=(?P<value>[^=]*)"
)
# Degrees are converted to radians because the parser drops the degree sign.
DEGREES = re.compile(r"(\d+(?:\.\d+)?|(?<![a-zA-Z])[a-zA-Z]|\\[a-zA-Z]+) *\^\\circ")
BRACED = re.compile(r"\{([^{}]*)\}")
LAST_WORD = re.compile(rf"(?<=\S)\s*({WORD_SYMBOL.pattern})$")


def same_terms(gold: str, answer: str) -> tuple[str, str]:
    """Both texts in the same notation, without differences that are allowed: a name on one of them, and units."""
    gold, answer = plain(gold), plain(answer)
    if ("=" in gold) != ("=" in answer):
        gold, answer = without_name(gold), without_name(answer)
    (gold_value, gold_unit), (value, unit) = without_units(gold), without_units(answer)
    if gold_unit and unit and gold_unit != unit:
        return rf"{finished(gold_value)} \text{{unit {gold_unit} }}", rf"{finished(value)} \text{{unit {unit} }}"
    gold, answer = finished(gold_value), finished(value)
    last = LAST_WORD.search(answer)
    if last and gold.endswith(last[1]) and gold != last[1]:  # the same noun on both, although it is not a known unit
        gold, answer = gold.removesuffix(last[1]).strip(), answer.removesuffix(last[0]).strip()
    return gold, answer


def plain(text: str) -> str:
    r"""The text in plain notation, with the content of \text{...} inline and without braces around the whole."""
    text = spoken(notation(text))
    while braced := BRACED.fullmatch(text):
        text = braced[1].strip()
    return text


def finished(text: str) -> str:
    """The text with words as symbols, angles in radians and no thousands separators."""
    text = worded(DEGREES.sub(r"(\1\\pi/180)", text) if ANGLE.search(text) else text)
    number = NUMBER_WITH_COMMAS.match(text)
    return number[0].replace(",", "") + text[number.end() :] if number else text


def without_name(text: str) -> str:
    """The value in "x = 5", the values in "x = 5, x = 6"; any other text is returned unchanged."""
    if named := NAMED.fullmatch(text):
        return named["value"].strip()
    parts = [NAMED.fullmatch(element.strip()) for element in elements(text)]
    if len({part["name"] for part in parts if part}) == 1 and all(parts):
        return ", ".join(part["value"].strip() for part in parts if part)
    return text


def same_text(gold: str, answer: str) -> bool:
    """Whether both are the same text in plain notation, units included."""
    return unspaced(finished(plain(gold))) == unspaced(finished(plain(answer)))


def excess(gold: str, answer: str) -> str | None:
    """A mark that the answer has and the gold answer lacks, or None. Both must come from `same_terms`."""
    for name, mark in MARKS.items():
        if mark.search(answer) and (name == "another unit" or not mark.search(gold)):
            return name
    return "other words" if WORD_SYMBOL.search(gold + answer) else None
