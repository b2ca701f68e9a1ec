"""Instances and answers as columns, without HTTP, JSON text or tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, pairwise
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Float32, Int64
from object2vec.data.records import SIDES, Side
from object2vec.data.sequences import Sequences
from object2vec.errors import RequestError
from object2vec.hyperparameters import EncoderHyperparameters
from object2vec.retrieval.label_probabilities import PROBABILITY

#: Floats that are taken for whole numbers lie below this in absolute value: each integer there is a float64.
MAX_EXACT_FLOAT: Final = 2.0**53
#: Tokens to keep of in0 and of in1.
Lengths = tuple[int, int]
#: Returns the records or the rows of instances with raw values, by the number of the instance.
RawRecords = Callable[[], Mapping[int, Mapping[str, Any]]]
#: {"scores": (C,)}, {"embeddings": (D,)}, or for a pair in embedding mode {"embeddings": {"in0": (D,), "in1": (D,)}}.
#: From an index {"neighbors": [{…, "score": 0.9}, …]} or "recommendations"; labels have a "probability".
Prediction = dict[str, Float32 | dict[str, Float32] | list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Column:
    """What instances have of a side: sequence i is of instance `rows[i]`, (n,) and ascending.

    An id that does not fit 32 bits is replaced by -1, and kept in `out_of_range_ids` by its place among the values.
    """

    rows: Int64
    sequences: Sequences
    out_of_range_ids: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def from_lists(cls, given: Sequence[Sequence[int] | None]) -> Column:
        """Return the column of instances that each have a list of ids, or None."""
        rows = [row for row, tokens in enumerate(given) if tokens is not None]
        lists = [tokens for tokens in given if tokens is not None]
        out_of_range_ids: dict[int, int] = {}
        try:
            sequences = Sequences.from_lists(lists)
        except OverflowError:
            out_of_range_ids = {place: token for place, token in enumerate(chain(*lists)) if not _fits(token)}
            sequences = Sequences.from_lists([[token if _fits(token) else -1 for token in tokens] for tokens in lists])
        return cls(np.array(rows, np.int64), sequences, out_of_range_ids)

    @classmethod
    def concatenate(cls, columns: Sequence[Column], counts: Sequence[int]) -> Column:
        """Return one column for several requests, which have `counts` instances."""
        starts = accumulate(counts[:-1], initial=0)
        rows = np.concatenate([column.rows + start for column, start in zip(columns, starts, strict=True)])
        return cls(rows, Sequences.concatenate([column.sequences for column in columns]))

    def __len__(self) -> int:
        return len(self.rows)

    def tokens(self, row: int) -> list[int] | None:
        """Return the token ids that an instance has of the side; None if it has none."""
        place = int(np.searchsorted(self.rows, row))
        if place == len(self) or self.rows[place] != row:
            return None
        tokens: list[int] = self.sequences.slice(place, place + 1).values.tolist()
        return tokens

    def without(self, rows: Iterable[int]) -> Column:
        """Return the column without some instances."""
        left = np.flatnonzero(~np.isin(self.rows, list(rows)))
        return self if len(left) == len(self) else Column(self.rows[left], self.sequences.take(left))

    def locate(self, place: int) -> tuple[int, int]:
        """Return the row and the id at a place among the values."""
        row = self.rows[np.searchsorted(self.sequences.offsets, place, side="right") - 1]
        return int(row), self.out_of_range_ids.get(place, int(self.sequences.values[place]))

    def slice(self, start: int, stop: int) -> Column:
        """Return the part of the instances from `start` up to `stop`, renumbered from 0."""
        if not start and (not len(self) or self.rows[-1] < stop):
            return self
        first, last = np.searchsorted(self.rows, (start, stop))
        return Column(self.rows[first:last] - start, self.sequences.slice(first, last))


def _fits(token: int) -> bool:
    return -(2**31) <= token < 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Instances:
    """N instances as a column a side.

    Instance i is what the author of the request calls `label` with `numbers[i]` in its braces. `raw` returns the
    records or the rows of those with raw values. `asked` has what instances ask of an index, not yet checked.
    """

    columns: tuple[Column, Column]
    label: str
    numbers: Sequence[int] | Int64
    warnings: tuple[InputWarning, ...] = ()
    raw: RawRecords = dict
    asked: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def uniform(self) -> bool:
        """Return whether all instances have the same sides."""
        return all(len(column) in (0, len(self)) for column in self.columns)

    def name(self, row: int) -> str:
        """Return the name of an instance in a message: `instances[3]`, `line 4`."""
        return self.label.format(self.numbers[row])


@dataclass(frozen=True, slots=True, kw_only=True)
class InputWarning:
    """Instances that are answered, but perhaps not as the client expects: `rows`, (n,), for one reason.

    `no_tokens`: the side is empty, or for a pooled encoder it has no id but 0; it is encoded as zeros or as padding.
    `truncated`: the side has more tokens than are read.
    `unknown`: a raw value of `column` was not in training.
    """

    kind: Literal["no_tokens", "truncated", "unknown"]
    side: Side
    rows: Int64
    column: str = ""


def count_warnings(warnings: Iterable[InputWarning]) -> dict[str, int]:
    """Return how many sides of instances have each kind of warning."""
    counts: dict[str, int] = {}
    for warning in warnings:
        counts[warning.kind] = counts.get(warning.kind, 0) + len(warning.rows)
    return counts


def read_sides(
    instances: Instances, encoders: tuple[EncoderHyperparameters, EncoderHyperparameters], max_seq_lens: Lengths | None
) -> tuple[tuple[Column, Column], tuple[InputWarning, ...]]:
    """Return what the encoders read of both sides, and warnings; `max_seq_lens` replaces the encoders' own lengths.

    Raises:
        RequestError: an encoder does not know a token that it reads.
    """
    lengths = max_seq_lens or [encoder.max_seq_len for encoder in encoders]
    left, right = (_read_side(instances, side, encoders[side], lengths[side]) for side in (0, 1))
    return (left[0], right[0]), instances.warnings + left[1] + right[1]


def _read_side(
    instances: Instances, side: int, encoder: EncoderHyperparameters, max_len: int
) -> tuple[Column, tuple[InputWarning, ...]]:
    column = instances.columns[side]
    ids = column.sequences.values
    if len(ids) == len(column) == 1 and 0 < ids.item() < encoder.vocab_size:  # most requests; numpy would be slower
        return column, ()
    unknown = ids.view(np.uint32) >= encoder.vocab_size
    if unknown.any():
        unknown &= column.sequences.within_max_len(max_len)
        if unknown.any():
            row, token = column.locate(int(unknown.argmax()))
            raise RequestError(f"{instances.name(row)}: {describe_unknown_id(SIDES[side], token, encoder.vocab_size)}")
    sequences = column.sequences.truncate(max_len)
    without_tokens = _without_tokens(sequences, pooled=encoder.network == "pooled_embedding")
    warnings = []
    if sequences is not column.sequences:
        truncated = column.sequences.lengths > max_len
        warnings.append(InputWarning(kind="truncated", side=SIDES[side], rows=column.rows[truncated]))
        column = Column(column.rows, sequences)
    if without_tokens.any():
        warnings.append(InputWarning(kind="no_tokens", side=SIDES[side], rows=column.rows[without_tokens]))
    return column, tuple(warnings)


def _without_tokens(sequences: Sequences, *, pooled: bool) -> npt.NDArray[np.bool_]:
    """Return which sequences are empty, or for a pooled encoder hold only id 0."""
    values, offsets = sequences.values, sequences.offsets
    lacking: npt.NDArray[np.bool_] = offsets[1:] == offsets[:-1]
    filled = np.flatnonzero(~lacking)
    if pooled and len(filled):
        lacking[filled] = ~np.logical_or.reduceat(values != 0, offsets[filled])
    return lacking


def is_id(token: Any) -> bool:
    """Return whether a JSON value is a whole number: an integer, or a float such as 1.0. `bool` is no integer here."""
    return type(token) is int or (type(token) is float and token.is_integer() and abs(token) < MAX_EXACT_FLOAT)


def describe_unknown_id(side: Side, token: int, vocab_size: int) -> str:
    """Return the error for a token id that the model does not have."""
    if token < 0:
        return f"{side} has the token {token}, wanted an integer token id from 0"
    return f'Inconsistent vocab for {side} found. Vocab id "{token}" is not less than vocab_size={vocab_size}'


@dataclass(frozen=True, slots=True)
class Vectors:
    """A vector for each of some instances: `values[i]`, (n, D), is of instance `rows[i]`."""

    rows: Int64
    values: Float32

    def split(self, bounds: Sequence[int]) -> list[Vectors]:
        """Those of the instances from each bound up to the next, counted from it."""
        if not len(self.rows):
            return [EMPTY] * (len(bounds) - 1)
        places = np.searchsorted(self.rows, bounds).tolist()
        return [
            Vectors(self.rows[first:last] - bound, self.values[first:last])
            for bound, first, last in zip(bounds, places, places[1:], strict=False)
        ]


EMPTY: Final = Vectors(np.empty(0, np.int64), np.empty((0, 0), np.float32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Objects of an index, the best first: the values of their columns, and their scores (k,)."""

    neighbors: bool
    records: list[dict[str, Any]]
    scores: Float32

    def rounded(self, digits: int) -> Found:
        """Return the objects with rounded scores."""
        return replace(self, scores=self.scores.round(digits))


