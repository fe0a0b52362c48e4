r"""Recognizes the unit of an answer. Only the units listed in units.toml count.

A unit stands at the end of a list element, or before it if it is a currency sign. All spellings of a unit are equal:
5 km/h is 5 kilometers per hour. Units are never converted: 5 cm is not 50 mm. A word that changes the number
("million", "squared", "below zero", "pair") is not a unit.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from harness.tasks.math.words import PROSE

UNITS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
PREFIXES = {"": "", "k": "kilo", "M": "mega", "G": "giga", "d": "deci", "c": "centi", "m": "milli", "n": "nano"}
SIGNS = {r"\$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee"}

# Outside \text these are products of variables, as is any other pair of letters without a space before it.
PROSE_ONLY = frozenset(("in", "mi", "deg", "rad", "pt", "qt", "ha", "gal", "yr", "wk", "cal", "mol", "bit"))
ATTACHED = frozenset(("km", "cm", "mm", "kg", "ft", "lb", "oz", "hr"))


def spellings() -> Iterator[tuple[str, str]]:
    """Pairs of a spelling and the unit's canonical name."""
    for group in (*UNITS["others"], *UNITS["counted"]):
        first, *others = group.split()
        yield from ((spelling, first) for word in (first, *others) for spelling in (word, f"{word}s", f"{word}es"))
    for group in UNITS["metric"]:
        first, *others = group.split()
        for short, long in PREFIXES.items():
            yield short + first, short + first
            for word in others:
                whole = (long if len(word) > 1 else short) + word
                yield from ((spelling, short + first) for spelling in (whole, f"{whole}s"))


NAMES = {spelling: name for spelling, name in spellings() if "/" not in spelling} | {"hertz": "Hz"}

# Possessive quantifiers keep matching linear. A match never starts inside a run of letters.
TOKEN = rf"{PROSE}?[a-zA-Z]++\.?|\^\\circ|\^\s*\{{?\s*-?\d\s*\}}?|/|\\cdot|\s"
LONGEST = 80  # maximum characters of a unit
TAIL = re.compile(rf"(?<=\S)(?:(?<![a-zA-Z])|(?![a-zA-Z]))(?:{TOKEN})++$")
PART = re.compile(
    rf"(?P<degree>\^\\circ)|\^[\s{{]*(?P<power>-?\d)[\s}}]*|(?P<over>/)|(?P<prose>{PROSE}?)(?P<word>[a-zA-Z]+)\.?|\\cdot|\s"
)
FRACTION = re.compile(rf"\\frac\s*\{{(\s*{PROSE}[a-zA-Z\s]+)\}}\s*\{{(\s*{PROSE}[^{{}}+-]+)\}}$")
CURRENCY = re.compile(r"(?P<minus>-?)\s*(?P<sign>\\\$|[€£¥₹])\s*(?P<value>\S.*)")
CURRENCY_AFTER = re.compile(r"(?P<value>.*\d)\s*(?P<sign>\\\$|[€£¥₹])")
BASE = re.compile(r"(?P<value>-?[\dA-Z]*\d[\dA-Z.]*)\s*_[\s{]*(?P<base>\d+)[\s}]*")
VALUE = re.compile(r".*(?:\d|\\[a-zA-Z]).*|-?\s*[a-zA-Z]")
ANGLE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")  # sin 30° is not a number with a unit
MODIFIERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
POWERS = {"squared": 2, "cubed": 3}
SCALES = {"C": "celsius", "F": "fahrenheit", "celsius": "celsius", "fahrenheit": "fahrenheit"}


def without_units(text: str) -> tuple[str, str]:
    """The list without its unit, and the unit; the unchanged text and "" if there is no unit or more than one."""
    parts = [without_unit(element) for element in elements(text)]
    units = {unit for _, unit in parts if unit}
    return (",".join(value for value, _ in parts), units.pop()) if len(units) == 1 else (text, "")


def elements(text: str) -> list[str]:
    """The parts of the text between commas that are not inside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def without_unit(text: str) -> tuple[str, str]:
    """The value and the canonical name of its unit, "" if it has none."""
    text = text.strip()
    if based := BASE.fullmatch(text):
        return based["value"], f"base {int(based['base'])}"
    text = FRACTION.sub(r"\1/\2", text)
    money = CURRENCY.fullmatch(text) or CURRENCY_AFTER.fullmatch(text)
    if money is None:
        return split_tail(text)
    sign, value = SIGNS[money["sign"]], money.groupdict().get("minus", "") + money["value"]
    value, unit = split_tail(value)
    if unit.startswith("/"):
        return value, sign + unit
    return (value, sign) if unit in ("", sign) else (text, "")


def split_tail(text: str) -> tuple[str, str]:
    """Split the text at its longest ending that is a unit: the value, and the unit's canonical name or ""."""
    tail = TAIL.search(text)
    for part in PART.finditer(text, tail.start()) if tail and len(tail[0]) <= LONGEST else ():
        if not (part["word"] or part["degree"] or part["over"]):
            continue
        start = part.start()
        value, unit = text[:start].strip(), unit_name(text[start:], spaced=text[start - 1].isspace())
        if unit and VALUE.fullmatch(value) and not ("degree" in unit and ANGLE.search(value)):
            return value, unit
    return text, ""


def unit_name(text: str, *, spaced: bool) -> str:
    """The canonical name of the unit that the text spells, or "". `spaced`: a space precedes the text."""
    powers: Counter[str] = Counter()
    last, sign, modifier = "", 1, 1
    for part in PART.finditer(text):
        word = part["word"]
        if part["over"] or word == "per":
            sign = -1
        elif part["power"] or word in POWERS:
            powers[last] *= int(part["power"] or POWERS[word])
        elif word in MODIFIERS:
            modifier = MODIFIERS[word]
        elif part["degree"] or word:
            sure = bool(part["prose"]) or (sign < 0 and last != "")
            scale = SCALES.get(word if word in SCALES else word.lower()) if last == "degree" and word else None
            name = scale or ("degree" if part["degree"] else unit_word(word, sure, spaced or last != ""))
            if not name:
                return ""
            if name in SCALES.values():
                del powers["degree"]
            last, over, below = name.partition("/")
            powers[last] += sign * modifier
            if over:
                powers[below] -= sign * modifier
            sign, modifier = 1, 1
    if not powers or "" in powers or sign < 0 or modifier > 1:
        return ""
    return joined(powers)


def joined(powers: Counter[str]) -> str:
    """The units with their powers in a fixed order, denominators last."""
    raised = [(name if abs(power) == 1 else f"{name}^{abs(power)}", power) for name, power in sorted(powers.items())]
    return " ".join(name for name, power in raised if power > 0) + "".join(
        f"/{name}" for name, power in raised if power < 0
    )


def unit_word(word: str, sure: bool, spaced: bool) -> str:
    """The unit that a word names, or "". Abbreviations are case-sensitive, whole words are not.

    Unless the word is `sure` to be prose, short words count as products of variables.
    """
    attached = len(word) == 2 and not spaced and word not in ATTACHED
    if not sure and (len(word) == 1 or word in PROSE_ONLY or attached):
        return ""
    return NAMES.get(word) or (NAMES.get(word.lower(), "") if len(word) > 2 and word[1:].islower() else "")
