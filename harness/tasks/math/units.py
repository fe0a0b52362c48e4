r"""Recognizes the unit of an answer. Only the units listed in units.toml count.

A unit stands at the end of a list element, or before it if it is a currency sign. All spellings of a unit are equal:
5 km/h is 5 kilometers per hour. Units are never converted: 5 cm is not 50 mm. A word that changes the number
("million", "squared", "below zero", "pair") is not a unit.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from harness.tasks.math.words import PROSE

UNITS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
PREFIXES = {"": "", "k": "kilo", "M": "mega", "G": "giga", "d": "deci", "c": "centi", "m": "milli", "n": "nano"}
SIGNS = {r"\$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee"}
MODIFIERS = {"square": "^2", "sq": "^2", "cubic": "^3", "cu": "^3"}  # before a unit
POWERS = {"squared": "^2", "cubed": "^3"}  # after it

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


NAMES = dict(spellings()) | {"hertz": "Hz"}

# Possessive quantifiers keep matching linear. A match never starts inside a run of letters.
TOKEN = rf"{PROSE}?[a-zA-Z]++\.?|\^\\circ|\^\s*\{{?\s*-?\d\s*\}}?|/|\\cdot(?![a-zA-Z])|\s"
LONGEST = 80  # maximum characters of a unit
TAIL = re.compile(rf"(?<=\S)(?:(?<![a-zA-Z])|(?![a-zA-Z]))(?:{TOKEN})++$")
PART = re.compile(
    rf"(?P<degree>\^\\circ)|\^[\s{{]*(?P<power>-?\d)[\s}}]*|(?P<over>/)|(?P<prose>{PROSE}?)(?<![\\a-zA-Z])(?P<word>[a-zA-Z]+)\.?"
)
WHOLE = re.compile(r"/?[^/^ ]+(?:\^\d)?(?:[/ ][^/^ ]+(?:\^\d)?)*")
SCALE = re.compile(rf"(?:\^\\circ|(?<![a-zA-Z]){PROSE}?degrees?)\s*{PROSE}?([CcFf])(?:elsius|ahrenheit)?(?![a-zA-Z])")
SCALES = {"c": rf" {PROSE}celsius", "f": rf" {PROSE}fahrenheit"}
FRACTION = re.compile(rf"\\frac\s*\{{(\s*{PROSE}[a-zA-Z\s]+)\}}\s*\{{(\s*{PROSE}[^{{}}+-]+)\}}$")
CURRENCY = re.compile(r"(?P<minus>-?)\s*(?P<sign>\\\$|[€£¥₹])\s*(?P<value>\S.*)")
CURRENCY_AFTER = re.compile(r"(?P<minus>)(?P<value>.*\d)\s*(?P<sign>\\\$|[€£¥₹])")
BASE = re.compile(r"(-?[\dA-Z]*\d[\dA-Z.]*)\s*_[\s{]*(\d+)[\s}]*")
VALUE = re.compile(r".*(?:\d|\\[a-zA-Z]).*|-?\s*[a-zA-Z]")
ANGLE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")  # sin 30° is not a number with a unit


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
        return based[1], f"base {int(based[2])}"
    text = FRACTION.sub(r"\1/\2", SCALE.sub(lambda scale: SCALES[scale[1].lower()], text))
    money = CURRENCY.fullmatch(text) or CURRENCY_AFTER.fullmatch(text)
    if money is None:
        return split_tail(text)
    sign, (value, unit) = SIGNS[money["sign"]], split_tail(money["minus"] + money["value"])
    if unit.startswith("/"):
        return value, sign + unit
    return (value, sign) if unit in ("", sign) else (text, "")


def split_tail(text: str) -> tuple[str, str]:
    """Split the text at its longest ending that is a unit: the value, and the unit's canonical name or ""."""
    tail = TAIL.search(text)
    for part in PART.finditer(text, tail.start()) if tail and len(tail[0]) <= LONGEST else ():
        start = part.start()
        value, unit = text[:start].strip(), unit_name(text[start:], spaced=text[start - 1].isspace())
        if unit and VALUE.fullmatch(value) and not ("degree" in unit and ANGLE.search(value)):
            return value, unit
    return text, ""


def unit_name(text: str, *, spaced: bool) -> str:
    """The canonical name of the unit that the text spells, or "". `spaced`: a space precedes the text."""
    name = modifier = ""
    for part in PART.finditer(text):
        word = part["word"] or ""
        if part["over"] or word == "per":
            name += "/"
        elif part["power"] or word in POWERS:
            name += POWERS.get(word, f"^{part['power']}")
        elif word in MODIFIERS:
            modifier = MODIFIERS[word]
        else:
            sure = bool(part["prose"]) or (name.endswith("/") and name != "/")
            unit = "degree" if part["degree"] else unit_word(word, sure, spaced or name != "")
            if not unit:
                return ""
            name += (" " if name and not name.endswith("/") else "") + unit + modifier
            modifier = ""
    above, over, below = re.sub(r"(?:^| )([^/^ ]+)\^-(\d)", r"/\1^\2", name).replace("^1", "").partition("/")
    name = " ".join(sorted(above.split())) + over + below
    return name if WHOLE.fullmatch(name) and not modifier else ""


def unit_word(word: str, sure: bool, spaced: bool) -> str:
    """The unit that a word names, or "". Abbreviations are case-sensitive, whole words are not.

    Unless the word is `sure` to be prose, short words count as products of variables.
    """
    attached = len(word) == 2 and not spaced and word not in ATTACHED
    if not sure and (len(word) == 1 or word in PROSE_ONLY or attached):
        return ""
    return NAMES.get(word) or (NAMES.get(word.lower(), "") if len(word) > 2 and word[1:].islower() else "")