@dataclass(frozen=True, slots=True)
class FoundLabels:
    """The most probable labels of an instance, each a record with its probability."""

    records: list[dict[str, Any]]

    def rounded(self, digits: int) -> FoundLabels:
        """Return the labels with rounded probabilities."""
        return FoundLabels(
            [record | {PROBABILITY: float(np.round(record[PROBABILITY], digits))} for record in self.records]
        )


def _to_prediction(found: Found | FoundLabels) -> Prediction:
    """Return what was found as a list of records with a score."""
    if isinstance(found, FoundLabels):
        return {"recommendations": found.records}
    records = [record | {"score": score} for record, score in zip(found.records, found.scores, strict=True)]
    return {"neighbors" if found.neighbors else "recommendations": records}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What N instances are answered: each with scores, or with the embeddings of the sides that it has."""

    count: int
    scores: Vectors
    embeddings: tuple[Vectors, Vectors]
    #: What was found for each instance that asked an index, in place of its embeddings; empty if none did.
    found: Sequence[Found | FoundLabels | None] = ()

    @property
    def uniform(self) -> tuple[str, Float32] | None:
        """The key and the vectors (N, D) of all answers in their order, where all have one and the same."""
        if self.found:
            return None
        kinds = ("scores", self.scores), *(("embeddings", vectors) for vectors in self.embeddings)
        found = [(key, vectors) for key, vectors in kinds if len(vectors.rows)]
        if len(found) != 1 or len(found[0][1].rows) != self.count:
            return None
        return found[0][0], found[0][1].values

    def rounded(self, digits: int) -> Answers:
        """Return the answers with each number rounded to `digits` decimal places."""
        scores, left, right = (
            Vectors(vectors.rows, vectors.values.round(digits)) for vectors in (self.scores, *self.embeddings)
        )
        found = [each and each.rounded(digits) for each in self.found]
        return Answers(count=self.count, scores=scores, embeddings=(left, right), found=found)

    def split(self, counts: Sequence[int]) -> list[Answers]:
        """Return the answers split by requests of `counts` instances."""
        bounds = list(accumulate(counts, initial=0))
        parts = zip(
            pairwise(bounds), *(vectors.split(bounds) for vectors in (self.scores, *self.embeddings)), strict=True
        )
        return [
            Answers(count=stop - start, scores=scores, embeddings=(left, right), found=self.found[start:stop])
            for (start, stop), scores, left, right in parts
        ]

    def __iter__(self) -> Iterator[Prediction]:
        """Each answer, in the order of the instances."""
        scores, left, right = (
            dict(zip(vectors.rows.tolist(), vectors.values, strict=True)) for vectors in (self.scores, *self.embeddings)
        )
        for row, found in enumerate(self.found or [None] * self.count):
            if found:
                yield _to_prediction(found)
            elif row in scores:
                yield {"scores": scores[row]}
            elif row in left and row in right:
                yield {"embeddings": {"in0": left[row], "in1": right[row]}}
            else:
                yield {"embeddings": left[row] if row in left else right[row]}
