"""Raw values as text: the same value has the same text in every format.

42, 42.0 and "42" are one value. Missing values (None, NaN, an empty string) have no text.
"""

from __future__ import annotations

import datetime
import decimal
import math
import uuid
from typing import Any, Final

#: Types whose `str` is their text. A datetime is a date.
_AS_WRITTEN: Final = (datetime.date, datetime.time, datetime.timedelta, uuid.UUID)
#: Missing values of pandas, which are recognized without importing it.
_MISSING_TYPES: Final = ("NAType", "NaTType")
#: Larger integers are refused. Python would take long to write them.
MAX_INTEGER_BITS: Final = 2**13
#: A decimal number with more digits is written with an exponent.
MAX_DIGITS: Final = 40


def value_text(value: Any) -> str | None:
    """Return the text of a raw value, None if it is missing.

    Raises:
        ValueError: the value is not a string, number, date or null. The message says what it is.
    """
    if isinstance(value, str):
        return _checked(value) or None
    if value is None or type(value).__name__ in _MISSING_TYPES:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() <= MAX_INTEGER_BITS:
        return str(value)
    if isinstance(value, float | decimal.Decimal):
        return _number_text(value)
    if isinstance(value, _AS_WRITTEN):
        return str(value)
    if hasattr(value, "item") and not getattr(value, "shape", ()):  # a numpy scalar
        return value_text(value.item())
    raise ValueError(describe(value))


def describe(value: Any) -> str:
    """Describe a raw value by its type and first characters, for an error message."""
    names: dict[type, str] = {
        list: "the list",
        tuple: "the list",
        dict: "the object",
        str: "the string",
        bytes: "the bytes",
    }
    if value is None:
        return "null"
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # lists of a thousand levels, integers of thousands of digits
        text = "that is too long to show"
    return f"{names.get(type(value), 'the value')} {text if len(text) <= 40 else text[:40] + '…'}"


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{describe(text)}, which is not Unicode") from None
    return text


def _number_text(value: float | decimal.Decimal) -> str | None:
    """Return the shortest text of a number; that of a whole number has no decimal point."""
    if math.isnan(value):
        return None
    if -(2**53) < value < 2**53 and value == int(value):
        return str(int(value))
    if isinstance(value, decimal.Decimal) and abs(value.adjusted()) < MAX_DIGITS:
        return format(value.normalize(), "f")
    return str(value)
