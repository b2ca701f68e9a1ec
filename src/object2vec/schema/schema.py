"""The schema of pairs: the columns and the vocabulary of each side, and the label.

A schema is saved as a folder with `schema.json` and a vocabulary file per side. A model directory contains it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Bools, Int32, Int64
from object2vec.atomic_files import write_atomically
from object2vec.data.files import read_object
from object2vec.data.records import SIDES, Side
from object2vec.data.sequences import Sequences
from object2vec.errors import ArtifactError, RawValueError, UserError, shortened
from object2vec.hyperparameters import SCHEMA_FILES
from object2vec.ops.requests import ValueTables
from object2vec.schema.arrays import column_codes, concatenate_rows, row_texts
from object2vec.schema.columns import Column, List, Text, parse_column, written_column
from object2vec.schema.label import CLASS_KINDS, Label, label_from_json, label_to_json
from object2vec.schema.tokenizer import Tokenizer
from object2vec.schema.value_tables import value_tables
from object2vec.schema.values import describe
from object2vec.schema.vocabulary import UNKNOWN_ID, Vocabulary

FORMAT_VERSION: Final = 1
SCHEMA_FILE, *_VOCABULARY_FILES = SCHEMA_FILES
_WANTED: Final = "wanted a schema that `object2vec prepare` wrote"


@dataclass(frozen=True, slots=True)
class Encoded:
    """The token ids of N objects. Object i has `ids[offsets[i]:offsets[i + 1]]`.

    `unknown` has the columns with unknown values, and which objects have one, (N,).
    """

    offsets: Int64
    ids: Int32
    unknown: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def to_lists(self) -> list[list[int]]:
        """Return the token ids of each object."""
        ids, offsets = self.ids.tolist(), self.offsets.tolist()
        return [ids[start:stop] for start, stop in pairwise(offsets)]


@dataclass(frozen=True)
class SideSchema:
    """The columns of a side, and its vocabulary, which has them in the same order.

    A side without columns has one object: the token 1.
    """

    columns: tuple[Column, ...]
    vocabulary: Vocabulary

    @cached_property
    def names(self) -> list[str]:
        """Return the name of each column."""
        return [column.name for column in self.columns]

    def words(self) -> dict[str, list[int]]:
        """Return the token ids of each value of the columns of text, or of all columns if none has text."""
        texts = [isinstance(column, Text) for column in self.columns]
        found: dict[str, list[int]] = {}
        for is_text, ids in zip(texts, self.vocabulary.ids, strict=True):
            if is_text or not any(texts):
                for value, token in ids.items():
                    found.setdefault(value, []).append(token)
        return found

    def values_of(self, objects: Sequence[Any], name: Callable[[int], str]) -> list[Sequence[Any]]:
        """Return the raw values of objects by column: mappings from columns to values, or values of the only column.

        Raises:
            RawValueError: an object has other columns, or is no mapping and the side has several columns.
        """
        kinds = set(map(type, objects))
        if len(self.columns) == 1 and kinds <= {str, int}:
            return [objects]
        if kinds == {dict} and sum(map(len, objects)) == len(objects) * len(self.columns):
            with suppress(KeyError):
                return [list(map(itemgetter(column), objects)) for column in self.names]
        mappings = [self._mapping(value, name, row) for row, value in enumerate(objects)]
        return [[mapping.get(column) for mapping in mappings] for column in self.names]

    def _mapping(self, value: Any, name: Callable[[int], str], row: int) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            if len(self.columns) == 1:
                return {self.names[0]: value}
            if value is None:
                return {}
            names = ", ".join(self.names) or "none"
            raise RawValueError(f"{name(row)} is {describe(value)}, wanted an object with these columns: {names}")
        for column in value:
            if column not in self.names:
                near = difflib.get_close_matches(str(column), self.names, n=1, cutoff=0.0)
                known = f"the nearest is {near[0]}" if near else "this side has no columns"
                raise RawValueError(f"{name(row)} has the column {shortened(repr(column))}, {known}")
        return value

    def encoded(self, parts: Sequence[tuple[Int64, Int32]], count: int) -> Encoded:
        """Return `count` objects whose columns have `parts`: the tokens of each object, and the ids of all tokens.

        The ids are (tokens, 1), or (tokens, 2) of a hashed column.
        """
        if not parts:
            return Encoded(np.arange(count + 1), np.full(count, UNKNOWN_ID, np.int32))
        return self.marked(concatenate_rows([(lengths * ids.shape[1], ids.ravel()) for lengths, ids in parts]))

    def marked(self, objects: Sequences) -> Encoded:
        """Return objects from their token ids, with the unknown ones."""
        ids, offsets = objects.values, objects.offsets
        unknown = {}
        for index, name in enumerate(self.names):
            is_unknown = ids == self.vocabulary.unknown_id(index)
            if np.count_nonzero(is_unknown):
                unknown[name] = np.zeros(len(offsets) - 1, np.bool_)
                unknown[name][np.searchsorted(offsets, np.flatnonzero(is_unknown), side="right") - 1] = True
        return Encoded(offsets, ids, unknown)

    def knows(self, objects: Sequences) -> Bools:
        """Return which objects have a value that the vocabulary knows, (N,); all, for a side without columns."""
        known = objects.values >= self.vocabulary.unknown_id(len(self.columns))
        rows = np.repeat(np.arange(len(objects)), objects.lengths)
        return (np.bincount(rows[known], minlength=len(objects)) > 0) | (not self.columns)

    @cached_property
    def ids_by_json(self) -> dict[bytes, int | list[int]]:
        """Return the token ids of objects in JSON that were served and kernels do not read; one id is a number."""
        return {}


@dataclass(frozen=True)
class Schema:
    """How raw values become token ids. With `tied`, both sides have one vocabulary.

    `weight` names the column of the weights of pairs, if there is one.
    """

    sides: tuple[SideSchema, SideSchema]
    label: Label | None = None
    tied: bool = False
    weight: str | None = None

    def __getitem__(self, side: Side) -> SideSchema:
        return self.sides[SIDES.index(side)]

    @property
    def label_of_objects(self) -> Label | None:
        """The label, if its classes are those of a single object, such as a text: in1 then has no columns."""
        return self.label if self.label and self.label.kind in CLASS_KINDS and not self.sides[1].columns else None

    @cached_property
    def tables(self) -> ValueTables | None:
        """Return the known values where kernels find them; None without kernels."""
        return value_tables([(side.columns, side.vocabulary) for side in self.sides])

    def encode(self, side: Side, objects: Iterable[Any], name: Callable[[int], str] | None = None) -> Encoded:
        """Return the token ids of objects: mappings from columns to values, or values of the only column.

        `name` names an object in an error message.

        Raises:
            RawValueError: a value is not of its column's kind; names the object, the column and the value.
        """
        objects = list(objects)
        name = name or (lambda row: f"{side}[{row}]")
        return self.encode_values(side, self[side].values_of(objects, name), len(objects), name)

    def encode_values(
        self, side: Side, values: Sequence[Sequence[Any]], count: int, name: Callable[[int], str]
    ) -> Encoded:
        """Return the token ids of `count` objects from the Python values of each column.

        Raises:
            RawValueError: see `encode`.
        """
        own, parts = self[side], []
        for index, (column, own_values) in enumerate(zip(own.columns, values, strict=True)):
            lengths, texts = row_texts(column, own_values, partial(_value_name, name, column))
            parts.append((lengths, own.vocabulary.lookup(index, texts)))
        return own.encoded(parts, count)

    def encode_columns(self, side: Side, columns: Mapping[str, Any]) -> Encoded:
        """Return the token ids of objects that are given as columns: Arrow, pandas, polars or numpy arrays, or lists.

        Columns of other sides are ignored.

        Raises:
            RawValueError: a column is missing, or a value is not of its column's kind.
        """
        own, parts = self[side], []
        for index, column in enumerate(own.columns):
            found = column_codes(column, require_column(columns, column.name))
            parts.append((found.lengths, own.vocabulary.lookup(index, found.texts.to_pylist())[found.codes]))
        return own.encoded(parts, len(parts[0][0]) if parts else len(next(iter(columns.values()), ())))

    def decode(self, side: Side, ids: Encoded | Iterable[Iterable[int]]) -> list[dict[str, Any]]:
        """Return the raw values of objects as text: a value, a list or a text per column that has tokens.

        A value that is unknown or hashed is None.
        """
        own = self[side]
        if isinstance(ids, Encoded):
            ids = ids.to_lists()
        return [_decode(own, tokens) for tokens in ids]

    def save(self, directory: Path) -> None:
        """Write `schema.json` and the vocabulary files into a folder, which is made if it is missing."""
        write_atomically(directory, self.fills())

    def fills(self) -> dict[str, Callable[[Path], object]]:
        """Return the names of the schema's files, each with a function that writes it to a path."""
        sides = {} if self.tied else {vocabulary_file("in1"): self["in1"].vocabulary.write}
        return {
            vocabulary_file("in0"): self["in0"].vocabulary.write,
            **sides,
            SCHEMA_FILE: lambda path: path.write_text(
                json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n", "utf-8"
            ),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the content of `schema.json`."""
        tokenizers = {
            name: {c.name: c.tokenizer.json for c in self[name].columns if isinstance(c, Text) and c.tokenizer}
            for name in SIDES
        }
        return {
            "format_version": FORMAT_VERSION,
            **{name: [written_column(column) for column in self[name].columns] for name in SIDES},
            "label": label_to_json(self.label) if self.label else None,
            "tied": self.tied,
            **({"weight": self.weight} if self.weight is not None else {}),
            **({"tokenizers": tokenizers} if any(tokenizers.values()) else {}),
        }

    @classmethod
    def load(cls, directory: Path) -> Schema:
        """Read a schema from its folder.

        Raises:
            ArtifactError: a file is missing, damaged or of a newer format.
        """
        path = directory / SCHEMA_FILE
        document = read_object(path, _WANTED, ArtifactError)
        try:
            columns, label, tied, weight = _parts(document)
        except (ValueError, UserError) as error:
            raise ArtifactError(f"{path}: {error}; {_WANTED}") from error
        first = Vocabulary.read(directory / vocabulary_file("in0"), columns[0])
        second = first if tied else Vocabulary.read(directory / vocabulary_file("in1"), columns[1])
        return cls((SideSchema(columns[0], first), SideSchema(columns[1], second)), label, tied, weight)


def _value_name(name: Callable[[int], str], column: Column, row: int) -> str:
    return f"{name(row)}.{column.name}"


def vocabulary_file(side: Side) -> str:
    """Return the name of a side's vocabulary file. The one of `in0` belongs to both sides of a tied schema."""
    return _VOCABULARY_FILES[SIDES.index(side)]


def require_column(columns: Mapping[str, Any], name: str) -> Any:
    """Return a column of a table.

    Raises:
        RawValueError: there is none of this name; names the nearest.
    """
    try:
        return columns[name]
    except KeyError:
        names = map(str, getattr(columns, "column_names", columns))  # Arrow tables iterate over their columns
        near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)
        hint = f"the nearest is {near[0]}" if near else "the table has no columns"
        raise RawValueError(f"there is no column {name}, {hint}") from None


