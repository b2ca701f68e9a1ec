"""A table as pairs: read it once, learn its schema, then give all pairs in their shuffled order."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Float32, Int32, Int64
from object2vec.data.channels import PAIR_CHANNELS
from object2vec.data.prefetch import map_in_order
from object2vec.data.records import SIDES
from object2vec.data.sequences import Sequences
from object2vec.errors import DataError, UserError, shortened
from object2vec.prepare.rows import Chunk, Rows, RowStore, count_rows, mix, positions, row_keys
from object2vec.prepare.splits import TRAIN, Split, Splits, Splitter, measures
from object2vec.schema.arrays import column_codes, concatenate_rows
from object2vec.schema.columns import Column, Token
from object2vec.schema.label import Label, weight_values
from object2vec.schema.numbering import TokenNumbering
from object2vec.schema.schema import Schema, SideSchema, check_columns, require_column
from object2vec.schema.vocabulary import FIRST_COLUMN_ID, UNKNOWN_ID, Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

#: Different labels of a column whose kind is not given.
MAX_LABELS: Final = 100_000
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to make of a table.

    Without a label, all pairs are positives. `max_tokens` limits the tokens of an object. `unknown_rate` is a share of
    known values in training that become unknown, so that the model learns what these mean. `extend` is a
    schema whose ids are kept. `weight` names the column of weights.
    """

    in0: tuple[Column, ...]
    in1: tuple[Column, ...] = ()
    label: Label | None = None
    tied: bool = False
    split: Split = field(default_factory=Split)
    seed: int = 0
    max_tokens: int = 512
    unknown_rate: float = 0.01
    extend: Schema | None = None
    weight: str | None = None

    @property
    def sides(self) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
        return self.in0, self.in1

    @property
    def column_names(self) -> list[str]:
        """Return the names of all columns that are read."""
        names = [column.name for columns in self.sides for column in columns]
        others = self.label.name if self.label else None, self.weight, self.split.column
        return list(dict.fromkeys([*names, *filter(None, others)]))


