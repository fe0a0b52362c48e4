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

RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni", strict=True))
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙₓ", "0123456789+-=()nx", strict=True))
VULGAR_FRACTION = re.compile("[¼-¾⅐-⅞]")
GREEK = re.compile("[Α-ΡΣ-Ωα-ω]")

TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
CHARACTERS = str.maketrans(
    {character: spelling for spelling, characters in TABLES["characters"].items() for character in characters}
)

END = "(?![a-zA-Z])"  # end of a TeX command's name
ALONE = r"(?<![a-zA-Z\\])"  # start of a separate word

# Up to three levels of braces; anything deeper is left to the parser.
STYLED = re.compile(
    r"([\^_]\s*)?\\(?:boldsymbol|bm|pmb|mathbf|mathit|mathnormal|mathsf|mathtt|underline|(?:text)?color\s*\{\w+\})"
    r"\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
)

SPELLINGS = [
    (re.compile(pattern.replace("<END>", END).replace("<ALONE>", ALONE)), spelling)
    for pattern, spelling in TABLES["spellings"]
]

# 0.(3) repeats, but 0.1(6) may be a product.
REPEATING = re.compile(
    r"(?<![\d.])(?P<whole>\d+)\.(?:(?P<fixed>\d*)(?:\\(?:overline|bar)\s*(?:\{\s*(?P<barred>\d+)\s*\}|(?P<one>\d))"
    r"|\\dot\s*\{?(?P<first>\d)\}?(?:(?P<middle>\d*)\\dot\s*\{?(?P<last>\d)\}?)?)|\((?P<bracketed>\d+)\))(?![\d(^.])"
)


def notation(text: str) -> str:
    """The text in plain TeX, with single spaces."""
    text = scripted(VULGAR_FRACTION.sub(vulgar_fraction, text))
    text = unicodedata.normalize("NFKC", text.translate(CHARACTERS)).translate(CHARACTERS)
    text = without_dollars(GREEK.sub(greek, text))
    for pattern, spelling in SPELLINGS:
        text = pattern.sub(spelling, text)
    while (plainer := STYLED.sub(unstyled, text)) != text:
        text = plainer
    return " ".join(REPEATING.sub(fraction, text).split())


def scripted(text: str) -> str:
    """The text with raised and lowered characters as TeX superscripts and subscripts."""
    for mark, table in (("^", RAISED), ("_", LOWERED)):
        for run in sorted(set(re.findall(f"[{''.join(table)}]+", text)), key=len, reverse=True):
            text = text.replace(run, f"{mark}{{{run.translate(str.maketrans(table))}}}")
    return text


def vulgar_fraction(character: re.Match[str]) -> str:
    r"""½ as \frac{1}{2}."""
    above, below = unicodedata.normalize("NFKC", character[0]).split("⁄")
    return rf"\frac{{{above}}}{{{below}}}"


def greek(letter: re.Match[str]) -> str:
    r"""π as \pi, Δ as \Delta."""
    name = unicodedata.name(letter[0]).split()[-1].replace("LAMDA", "LAMBDA")
    return f"\\{name.capitalize() if letter[0].isupper() else name.lower()} "


def without_dollars(text: str) -> str:
    """The text without dollars around mathematics; an unpaired one before a number is a currency sign."""
    if len(re.findall(r"(?<!\\)\$", text)) % 2:
        text = re.sub(r"(?<!\\)\$(?=\s*[\d.])", r"\\$", text, count=1)
    return re.sub(r"(?<!\\)\$", " ", text)


def unstyled(styled: re.Match[str]) -> str:
    """The content of a style command; in braces if it is a superscript or subscript."""
    return f"{styled[1]}{{{styled[2]}}}" if styled[1] else f" {styled[2]} "


def fraction(decimal: re.Match[str]) -> str:
    """A repeating decimal as a fraction."""
    repeating = decimal["barred"] or decimal["one"] or decimal["bracketed"]
    repeating = repeating or decimal["first"] + (decimal["middle"] or "") + (decimal["last"] or "")
    fixed = decimal["fixed"] or ""
    if not repeating or (decimal["middle"] is None and decimal["last"]):
        return decimal[0]
    above = int(decimal["whole"] + fixed + repeating) - int(decimal["whole"] + fixed)
    return rf"\frac{{{above}}}{{{10 ** len(fixed) * (10 ** len(repeating) - 1)}}}"