def check_columns(sides: Sequence[Sequence[Column]], *, tied: bool) -> None:
    """Check the columns of both sides.

    Raises:
        UserError: a side has a column twice, or sides with one vocabulary have different numbers of columns.
    """
    for name, columns in zip(SIDES, sides, strict=True):
        names = [column.name for column in columns]
        if len(set(names)) < len(names):
            twice = next(each for each in names if names.count(each) > 1)
            raise UserError(f"{name} has the column {twice} twice, wanted each once")
    buckets = [[column.buckets for column in columns] for columns in sides]
    if tied and buckets[0] != buckets[1]:
        counts = " and ".join(str(len(columns)) for columns in sides)
        raise UserError(f"tied sides have {counts} columns, wanted the same number, with the same buckets")


def _parts(
    document: Mapping[str, Any],
) -> tuple[tuple[tuple[Column, ...], tuple[Column, ...]], Label | None, bool, str | None]:
    """Return the columns of both sides, the label, whether the sides are tied, and the column of weights.

    Raises:
        ValueError, UserError: the document is not a schema.
    """
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        raise ValueError("it has text that is not Unicode") from None
    version = document.get("format_version")
    if type(version) is not int or version < 1:
        raise ValueError("no format_version")
    if version > FORMAT_VERSION:
        raise ValueError(f"it has format {version}, wanted {FORMAT_VERSION} or older; use a newer object2vec")
    for name in SIDES:
        columns = document.get(name)
        if not isinstance(columns, list) or not all(isinstance(column, str) for column in columns):
            raise ValueError(f'"{name}" must be a list of columns like "user_id", got {describe(columns)}')
    if not isinstance(document.get("tied"), bool):
        raise ValueError(f'"tied" must be true or false, got {describe(document.get("tied"))}')
    tokenizers = document.get("tokenizers", {})
    if not isinstance(tokenizers, dict) or not all(isinstance(found, dict) for found in tokenizers.values()):
        raise ValueError(f'"tokenizers" must be an object of objects, got {describe(tokenizers)}')
    first, second = (tuple(_saved_column(text, tokenizers.get(name, {})) for text in document[name]) for name in SIDES)
    check_columns((first, second), tied=document["tied"])
    label, weight = document.get("label"), document.get("weight")
    if not isinstance(weight, str | None):
        raise ValueError(f'"weight" must be null or the name of a column, got {describe(weight)}')
    return (first, second), None if label is None else label_from_json(label), document["tied"], weight


def _saved_column(text: str, tokenizers: Mapping[str, str]) -> Column:
    column = parse_column(text, is_saved=True)
    if not isinstance(column, Text) or column.name not in tokenizers:
        return column
    tokenizer = Tokenizer(str(tokenizers[column.name]))
    tokenizer.split([])  # ValueError if it is none
    return replace(column, tokenizer=tokenizer)


def _decode(side: SideSchema, tokens: Iterable[int]) -> dict[str, Any]:
    found: dict[int, list[str | None]] = {}
    for token in tokens:
        if known := side.vocabulary.token(int(token)):
            found.setdefault(known[0], []).append(known[1])
    decoded: dict[str, Any] = {}
    for number, values in found.items():
        column = side.columns[number]
        if column.buckets and None in values:
            values = values[::2]  # a hashed value has two ids
        if isinstance(column, Text):
            decoded[column.name] = " ".join(word or "?" for word in values)
        else:
            decoded[column.name] = values if isinstance(column, List) else values[0]
    return decoded