class Dataset:
    """The pairs of a table and their schema. `close` removes its temporary files."""

    def __init__(self, plan: Plan, threads: int = 1) -> None:
        check_columns(plan.sides, tied=plan.tied)
        first_column = plan.in0[0] if plan.in0 else None
        if plan.split.kind == "leave-last-out" and not (isinstance(first_column, Token) and not first_column.buckets):
            raise UserError("leave-last-out groups by the first column of in0, wanted one value that is not hashed")
        self.plan = plan
        self.threads = threads
        #: Counts of rows without a label or without a value on a side, and of objects with too many tokens.
        self.counts: Counter[str] = Counter()
        self.store = RowStore()
        self.splitter = Splitter(plan.split)
        self.schema: Schema
        self._labels: dict[str, int] = {}
        self._label_values: Float32 | None = None
        self._rows = 0
        first = self._numbering(0)
        self._numberings = (first, first if plan.tied else self._numbering(1))
        self._ids: tuple[Int32, Int32]

    def _numbering(self, side: int) -> TokenNumbering:
        known = self.plan.extend.sides[side].vocabulary if self.plan.extend else Vocabulary.empty(self.plan.sides[side])
        return TokenNumbering(known)

    @classmethod
    def read(cls, batches: Iterable[Any], plan: Plan, threads: int = 1) -> Dataset:
        """Read all batches of a table, which have the plan's columns, and learn the schema.

        Raises:
            UserError: a value is not of its column's kind, or no row is left for training.
        """
        dataset = cls(plan, threads)
        try:
            with ThreadPoolExecutor(threads) as pool:
                for parsed in map_in_order(pool, dataset._parse, dataset._numbered(batches), threads):
                    dataset._append(parsed)
            dataset._finish()
        except BaseException:
            dataset.close()
            raise
        return dataset

    def close(self) -> None:
        self.store.close()

    def _numbered(self, batches: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Yield the number of each batch's first row, and the batch."""
        for batch in batches:
            yield self._rows, batch
            self._rows += count_rows(batch)

    def _parse(self, numbered: tuple[int, Any]) -> _Parsed:
        """Return the rows of a batch that have a label and a value on both sides."""
        first_row, batch = numbered
        count = count_rows(batch)
        sides = [self._parse_side(columns, batch, count) for columns in self.plan.sides]
        keys = row_keys(self.plan.seed, first_row, count)
        label = self.plan.label
        given = require_column(batch, label.name) if label else np.ones(count, np.int32)
        labels = (label or Label("label")).codes(given)
        counts = Counter(label=int(np.count_nonzero(labels.lengths == 0)))
        for name, (side, _) in zip(SIDES, sides, strict=True):
            counts[name] = int(np.count_nonzero(side.lengths == 0))
            counts[f"{name} truncated"] = int(np.count_nonzero(side.lengths > self.plan.max_tokens))
        is_set = label is not None and label.is_set
        index = np.flatnonzero(labels.lengths) if is_set else np.repeat(np.arange(count), labels.lengths)
        kept = (sides[0][0].lengths[index] > 0) & (sides[1][0].lengths[index] > 0)
        weights = None
        if self.plan.weight is not None:
            weights = weight_values(self.plan.weight, require_column(batch, self.plan.weight))
            counts["weight"] = int(np.count_nonzero(np.isnan(weights)))
            kept &= ~np.isnan(weights[index])
        rows = Rows(
            keys=keys,
            weights=weights,
            classes=Sequences.from_lengths(labels.codes, labels.lengths) if is_set else None,
            labels=np.zeros(count, np.float32),
            measures=measures(self.plan.split, batch, keys, self.plan.seed),
            sides=(sides[0][0].truncate(self.plan.max_tokens), sides[1][0].truncate(self.plan.max_tokens)),
        )
        texts = sides[0][1], sides[1][1]
        return _Parsed(
            rows.take(index[kept]),
            texts,
            labels.codes[:0] if is_set else labels.codes[kept],
            labels.texts.to_pylist(),
            counts,
        )

    def _parse_side(self, columns: Sequence[Column], batch: Any, rows: int) -> tuple[Sequences, list[Any]]:
        """Return the texts of each column, and the tokens of each row as indices of all of them, from 1."""
        texts = []
        parts: list[tuple[Int64, Int32]] = []
        first = 1
        for column in columns:
            found = column_codes(column, require_column(batch, column.name))
            width = 2 if column.buckets else 1
            codes = np.add.outer(width * found.codes + first, range(width)).astype(np.int32)
            parts.append((width * found.lengths, codes.ravel()))
            texts.append(found.texts)
            first += width * len(found.texts)
        return concatenate_rows(parts or [(np.ones(rows, np.int64), np.zeros(rows, np.int32))]), texts

    def _append(self, parsed: _Parsed) -> None:
        """Assign numbers to the tokens of a batch, and store it."""
        self.counts += parsed.counts
        first, second = (self._number_side(side, parsed) for side in (0, 1))
        numbers, classes = self._number_labels(parsed.label_texts), parsed.rows.classes
        if classes is None:
            labels = numbers[parsed.label_codes]
        else:
            classes = Sequences(numbers.astype(np.int32)[classes.values], classes.offsets)
            labels = classes.lengths.astype(np.float32)
        rows = replace(parsed.rows, labels=labels, sides=(first, second), classes=classes)
        self.splitter.observe(rows)
        self.store.append(rows)

    def _number_side(self, side: int, parsed: _Parsed) -> Sequences:
        numbers = [self._numberings[side].number(index, texts) for index, texts in enumerate(parsed.texts[side])]
        sequences = parsed.rows.sides[side]
        # 0 is the token of a side without columns.
        return Sequences(np.concatenate([[UNKNOWN_ID], *numbers]).astype(np.int32)[sequences.values], sequences.offsets)

    def _number_labels(self, texts: Sequence[str]) -> Float32:
        """Return the numbers of labels, or the labels themselves if they are known to be numbers."""
        label = self.plan.label
        if label and label.kind == "number":
            return np.array(label.numbers(texts), np.float32)
        numbers = [self._labels.setdefault(text, len(self._labels)) for text in texts]
        if label and len(self._labels) > MAX_LABELS:
            raise UserError(f"{label.name} has more than {MAX_LABELS} different values; are they {label.name}:number?")
        return np.array(numbers, np.float32)

    def _finish(self) -> None:
        """Learn the label and the vocabularies from the rows for training."""
        label = self.plan.label and self.plan.label.learned(self._labels)
        if label and len(self._labels) == 1:
            what = f"all rows have the label {shortened(repr(next(iter(self._labels))))}"
            logger.warning(f"column {label.name}: {what}, wanted at least two different labels")
        if not label:
            self._label_values = np.ones(1, np.float32)
        elif self._labels:
            self._label_values = np.array(label.numbers(self._labels), np.float32)
        self.splitter.finish(self.store)
        counts = [np.zeros(len(numbering), np.int64) for numbering in self._numberings]
        if self.plan.tied:
            counts[1] = counts[0]
        rows = 0
        for found in self.store.batches():
            is_train = self.splitter.assign(found) == TRAIN
            rows += int(np.count_nonzero(is_train))
            for side, sequences in enumerate(found.sides):
                tokens = np.bincount(sequences.take(np.flatnonzero(is_train)).values)
                counts[side][: len(tokens)] += tokens
        if not rows:
            skipped = "".join(f", {count} without {name}" for name, count in self.counts.items() if count)
            raise DataError(f"no row is left for training: the table has {self._rows} rows{skipped}")
        learned = [self._numberings[0].finish(counts[0])]
        learned.append(learned[0] if self.plan.tied else self._numberings[1].finish(counts[1]))
        first, second = (SideSchema(c, found[0]) for c, found in zip(self.plan.sides, learned, strict=True))
        self.schema = Schema((first, second), label, self.plan.tied, self.plan.weight)
        self._ids = learned[0][1], learned[1][1]

    def map_chunks(self, function: Callable[[Rows, Rows, Splits], _Result]) -> Iterator[_Result]:
        """Yield a function's result for each part of all rows, in order; threads call it.

        It gets rows with token ids and labels, the same rows with numbers in place of ids, and their splits. Unlike
        ids, numbers tell unknown values apart.
        """

        def process(chunk: Chunk) -> _Result:
            rows = chunk.read_sorted()
            splits = self.splitter.assign(rows)
            return function(self._translated(rows, splits), rows, splits)

        with ThreadPoolExecutor(self.threads) as pool:
            yield from map_in_order(pool, process, self.store.chunks(), self.threads)

    def _translated(self, rows: Rows, splits: Splits) -> Rows:
        """Return rows with token ids in place of numbers, and with final labels."""
        first, second = (self._translated_side(side, rows, splits == TRAIN) for side in (0, 1))
        labels, classes = rows.labels, rows.classes
        if classes is not None and self._label_values is not None:
            classes = Sequences(self._label_values.astype(np.int32)[classes.values], classes.offsets)
        elif self._label_values is not None:
            labels = self._label_values[labels.astype(np.int64)]
        return replace(rows, labels=labels, sides=(first, second), classes=classes)

    def _translated_side(self, side: int, rows: Rows, is_train: npt.NDArray[np.bool_]) -> Sequences:
        sequences, vocabulary = rows.sides[side], self.schema.sides[side].vocabulary
        ids = self._ids[side][sequences.values]
        if self.plan.unknown_rate:
            places = mix(2 * np.arange(self.plan.max_tokens, dtype=np.uint64) + np.uint64(side))
            chances = np.repeat(rows.keys, sequences.lengths)
            chances ^= places[positions(sequences)]
            chosen = mix(chances) >> np.uint64(11) < np.uint64(math.ceil(self.plan.unknown_rate * 2**53))
            chosen &= np.repeat(is_train, sequences.lengths) & (ids >= vocabulary.first_id)
            ids[chosen] = FIRST_COLUMN_ID + vocabulary.column_of[ids[chosen] - vocabulary.first_id]
        return Sequences(ids, sequences.offsets)


@dataclass(frozen=True, slots=True)
class _Parsed:
    """Rows of a batch without numbers: tokens index the `texts` of the columns of a side, labels have their codes."""

    rows: Rows
    texts: tuple[Sequence[pa.LargeStringArray], Sequence[pa.LargeStringArray]]
    label_codes: Int32
    label_texts: Sequence[str]
    counts: Counter[str]


def rows_by_split(rows: Rows, splits: Splits) -> dict[str, Rows]:
    """Return the rows of each split that has any."""
    found = {name: np.flatnonzero(splits == number) for number, name in enumerate(PAIR_CHANNELS)}
    return {name: rows.take(index) for name, index in found.items() if len(index)}
