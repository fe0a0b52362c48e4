r"""What an answer's form may differ from the gold answer's in, decided by its text before any mathematics.

math-verify is lenient where a reward must not be: it reads "5 6" as 11, "5 \approx 6" as 5 and drops a \text{...} at
the end. Here an answer may bear a mark (a list, a relation, words, ...) only where the gold answer bears it too. What
may differ: spaces, a name ("x = 5" for 5), a unit, currency or base on one of the two, separators of thousands.
"""

import re

# What may stand in an answer only where it stands in the gold answer.
MARKS = {
    "several values": r"[,;]|\\(?:pm|mp|cup|cap|vee|lor|wedge|land)(?![a-zA-Z])|(?<![a-zA-Z])(?:or|and)(?![a-zA-Z])",
    "a relation": r"[=<>:≤≥≠≈±∈]|\\(?:leq?|leqslant|geq?|geqslant|lt|gt|neq?|in|notin|approx|sim|simeq|cong|equiv"
    r"|propto|to|rightarrow|Rightarrow|implies|iff|mid|colon)(?![a-zA-Z])",
    "an ellipsis": r"\\[lcdv]?dots|\.\.|…",
    "two numbers side by side": r"[\d.}] +[\d.]",
    "a base": r"[^a-zA-Z ] *_",
    "words": r"\\(?:text|mbox|mathrm|operatorname)",
    # The question put back as the answer: nothing was worked out.
    "an operation": r"\\(?:sum|prod|i*o?int|lim|limsup|liminf|p?mod|bmod|gcd|lcm|det|max|min)(?![a-zA-Z])|[∑∏∫]",
}

NUMBER_WITH_COMMAS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
NAME = re.compile(r"\\?[a-zA-Z]+(?:_(?:\w|\{\w+\}))?(?:\([a-zA-Z]\))?\s*=(?P<value>[^=]*)")
WRAPPED = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf|mbox)\s*)?\{([^{}]*)\}")
CURRENCY = re.compile(r"^\\\$\s*")
UNIT = re.compile(
    r"(?<=\S)\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-z])|_\s*\{?(?P<base>\d+)\}?|"
    r"\\(?:text|mathrm|mbox)\s*\{(?!.*\b(?:or|and|not|no|is)\b)(?P<unit>[a-zA-Z/. ]+)\}"
    r"(?:\s*\^\s*\{?(?P<power>\d)\}?)?)$"
)


def same_terms(gold: str, answer: str) -> tuple[str, str]:
    """Both without what may differ: spaces of TeX, separators of thousands, a name that only one bears, like units."""
    gold, answer = plain(gold), plain(answer)
    if ("=" in gold) != ("=" in answer):
        gold, answer = without_name(gold), without_name(answer)
    if len({unit_of(gold), unit_of(answer), ""}) < 3:
        gold, answer = without_unit(gold), without_unit(answer)
    return gold, answer


def plain(text: str) -> str:
    """The text without TeX's spaces, a wrapper around all of it, and separators of thousands."""
    text = re.sub(r"(?<=\d)(?:\{,\}|,?\\[!,])(?=\d{3}(?!\d))", "", text)
    text = " ".join(re.sub(r"\\(?:[,;:!\s]|q?quad(?![a-zA-Z]))|~", " ", text).split())
    while wrapped := WRAPPED.fullmatch(text):
        text = wrapped[1].strip()
    return text.replace(",", "") if NUMBER_WITH_COMMAS.fullmatch(without_unit(text)) else text


def without_name(text: str) -> str:
    """The value of "x = 5"; any other text as it is."""
    named = NAME.fullmatch(text)
    return plain(named["value"]) if named else text


def unit_of(text: str) -> str:
    """The unit that ends the text, in one spelling; empty where there is none."""
    unit = UNIT.search(text)
    if unit is None:
        return ""
    return unit["base"] or (unit["unit"] or "degree").lower().strip().rstrip("s.") + (unit["power"] or "")


def without_unit(text: str) -> str:
    """The text less its unit and its currency."""
    return UNIT.sub("", CURRENCY.sub("", text))


def excess(gold: str, answer: str) -> str | None:
    """What the answer bears and the gold answer does not, or None; both are as `same_terms` leaves them."""
    if unit_of(gold) != unit_of(answer):
        return "another unit"
    for name, mark in MARKS.items():
        if re.search(mark, answer) and not re.search(mark, gold):
            return name
    return None
