"""Kinds of hyperparameter values.

`parse` turns text into a value or raises ValueError. `wanted` completes "wanted …" in errors and in the documentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

#: A decimal number. float() alone would also take nan, inf and 1_0.
NUMBER: Final = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


@dataclass(frozen=True, slots=True)
class Integer:
    low: int
    high: int

    @property
    def wanted(self) -> str:
        return f"an integer from {self.low} to {self.high}"

    def parse(self, text: str) -> int:
        """Parse a number that is an integer: some clients write 3 as 3.0, and R writes 100000 as 1e+05."""
        number = _parse_number(text, self.low, self.high)
        if not number.is_integer():
            raise ValueError(text)
        return int(number)


@dataclass(frozen=True, slots=True)
class Real:
    low: float
    high: float

    @property
    def wanted(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    def parse(self, text: str) -> float:
        return _parse_number(text, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Choice:
    choices: tuple[str, ...]

    @property
    def wanted(self) -> str:
        return "one of " + ", ".join(self.choices)

    def parse(self, text: str) -> str:
        if text not in self.choices:
            raise ValueError(text)
        return text


@dataclass(frozen=True, slots=True)
class ChoiceList:
    """A list of unique choices, in the given order.

    Clients write it comma-separated, as a JSON list, or as the repr of a Python list or tuple.
    """

    choices: tuple[str, ...]

    @property
    def wanted(self) -> str:
        return f"one or more of {', '.join(self.choices)}, comma-separated, each once"

    def parse(self, text: str) -> tuple[str, ...]:
        chosen = _parse_list(text)
        if len(set(chosen)) != len(chosen) or not set(chosen) <= set(self.choices):
            raise ValueError(text)
        return chosen


@dataclass(frozen=True, slots=True)
class IntegerList:
    """A list of unique integers, or an empty one, written as `ChoiceList` is; the value is in ascending order."""

    low: int
    high: int

    @property
    def wanted(self) -> str:
        return f"integers from {self.low} to {self.high}, comma-separated, each once"

    def parse(self, text: str) -> tuple[int, ...]:
        integer, items = Integer(self.low, self.high), _parse_list(text)
        numbers = sorted(map(integer.parse, items)) if items != ("",) else []
        if len(set(numbers)) != len(numbers):
            raise ValueError(text)
        return tuple(numbers)


@dataclass(frozen=True, slots=True)
class Bool:
    wanted: str = "True or False"

    def parse(self, text: str) -> bool:
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.lower() not in known:
            raise ValueError(text)
        return known[text.lower()]


@dataclass(frozen=True, slots=True)
class AutoInteger:
    """`auto`, or an integer."""

    low: int
    high: int

    @property
    def wanted(self) -> str:
        return f"auto, or an integer from {self.low} to {self.high}"

    def parse(self, text: str) -> int | Literal["auto"]:
        return "auto" if text == "auto" else Integer(self.low, self.high).parse(text)


@dataclass(frozen=True, slots=True)
class FileName:
    """The name of a file in the `auxiliary` channel; empty for none."""

    wanted: str = "the name of a file in the auxiliary channel (letters, digits, '.', '_' and '-')"

    def parse(self, text: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._-]*", text) or text in (".", ".."):
            raise ValueError(text)
        return text


@dataclass(frozen=True, slots=True)
class Ignored:
    """A value without effect, accepted so that configurations of the built-in stay valid."""

    wanted: str = "anything"

    def parse(self, text: str) -> str:
        return text


Kind = Integer | Real | Choice | ChoiceList | IntegerList | Bool | AutoInteger | FileName | Ignored


def _parse_list(text: str) -> tuple[str, ...]:
    """Return the items of a list; a malformed item is empty."""
    if (text[:1], text[-1:]) in (("[", "]"), ("(", ")")):
        text = text[1:-1].strip().removesuffix(",")
    items = [re.fullmatch(r"""\s*(["']?)([^"']*)\1\s*""", part) for part in text.split(",")]
    return tuple(item[2].strip() if item else "" for item in items)


def _parse_number(text: str, low: float, high: float) -> float:
    if not re.fullmatch(NUMBER, text) or not low <= float(text) <= high:
        raise ValueError(text)
    return float(text)
