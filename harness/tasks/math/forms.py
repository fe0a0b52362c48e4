r"""What an answer's form may differ from the gold answer's in, decided by its text before any mathematics.

math-verify is lenient where a reward must not be: it reads "5 6" as 11, "5 \approx 6" as 5 and drops a \text{...} at
the end. Here an answer may bear a mark (a list, a relation, words, ...) only where the gold answer bears it too. What
may differ: notation (math_notation.py), a name ("x = 5" for 5), a unit on one of the two (math_units.py), separators of
thousands. Words are compared as words (math_words.py). docs/math-answers.md lists the decisions.
"""

import re

from harness.tasks.math.notation import notation
from harness.tasks.math.units import ANGLE, elements, without_units
from harness.tasks.math.words import PROSE, WORD_SYMBOL, spoken, unspaced, worded

# What may stand in an answer only where it stands in the gold answer.
MARKS = {
    "several values": r"[,;]|\\(?:pm|mp|cup|cap|vee|lor|wedge|land)(?![a-zA-Z])",
    "a relation": r"[=<>:]|\\(?:le|ge|ne|in|notin|approx|sim|simeq|cong|equiv|propto|to|rightarrow|Rightarrow|implies"
    r"|iff|mid|colon)(?![a-zA-Z])",
    "an ellipsis": r"\\[lcdv]?dots|\.\.|…",
    "another unit": r"\\text\{unit [^}]*\}$",
    "a base": r"[^a-zA-Z ] *_",
    "words": r"\\(?:text|operatorname)",
    "two numbers side by side": r"[\d.}] +[\d.]|(?<![_a-zA-Z\d])\d+ *[({] *(?:[\d.]+(?:/\d+)?"
    r"|\\frac *\{\d+\} *\{\d+\}) *[)}]",  # 5(7) and 5{7} too: the parser adds what it takes for a mixed number
    "a prime": r"'|\\prime(?![a-zA-Z])",  # the parser drops them
    # The question put back as the answer: nothing was worked out.
    "an operation": r"\\(?:sum|prod|i*o?int|lim|limsup|liminf|p?mod|bmod|gcd|lcm|det|max|min)(?![a-zA-Z])",
}

NUMBER_WITH_COMMAS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?=(?:\.\d+)?(?:\\%|\\times *1[^,]*)?$)")
NAMED = re.compile(
    rf"(?P<name>(?!{PROSE}?not?\b)\\?{PROSE}?[a-zA-Z]+(?:_(?:\w|\{{\w+\}}))?(?:\([a-zA-Z]\))?)\s*=(?P<value>[^=]*)"
)
# Of an angle; the parser drops them.
DEGREES = re.compile(r"(\d+(?:\.\d+)?|(?<![a-zA-Z])[a-zA-Z]|\\[a-zA-Z]+) *\^\\circ")
BRACED = re.compile(r"\{([^{}]*)\}")
LAST_WORD = re.compile(rf"(?<=\S)\s*({WORD_SYMBOL.pattern})$")


def same_terms(gold: str, answer: str) -> tuple[str, str]:
    """Both in one notation, without what may differ: a name that only one bears, units alike."""
    gold, answer = plain(gold), plain(answer)
    if ("=" in gold) != ("=" in answer):
        gold, answer = without_name(gold), without_name(answer)
    (gold_value, gold_unit), (value, unit) = without_units(gold), without_units(answer)
    if gold_unit and unit and gold_unit != unit:
        return rf"{finished(gold_value)} \text{{unit {gold_unit} }}", rf"{finished(value)} \text{{unit {unit} }}"
    gold, answer = finished(gold_value), finished(value)
    last = LAST_WORD.search(answer)
    if last and gold.endswith(last[1]) and gold != last[1]:  # a word that is no unit here but counts the same things
        gold, answer = gold.removesuffix(last[1]).strip(), answer.removesuffix(last[0]).strip()
    return gold, answer


def plain(text: str) -> str:
    """The text in one notation, with words opened and without braces around all of it."""
    text = spoken(notation(text))
    while braced := BRACED.fullmatch(text):
        text = braced[1].strip()
    return text


def finished(text: str) -> str:
    """The text with its words as symbols, the degrees of angles in radians, and without separators of thousands."""
    text = worded(DEGREES.sub(r"(\1\\pi/180)", text) if ANGLE.search(text) else text)
    number = NUMBER_WITH_COMMAS.match(text)
    return number[0].replace(",", "") + text[number.end() :] if number else text


def without_name(text: str) -> str:
    """The value of "x = 5", the values of "x = 5, x = 6"; any other text as it is."""
    if named := NAMED.fullmatch(text):
        return named["value"].strip()
    parts = [NAMED.fullmatch(element.strip()) for element in elements(text)]
    if len({part["name"] for part in parts if part}) == 1 and all(parts):
        return ", ".join(part["value"].strip() for part in parts if part)
    return text


def same_text(gold: str, answer: str) -> bool:
    """Whether both say the same word by word, their units included."""
    return unspaced(finished(plain(gold))) == unspaced(finished(plain(answer)))


def excess(gold: str, answer: str) -> str | None:
    """What the answer bears and the gold answer does not, or None; both are as `same_terms` leaves them."""
    for name, mark in MARKS.items():
        if re.search(mark, answer) and (name == "another unit" or not re.search(mark, gold)):
            return name
    return "other words" if WORD_SYMBOL.search(gold + answer) else None
