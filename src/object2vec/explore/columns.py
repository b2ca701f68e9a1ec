"""The columns of objects as arrays for the page: text, categories, several values, numbers and dates.

N objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from object2vec.schema.columns import List, Text, Token

if TYPE_CHECKING:
    from object2vec.retrieval.objects import Objects

#: Text is a category if it has at most so many values, and each is on average in two objects.
MAX_VALUES: Final = 1000
#: A code for objects without a value. Values beyond the most frequent ones have it too.
NO_VALUE: Final = 2**16 - 1
SEPARATOR: Final = "|"
#: Text with a separator in this share of the objects has several values.
SHARE_WITH_SEPARATOR: Final = 0.1
#: Characters of a text that the page gets.
MAX_CHARACTERS: Final = 300
EPOCH: Final = date(1970, 1, 1)
#: Columns that name an object, the first that there is.
TITLES: Final = ("title", "name", "label")


@dataclass(frozen=True, slots=True, kw_only=True)
class MapColumn:
    """A column: its description for the page, its arrays by the end of their names, and the values of each object."""

    name: str
    kind: str
    description: dict[str, Any]
    arrays: dict[str, bytes]
    values: Sequence[Any]

    def sets(self) -> list[frozenset[str]]:
        """Return the set of values of each object, of a category or a column of several values."""
        return [frozenset(each if self.kind == "list" else [] if each is None else [each]) for each in self.values]


def read_columns(objects: Objects) -> list[MapColumn]:
    """Return the columns of objects; those of a schema have its separators."""
    own = {column.name: column for column in objects.schema[objects.side].columns} if objects.schema else {}
    found = []
    for name, array in zip(objects.table.schema.names, objects.table.columns, strict=True):
        column = own.get(name)
        separator, values = column.separator if isinstance(column, List) else None, array.to_pylist()
        if isinstance(column, Token):  # an id is no quantity
            values = [None if value is None else str(value) for value in values]
        found.append(_column(name, values, separator, is_text=isinstance(column, Text)))
    return found


def title_column(columns: Sequence[MapColumn]) -> MapColumn:
    """Return the column that names objects: one called title or name, else the first text, else the first."""
    names = {column.name.lower(): column for column in columns}
    texts = (column for column in columns if column.kind == "text")
    return next((names[name] for name in TITLES if name in names), None) or next(texts, columns[0])


def to_lines(values: Iterable[Any]) -> bytes:
    """Return values as lines of UTF-8; breaks inside a value are spaces, and long values are shortened."""
    return "\n".join(map(one_line, values)).encode()


def one_line(value: Any) -> str:
    """Return a value as one line of at most `MAX_CHARACTERS`."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    text = " ".join(text[: MAX_CHARACTERS + 1].encode(errors="replace").decode().splitlines())
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"


def _column(name: str, values: list[Any], separator: str | None, *, is_text: bool) -> MapColumn:
    given = [value for value in values if value is not None]
    kinds = set(map(type, given))
    if kinds == {date} or kinds == {datetime}:
        days = [None if value is None else (_day(value) - EPOCH).days for value in values]
        return _numbers(name, "date", days)
    if kinds and kinds <= {int, float}:
        return _numbers(name, "number", values)
    if kinds == {list}:
        return _lists(name, [[one_line(part) for part in value or []] for value in values])
    texts = [None if value is None or value == "" else str(value) for value in values]
    separated = sum(SEPARATOR in text for text in texts if text)
    if separator or (not is_text and separated > SHARE_WITH_SEPARATOR * len(given)):
        return _lists(name, [_split(text, separator or SEPARATOR) for text in texts])
    unique = set(texts) - {None}
    if not is_text and len(unique) <= min(MAX_VALUES, max(len(given) // 2, 1)):
        return _categories(name, [None if text is None else one_line(text) for text in texts])
    return MapColumn(name=name, kind="text", description={}, arrays={"": to_lines(texts)}, values=texts)


def _day(value: date) -> date:
    return value.date() if isinstance(value, datetime) else value


def _split(text: str | None, separator: str) -> list[str]:
    return [one_line(part) for part in map(str.strip, (text or "").split(separator)) if part]


def _numbers(name: str, kind: str, values: Sequence[float | None]) -> MapColumn:
    array = np.array([np.nan if value is None else value for value in values], "<f4")
    finite = array[np.isfinite(array)]
    limits = {"min": float(finite.min()), "max": float(finite.max())} if len(finite) else {"min": None, "max": None}
    return MapColumn(name=name, kind=kind, description=limits, arrays={"": array.tobytes()}, values=values)


def _categories(name: str, values: Sequence[str | None]) -> MapColumn:
    names, codes = _codes(value for value in values if value is not None)
    array = np.array([NO_VALUE if value is None else codes.get(value, NO_VALUE) for value in values], "<u2")
    return MapColumn(
        name=name, kind="category", description={"values": names}, arrays={"": array.tobytes()}, values=values
    )


def _lists(name: str, values: Sequence[list[str]]) -> MapColumn:
    names, codes = _codes(part for value in values for part in value)
    known = [[codes[part] for part in value if part in codes] for value in values]
    offsets = np.cumsum([0, *map(len, known)]).astype("<u4")
    array = np.array([code for value in known for code in value], "<u2")
    arrays = {"": array.tobytes(), "-offsets": offsets.tobytes()}
    return MapColumn(name=name, kind="list", description={"values": names}, arrays=arrays, values=values)


def _codes(values: Iterable[str]) -> tuple[list[str], dict[str, int]]:
    """Return the most frequent values, and the code of each; equally frequent ones are in the order of their text."""
    counted = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))[:MAX_VALUES]
    names = [name for name, _ in counted]
    return names, {name: code for code, name in enumerate(names)}
