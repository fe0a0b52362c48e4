"""A column's value as text: numbers as plain decimals, missing values as empty text."""

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any


def text_of(value: Any, column: str) -> str:
    """The text of a value, or of the only one in a list; empty for null, NaN and infinities.

    Raises ValueError if it is neither text nor a number, or not encodable.
    """
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value == []:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        got = f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"
        raise ValueError(f"expected one text or number in {column}, got {got}: convert the column")
    text = encodable(value, column) if isinstance(value, str) else plain_decimal(value)
    return "" if text.strip().lower() == "nan" else text


def plain_decimal(number: float | Decimal) -> str:
    """A number without exponent or trailing zeros; empty if not finite.

    So 72.0 is 72: a null in a column of whole numbers makes floats of them.
    """
    exact = Decimal(str(number))
    if not exact.is_finite():
        return ""
    text = f"{exact:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def encodable(text: str, column: str) -> str:
    """The text. Raises ValueError if no tokenizer or file can hold it."""
    if "\0" in text:
        raise ValueError(f"expected text in {column}, got a NUL character in it: take it out")
    try:
        text.encode()
    except UnicodeEncodeError as fault:
        raise ValueError(
            f"expected text in {column}, got {text[fault.start]!a} in it, half of a surrogate pair or a byte that "
            "is not UTF-8: fix it"
        ) from None
    return text


def decoded(value: Any) -> Any:
    """Parses a JSON list or object, as exports write nested columns; any other value is returned unchanged."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value
