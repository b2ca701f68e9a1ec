"""The columns of a side: what each raw value means.

A column is written `name`, `name:token`, `genres:list(|)` or `title:text(min_count=2)`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Final

from object2vec.errors import UserError
from object2vec.schema.text import split_words
from object2vec.schema.tokenizer import Tokenizer
from object2vec.schema.values import describe, value_text

#: More tokens than fit the largest vocabulary.
MAX_VOCABULARY: Final = 2_999_000


@dataclass(frozen=True, slots=True)
class Token:
    """One value, such as an id or a category.

    With `buckets`, two hashes map values to that many ids, for values that are not known in advance.
    Values with fewer than `min_count` occurrences are unknown.
    """

    name: str
    buckets: int | None = None
    min_count: int = 1

    kind: ClassVar[str] = "token"
    wanted: ClassVar[str] = "a string, a number or null"

    def texts(self, value: Any) -> Sequence[str]:
        """Return the value as a list of at most one text.

        Raises:
            ValueError: the value is a list or an object.
        """
        text = value_text(value)
        return [] if text is None else [text]


@dataclass(frozen=True, slots=True)
class List:
    """Several values, such as genres or a history: a list, or text with a separator."""

    name: str
    separator: str | None = None
    buckets: int | None = None
    min_count: int = 1

    kind: ClassVar[str] = "list"

    @property
    def wanted(self) -> str:
        return "a list" if self.separator is None else f"a list, or text separated by {self.separator!r}"

    def texts(self, value: Any) -> Sequence[str]:
        """Return the text of each value.

        Raises:
            ValueError: the value is not a list, or holds lists.
        """
        if hasattr(value, "tolist"):  # a numpy array
            value = value.tolist()
        if isinstance(value, list | tuple):
            return [text for text in map(value_text, value) if text is not None]
        text = value_text(value)
        if text is None:
            return []
        if self.separator is None:
            raise ValueError(describe(value))
        return [part for part in map(str.strip, text.split(self.separator)) if part]


@dataclass(frozen=True, slots=True)
class Text:
    """Words of a text, in lower case, or the tokens of a `tokenizer`.

    Only the most frequent `max_vocabulary` words have an id of their own.
    """

    name: str
    min_count: int = 1
    max_vocabulary: int = 100_000
    buckets: int | None = None
    tokenizer: Tokenizer | None = None

    kind: ClassVar[str] = "text"
    wanted: ClassVar[str] = "text"

    def texts(self, value: Any) -> Sequence[str]:
        """Return the words.

        Raises:
            ValueError: the value is a list or an object.
        """
        text = value_text(value) or ""
        return self.tokenizer.split([text])[0] if self.tokenizer else split_words(text)


Column = Token | List | Text
KINDS: Final[dict[str, type[Column]]] = {"token": Token, "list": List, "text": Text}
#: Integer options with their smallest value.
_MINIMUM: Final = {"buckets": 2, "min_count": 1, "max_vocabulary": 1}
_WRITTEN: Final = re.compile(r"(.+?)(?::(token|list|text)(?:\((.*)\))?)?", re.DOTALL)
_SUFFIX: Final = re.compile(r":(token|list|text)(\(.*\))?\Z", re.DOTALL)
_OPTIONS: Final = re.compile(r"\w+=.+", re.DOTALL)
_OPTION_BOUNDARY: Final = re.compile(r",\s*(?=\w+=)")


def parse_column(text: str, *, is_saved: bool = False) -> Column:
    """Parse a written column, such as `genres:list(|)`. One that `is_saved` in a schema cannot name a file.

    Raises:
        UserError: the text is not a column.
    """
    wanted = "wanted NAME, NAME:token, NAME:list(SEPARATOR) or NAME:text, with options like NAME:text(min_count=2)"
    match = _WRITTEN.fullmatch(text)
    if not match or "=" in match[1]:
        raise UserError(f"column {text!r}: {wanted}; a name has no '='")
    name, kind, argument = match[1], KINDS[match[2] or "token"], match[3] or ""
    options: dict[str, Any] = {}
    if _OPTIONS.fullmatch(argument):
        options = dict(part.split("=", 1) for part in _OPTION_BOUNDARY.split(argument))
    elif argument:
        options = {fields(kind)[1].name: argument}
    known = {field.name for field in fields(kind)} - {"name", *(["tokenizer"] if is_saved else [])}
    for option, value in options.items():
        if option not in known:
            raise UserError(f"column {text!r}: no option {option}, wanted one of {', '.join(sorted(known))}")
        if option in _MINIMUM:
            if not value.isdecimal() or int(value) < _MINIMUM[option]:
                raise UserError(f"column {text!r}: {option} is {value!r}, wanted an integer from {_MINIMUM[option]}")
            options[option] = min(int(value), MAX_VOCABULARY)
        elif option == "tokenizer":
            options[option] = Tokenizer.read(Path(value))
    return kind(name, **options)


def written_column(column: Column) -> str:
    """Return a column as text that `parse_column` reads, without its tokenizer."""
    given = {
        field.name: getattr(column, field.name)
        for field in fields(column)
        if field.name not in ("name", "tokenizer") and getattr(column, field.name) != field.default
    }
    if not given and column.kind == "token" and not _SUFFIX.search(column.name):
        return column.name
    if not given:
        return f"{column.name}:{column.kind}"
    if list(given) == ["separator"] and not _OPTIONS.fullmatch(given["separator"]):
        return f"{column.name}:list({given['separator']})"
    return f"{column.name}:{column.kind}({','.join(f'{name}={value}' for name, value in given.items())})"


def parse_columns(columns: str | Column | Sequence[str | Column]) -> tuple[Column, ...]:
    """Return the columns of a side: one or several, each written or as an object.

    Raises:
        UserError: a text is not a column.
    """
    given = [columns] if isinstance(columns, str | Column) else columns
    return tuple(parse_column(column) if isinstance(column, str) else column for column in given)


def is_text(columns: Sequence[Column]) -> bool:
    """Return whether a side is one text."""
    return len(columns) == 1 and isinstance(columns[0], Text)
