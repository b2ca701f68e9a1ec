"""What a prepared data set holds: counts, lengths, unknown values, labels, duplicates and leakage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from object2vec.array_types import Int64
from object2vec.data.channels import PAIR_CHANNELS
from object2vec.data.records import SIDES
from object2vec.data.sequences import Sequences
from object2vec.prepare.dataset import Dataset
from object2vec.prepare.rows import Rows, UInt64, fraction, mix, positions
from object2vec.prepare.splits import TRAIN, Splits

Contents = tuple[UInt64, UInt64, Splits]
PERCENTILES: Final = (50, 90, 99, 100)
#: Pairs whose contents are compared. Of more pairs, a share by a hash of their content is compared.
MAX_COMPARED: Final = 2**22
#: Labels that are counted one by one.
MAX_SHOWN_LABELS: Final = 30


@dataclass(slots=True)
class SplitStatistics:
    """Counts of one split."""

    rows: int = 0
    tokens: list[int] = field(default_factory=lambda: [0, 0])
    unknown: list[int] = field(default_factory=lambda: [0, 0])
    lengths: list[Int64] = field(default_factory=lambda: [np.zeros(0, np.int64), np.zeros(0, np.int64)])
    labels: Counter[float] = field(default_factory=Counter)

    def percentiles(self, side: int) -> list[int]:
        """Return lengths of the objects of a side at `PERCENTILES`."""
        totals = np.cumsum(self.lengths[side])
        return [int(np.searchsorted(totals, np.ceil(share / 100 * totals[-1]))) for share in PERCENTILES]


class Statistics:
    """Statistics of all splits, collected part by part: `of_part` in any thread, then `add`."""

    def __init__(self, dataset: Dataset) -> None:
        self.splits = {name: SplitStatistics() for name in PAIR_CHANNELS}
        self._unknown = [1 + len(side.columns) for side in dataset.schema.sides]
        #: For some pairs: a hash of its sides, one of its sides and label, and its split.
        self._contents: list[Contents] = []
        self._share = 1.0

    def add(self, found: Mapping[str, SplitStatistics], contents: Contents) -> None:
        """Add the statistics of a part."""
        for name, part in found.items():
            total = self.splits[name]
            total.rows += part.rows
            total.labels += part.labels
            for side in (0, 1):
                total.tokens[side] += part.tokens[side]
                total.unknown[side] += part.unknown[side]
                total.lengths[side] = _added(total.lengths[side], part.lengths[side])
        self._contents.append(self._sampled(*contents))  # the share may have changed since `of_part`
        while sum(len(hashes) for hashes, _, _ in self._contents) > MAX_COMPARED:
            self._share /= 2
            self._contents = [self._sampled(*contents) for contents in self._contents]

    def _sampled(self, pairs: UInt64, rows: UInt64, splits: Splits) -> Contents:
        kept = fraction(pairs) < self._share
        return pairs[kept], rows[kept], splits[kept]

    def of_part(self, rows: Rows, numbers: Rows, splits: Splits) -> tuple[dict[str, SplitStatistics], Contents]:
        """Return the statistics of a part of all rows, see `Dataset.map_chunks`."""
        found = {}
        for number, name in enumerate(PAIR_CHANNELS):
            index = np.flatnonzero(splits == number)
            if len(index):
                own = rows.take(index)
                given = own.labels if own.classes is None else own.classes.values
                values, counts = np.unique(given, return_counts=True)
                labels = Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))
                found[name] = SplitStatistics(
                    rows=len(own),
                    tokens=[len(side.values) for side in own.sides],
                    unknown=[_count_unknown(side, last) for side, last in zip(own.sides, self._unknown, strict=True)],
                    lengths=[np.bincount(side.lengths) for side in own.sides],
                    labels=labels if len(labels) <= MAX_SHOWN_LABELS else Counter(),
                )
        first, second = map(_content, numbers.sides)
        pairs = mix(first ^ mix(second))
        return found, self._sampled(pairs, pairs ^ mix(rows.labels.view(np.uint32).astype(np.uint64)), splits)

    def repeated(self) -> tuple[float, dict[str, float]]:
        """Return the share of repeated pairs, and of the pairs of each other split that are in training too."""
        if not self._contents:
            return 0.0, {}
        pairs, rows, splits = map(np.concatenate, zip(*self._contents, strict=True))
        by_split = [np.sort(pairs[splits == number]) for number in range(len(PAIR_CHANNELS))]
        shares = {
            name: float(_is_in(by_split[number], by_split[TRAIN]).mean())
            for number, name in enumerate(PAIR_CHANNELS)
            if number != TRAIN and len(by_split[number])
        }
        rows = np.sort(rows)  # np.unique takes a hundred times as long
        return float(np.count_nonzero(rows[1:] == rows[:-1])) / max(1, len(rows)), shares

    def to_json(self, dataset: Dataset) -> dict[str, Any]:
        """Return the report as JSON values."""
        duplicates, leakage = self.repeated()
        label = dataset.schema.label
        names = label.classes if label else ()
        splits = {
            name: {
                "rows": split.rows,
                "lengths": {side: split.percentiles(number) for number, side in enumerate(SIDES)},
                "unknown": {s: split.unknown[n] / max(1, split.tokens[n]) for n, s in enumerate(SIDES)},
                "labels": {names[int(c)] if names else f"{c:g}": count for c, count in sorted(split.labels.items())},
            }
            for name, split in self.splits.items()
            if split.rows
        }
        return {
            "splits": splits,
            "vocab_size": {side: dataset.schema[side].vocabulary.size for side in SIDES},
            "skipped": {
                name: dataset.counts[name] for name in ("label", *SIDES, *(["weight"] if dataset.plan.weight else []))
            },
            "truncated": {side: dataset.counts[f"{side} truncated"] for side in SIDES},
            "duplicates": duplicates,
            "also in train": leakage,
        }


def to_text(report: Mapping[str, Any]) -> str:
    """Return a report for people."""
    lines = [f"{'':12}{'rows':>12}{'in0 lengths':>22}{'in1 lengths':>22}{'unknown in0':>14}{'unknown in1':>14}"]
    for name, split in report["splits"].items():
        lengths = ["/".join(map(str, split["lengths"][side])) for side in SIDES]
        unknown = [f"{split['unknown'][side]:.2%}" for side in SIDES]
        lines.append(f"{name:12}{split['rows']:>12,}{lengths[0]:>22}{lengths[1]:>22}{unknown[0]:>14}{unknown[1]:>14}")
    lines.append("lengths are tokens per object at the percentiles " + ", ".join(map(str, PERCENTILES)))
    for name, split in report["splits"].items():
        total = sum(split["labels"].values())
        if len(split["labels"]) > 1:
            shares = ", ".join(f"{label}: {count / total:.1%}" for label, count in split["labels"].items())
            lines.append(f"labels of {name}: {shares}")
    lines.append("token ids: " + ", ".join(f"{size:,} for {side}" for side, size in report["vocab_size"].items()))
    for name, count in report["skipped"].items():
        if count:
            lines.append(f"skipped: {count:,} rows without {name}")
    for side, count in report["truncated"].items():
        if count:
            lines.append(f"truncated: {count:,} objects of {side}; --max-tokens sets the limit")
    lines.append(f"duplicates: {report['duplicates']:.1%} of pairs repeat an earlier pair")
    for name, share in report["also in train"].items():
        lines.append(f"leakage: {share:.1%} of the pairs of {name} are in train too")
    return "\n".join(lines) + "\n"


def _count_unknown(side: Sequences, last_unknown: int) -> int:
    """Count the tokens that stand for an unknown value; 1 itself is the only token of a side without columns."""
    return int(np.count_nonzero((side.values <= last_unknown) & (side.values > 1)))


def _content(side: Sequences) -> UInt64:
    """Return a hash of each sequence, which depends on the order of its tokens."""
    tokens = (positions(side) << 32 | side.values).view(np.uint64)
    return np.add.reduceat(mix(tokens), side.offsets[:-1])


def _is_in(values: UInt64, known: UInt64) -> npt.NDArray[np.bool_]:
    """Return which values are among the known ones, which are sorted."""
    return np.searchsorted(known, values, "right") > np.searchsorted(known, values, "left")


def _added(first: Int64, second: Int64) -> Int64:
    size = max(len(first), len(second))
    return np.pad(first, (0, size - len(first))) + np.pad(second, (0, size - len(second)))
