# ruff: noqa: RUF001 - the characters are its subject
r"""Normalizes notation to plain TeX, so that two answers can be compared as text.

Unicode becomes TeX (√2, x², ½, π, full-width digits), style commands are dropped (\boldsymbol, \left, \dfrac,
dollars), and numbers in scientific or repeating notation become exact: 1e-05 is 1\times10^{-5}, 0.\overline{3} is
\frac{3}{9}. Words stay; words.py reads them. notation.toml has the tables.
"""

import re
import tomllib
import unicodedata
from pathlib import Path

TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
CHARACTERS = str.maketrans(
    {character: spelling for spelling, characters in TABLES["characters"].items() for character in characters}
)
# What NFKC would turn into plain characters on the line.
MARKED = [
    (re.compile("[\u00b2\u00b3\u00b9\u2070-\u207f]+"), r"^{\g<0>}"),
    (re.compile("[\u2080-\u209c]+"), r"_{\g<0>}"),
    (re.compile("[¼-¾⅐-⅞]"), r"{\g<0>}"),
]
FRACTION = re.compile("\\{(\\d+)\u2044(\\d+)\\}")  # ½ after NFKC
GREEK = re.compile("[Α-ΡΣ-Ωα-ω]")

END = "(?![a-zA-Z])"  # end of a TeX command's name
ALONE = r"(?<![a-zA-Z\\])"  # start of a separate word
SPELLINGS = [
    (re.compile(pattern.replace("<END>", END).replace("<ALONE>", ALONE)), spelling)
    for pattern, spelling in TABLES["spellings"]
]
REPEATING = re.compile(r"(?<![\d.])(\d+)\.(\d*)\\overline\s*\{\s*(\d+)\s*\}(?![\d(^.])")


def notation(text: str) -> str:
    """The text in plain TeX, with single spaces."""
    for pattern, kept in MARKED:
        text = pattern.sub(kept, text)
    text = unicodedata.normalize("NFKC", text.translate(CHARACTERS))
    text = FRACTION.sub(r"\\frac{\1}{\2}", text).translate(CHARACTERS)
    text = without_dollars(GREEK.sub(greek, text))
    for pattern, spelling in SPELLINGS:
        text = pattern.sub(spelling, text)
    return " ".join(REPEATING.sub(fraction, text).split())


def greek(letter: re.Match[str]) -> str:
    r"""π as \pi, Δ as \Delta."""
    name = unicodedata.name(letter[0]).split()[-1].replace("LAMDA", "LAMBDA")
    return f"\\{name.capitalize() if letter[0].isupper() else name.lower()} "


def without_dollars(text: str) -> str:
    """The text without dollars around mathematics; an unpaired one before a number is a currency sign."""
    if len(re.findall(r"(?<!\\)\$", text)) % 2:
        text = re.sub(r"(?<!\\)\$(?=\s*[\d.])", r"\\$", text, count=1)
    return re.sub(r"(?<!\\)\$", " ", text)


def fraction(decimal: re.Match[str]) -> str:
    """A repeating decimal as a fraction."""
    whole, fixed, repeating = decimal.groups()
    above = int(whole + fixed + repeating) - int(whole + fixed)
    return rf"\frac{{{above}}}{{{10 ** len(fixed) * (10 ** len(repeating) - 1)}}}"
