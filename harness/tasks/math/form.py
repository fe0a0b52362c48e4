r"""Compares the form of an answer with the gold answer's, before anything is computed. Strict: leniency gets exploited.

math-verify is too lenient for a reward: it reads "5 6" as 11 and "5 \approx 6" as 5, and drops a \text{...} at the end.
So an answer may contain a mark (a list, a relation, words, ...) only if the gold answer contains it as well. The two
may differ in notation (notation.py), a name ("x = 5" for 5), a unit on one of them (units.py) and thousands separators.
Words are compared as words (words.py). docs/math-answers.md lists these decisions; form.toml has the marks.
"""

import re
import tomllib
from pathlib import Path

from harness.tasks.math.notation import END, notation
from harness.tasks.math.units import elements, without_units
from harness.tasks.math.words import PROSE, WORD_SYMBOL, caseless, spoken, unspaced, worded

MARKS = {
    name: re.compile(mark.replace("<END>", END))
    for name, mark in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items()
}
NUMBER_WITH_COMMAS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?=(?:\.\d+)?(?:\\%|\\times *1[^,]*)?$)")
NAMED = re.compile(
    rf"(?P<name>(?!{PROSE}?not?\b)\\?{PROSE}?[a-zA-Z]+(?:_(?:\w|\{{\w+\}}))?(?:\([a-zA-Z]\))?)\s*=(?P<value>[^=]*)"
)
BRACED = re.compile(r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
LAST_WORD = re.compile(rf"(?<=\S)\s*({WORD_SYMBOL.pattern})$")


def same_terms(gold: str, answer: str) -> tuple[str, str]:
    """Both texts in the same notation, without differences that are allowed: a name on one of them, and units."""
    gold, answer = plain(gold), plain(answer)
    if unspaced(finished(gold)) == unspaced(finished(answer)):  # units included, known or not: `5 m` is 5\text{ m}
        return finished(answer), finished(answer)
    if ("=" in gold) != ("=" in answer):
        gold, answer = without_name(gold), without_name(answer)
    (gold_value, gold_unit), (value, unit) = without_units(gold), without_units(answer)
    gold, answer = finished(gold_value), finished(value)
    if gold_unit and unit and gold_unit != unit:
        return rf"{gold} \text{{unit {gold_unit} }}", rf"{answer} \text{{unit {unit} }}"
    last = LAST_WORD.search(answer)
    if last and gold.endswith(last[1]) and gold != last[1]:  # the same noun on both, although it is not a known unit
        gold, answer = gold.removesuffix(last[1]).strip(), answer.removesuffix(last[0]).strip()
    return gold, answer


def is_same(gold: str, answer: str) -> bool:
    """Whether two texts of `same_terms` are the same text, apart from the case of words."""
    return unspaced(caseless(gold)) == unspaced(caseless(answer))


def excess(gold: str, answer: str) -> str | None:
    """A mark that the answer has and the gold answer lacks, or None. Both must come from `same_terms`."""
    for name, mark in MARKS.items():
        if mark.search(answer) and (name == "another unit" or not mark.search(gold)):
            return name
    return "other words" if WORD_SYMBOL.search(gold + answer) else None


def plain(text: str) -> str:
    r"""The text in plain notation, with the content of \text{...} inline and without braces around the whole."""
    text = spoken(notation(text))
    while braced := BRACED.fullmatch(text):
        text = braced[1].strip()
    return text


def finished(text: str) -> str:
    """The text with words as symbols and no thousands separators."""
    text = worded(text)
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
