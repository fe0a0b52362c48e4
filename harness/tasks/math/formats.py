r"""Where the answer stands in a response: the formats of --answer_format, and the lenient reading recorded beside each.

boxed, answer_line   strict formats that the prompt asks for (answers.py)
hash                 the rest of the line after the last `####`, as GSM8K writes its answers (no instruction is added)
last_number          the last number of the response, as lm-eval's flexible extraction reads it
a regular expression the first group of its last match

The lenient reading is the strict one where there is one, else the first of boxed, answer_line, hash and last_number
that finds an answer. What a run gains by the strict reading alone is format.
"""

import re
from collections.abc import Callable

from harness.tasks.math.answers import MAX_ANSWER_CHARACTERS, NoAnswer, extract, extract_line, tidy

Extractor = Callable[[str], str]

HASH = re.compile(r"(?<!#)####(?!#)[^\S\n]*([^\n]+)")
HASH_NUMBER = re.compile(r"(?<!#)####(?!#)\s*\$?(-?[\d.,]*\d)", re.ASCII)  # not a heading of markdown
# A minus after a digit, a letter or a bracket subtracts; a fraction is one number; commas group three digits.
LAST_NUMBER = re.compile(
    r"(?<![\d./])((?:(?<![\w)\]}])[-\u2212])?)\$?((?:\d{1,3}(?:,\d{3})+(?![\d,]*\d)|\d+|(?=\.\d))(?:\.\d+)?(?:/\d+)?)",
    re.ASCII,
)


def last_of(pattern: re.Pattern[str]) -> Extractor:
    """Reads the first group that took part in the pattern's last match."""

    def read(response: str) -> str:
        matches = list(pattern.finditer(response))
        found: str = next(filter(None, matches[-1].groups()), "") if matches else ""
        if len(found) > MAX_ANSWER_CHARACTERS:
            raise NoAnswer("too long")
        if not (answer := tidy(found)):
            raise NoAnswer("no answer")
        return answer

    return read


def extract_last_number(response: str) -> str:
    """The last number, without a dollar sign and thousands separators. Raises NoAnswer if there is none."""
    numbers = LAST_NUMBER.findall(response)
    if not numbers:
        raise NoAnswer("no answer")
    sign, number = numbers[-1]
    return f"{'-' if sign else ''}{number.replace(',', '')}"


EXTRACTORS: dict[str, Extractor] = {
    "boxed": extract,
    "answer_line": extract_line,
    "hash": last_of(HASH),
    "last_number": extract_last_number,
}


def extractor_of(answer_format: str) -> Extractor:
    """Reads the answer in a format, which is a name or a regular expression."""
    return EXTRACTORS.get(answer_format) or last_of(re.compile(answer_format))


def read_leniently(response: str) -> str | None:
    """The answer in the first format that finds one, or None."""
    for extractor in (extract, extract_line, last_of(HASH_NUMBER), extract_last_number):
        try:
            return extractor(response)
        except NoAnswer:
            continue
    return None
