r"""Distinguishes words in answers from products of variables, and reads number words.

While an answer is parsed, PROSE marks letters from \text{...}: `\text{ m}` may be a metre, but `m` is a variable. A
word becomes a single symbol, `\text{bac1}`, so that algebra cannot permute its letters. The digit distinguishes names
from words, and keeps math-verify from reading the symbol as a product of its letters.
"""

import re

from harness.tasks.math.notation import TABLES

PROSE = "\ue000"  # precedes each run of letters from \text{...}; a private-use character, which answers do not contain
NAME, WORD = "1", "2"  # names, such as AB or nRT, may occur in a formula; words and phrases may not

TEXT = re.compile(r"\\text\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
UNMARKED = re.compile(rf"(?<![a-zA-Z{PROSE}\\])(?=[a-zA-Z])")  # before letters that are no TeX command
RUN = rf"{PROSE}?[a-zA-Z]+"
SEPARATOR = re.compile(rf"\s*,?\s*(?<![a-zA-Z\\{PROSE}]){PROSE}?(?:and|or)(?![a-zA-Z])\s*")

MULTIPLIERS: dict[str, str] = TABLES["multipliers"] | dict.fromkeys(("percent", "per cent", "pct"), r"\%")
MULTIPLIER = re.compile(
    rf"(?<=[\d.)}}\]])\s*{PROSE}?({'|'.join(MULTIPLIERS)})(?![a-zA-Z])".replace("per cent", f"per {PROSE}?cent"),
    re.IGNORECASE,
)

# Distinct lower-case letters are a product if they come from one family, or are two letters that do not spell a word.
PRODUCT = re.compile(r"(?!.*(.).*\1)(?:[a-d]+|[k-np]+|[p-t]+|[u-z]+|[a-df-hj-np-tv-z]{2})")
FORMULA = frozenset("^_+-*/!{}0123456789")
LETTERS_IN_FORMULA = 3  # up to so many letters next to a sign or number are a product, as in xe^{x} or a+bi

# Letters that are not words: TeX commands, names of environments, and points under an accent.
COMMAND = (
    r"\\(?:begin|end|operatorname\*?|overline|bar|vec|overrightarrow|(?:wide)?(?:hat|tilde))\s*\{[^{}]*\}|\\[a-zA-Z]+"
)
PHRASE = re.compile(rf"{COMMAND}|(?P<phrase>{RUN}(?:(?:\s+|(?<=[a-zA-Z]{{2}})['-](?=[a-zA-Z]{{2}})){RUN})*)")

SYMBOL = re.compile(rf"\\text\{{([^{{}}]*)[{NAME}{WORD}]\}}")
WORD_SYMBOL = re.compile(rf"\\text\{{[^{{}}]*{WORD}\}}")


def spoken(text: str) -> str:
    r"""The text with the content of \text{...} inline, "and" and "or" as commas, and "million" etc. as numbers."""
    while (bare := TEXT.sub(opened, text)) != text:
        text = bare
    text = SEPARATOR.sub(", ", " ".join(text.split()))
    while (counted := MULTIPLIER.sub(lambda word: MULTIPLIERS[word[1].lower().replace(PROSE, "")], text)) != text:
        text = counted
    return text


def opened(prose: re.Match[str]) -> str:
    r"""The content of \text{...} without a final full stop, its letters marked as prose, TeX commands unchanged."""
    return f" {UNMARKED.sub(PROSE, prose[1].rstrip(' .'))} "


def worded(text: str) -> str:
    """The text with each word, name or phrase as one symbol; variables are unchanged."""
    text = PHRASE.sub(lambda found: symbol(found) if found["phrase"] else found[0], text)
    text = " ".join(text.replace(PROSE, "").split())
    return text[1:-1].strip() if SYMBOL.fullmatch(text[1:-1].strip()) and text[0] + text[-1] == "()" else text


def symbol(found: re.Match[str]) -> str:
    """A phrase as one symbol, or unchanged if all its words are variables or products of variables."""
    beside = found.string[: found.start()][-1:], found.string[found.end() :][:1]
    longest = 1 if FORMULA.isdisjoint(beside) else LETTERS_IN_FORMULA
    if all(is_variables(word, longest) for word in re.findall(RUN, found[0])):
        return found[0]
    plain = " ".join(found[0].replace(PROSE, "").split())
    is_name = " " not in plain and not plain[1:].islower()
    return rf" \text{{{plain + NAME if is_name else plain.lower() + WORD}}} "


def is_variables(word: str, longest: int) -> bool:
    """Whether the word is a single letter, or a product of at most `longest` letters or of one family."""
    if len(word.removeprefix(PROSE)) == 1:
        return True
    return word.isascii() and word.islower() and (len(word) <= longest or PRODUCT.fullmatch(word) is not None)


def caseless(text: str) -> str:
    """The text with its words and names in lower case."""
    return SYMBOL.sub(lambda word: rf"\text{{{word[1].lower()}}}", text)


def unspaced(text: str) -> str:
    """The text without spaces next to signs, where they have no meaning."""
    return re.sub(r"\s*([^\w\s.])\s*", r"\1", text)
