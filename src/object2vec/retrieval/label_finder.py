"""The most probable labels of objects, from a model that classifies them.

Shapes: Q queries, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from object2vec.array_types import Float32, Float64, Int64
from object2vec.data.records import Side
from object2vec.errors import UserError
from object2vec.extras import import_extra
from object2vec.retrieval.finder import Queries, checked_k, parse_queries, query_columns
from object2vec.retrieval.label_probabilities import PREDICTED, PROBABILITY, LabelProbabilities
from object2vec.schema.label import Label
from object2vec.schema.schema import Schema

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class RankedLabels:
    """The labels of Q objects: `probabilities` (Q, C), and which `k` to show of each, the most probable first.

    `threshold` is None for a model that is not calibrated: no label is then said to be predicted.
    """

    label: Label
    probabilities: Float64
    threshold: float | None
    k: int

    @classmethod
    def from_scores(
        cls, scores: Float32, label: Label, calibration: LabelProbabilities | None, k: int, **more: Any
    ) -> Self:
        """Return the labels of objects with the scores (Q, C), which are the probabilities without a calibration."""
        own = scores[:, : len(label.classes)].astype(np.float64)  # a network has two classes at least
        if calibration:
            probabilities = calibration(own)
        else:
            probabilities = own / own.sum(axis=1, keepdims=True) if label.exclusive else own
        return cls(
            label=label,
            probabilities=probabilities,
            threshold=calibration.threshold if calibration else None,
            k=min(k, len(label.classes)),
            **more,
        )

    @cached_property
    def order(self) -> Int64:
        """The classes to show, (Q, k)."""
        return np.argsort(-self.probabilities, axis=1, kind="stable")[:, : self.k]

    @property
    def columns(self) -> list[str]:
        """Return the names of an answer's values."""
        return [self.label.name, PROBABILITY, *([PREDICTED] if self.threshold is not None else [])]

    def records(self) -> list[list[dict[str, Any]]]:
        """Return the most probable labels of each object."""
        rows = [dict(zip(self.columns, values, strict=True)) for values in zip(*self._values(), strict=True)]
        return [rows[start : start + self.k] for start in range(0, len(rows), self.k)]

    def _values(self) -> list[list[Any]]:
        """Return the column of each name in `columns`."""
        shown = np.take_along_axis(self.probabilities, self.order, axis=1).ravel()
        values: list[list[Any]] = [[self.label.classes[number] for number in self.order.ravel()], shown.tolist()]
        return values if self.threshold is None else [*values, (shown >= self.threshold).tolist()]


@dataclass(frozen=True, kw_only=True)
class LabelAnswers(RankedLabels):
    """The labels of queries."""

    queries: Queries

    def table(self) -> pa.Table:
        """Return a row for each label: the columns of its query, its rank, and its values.

        A column of the query gets the prefix `query_` if the name is taken.
        """
        query, place = np.divmod(np.arange(self.order.size), self.k)
        columns = query_columns(self.queries, query, {"rank", *self.columns})
        found = dict(zip(self.columns, self._values(), strict=True))
        return import_extra("pyarrow").table(columns | {"rank": place + 1} | found)


class LabelFinder:
    """Finds the most probable labels of objects of in0."""

    side: Side = "in0"

    def __init__(
        self,
        schema: Schema,
        label: Label,
        score: Callable[[Any], Float32],
        calibration: LabelProbabilities | None,
        k: int,
    ) -> None:
        """Use `score` (N, C) of N objects, a list or a table; without a calibration, scores are the probabilities."""
        self._schema, self._label, self._score, self._calibration = schema, label, score, calibration
        self._k = checked_k(k)

    def find(self, objects: Any) -> LabelAnswers:
        """Return the labels of a list of objects, or of a table of them."""
        queries = parse_queries(objects, self._schema, self.side)
        scores = self._score(queries.objects)
        return LabelAnswers.from_scores(scores, self._label, self._calibration, self._k, queries=queries)


def check_labels_wanted(side: Side | None, **limits: Any) -> None:
    """Check the arguments of a search for labels.

    Raises:
        UserError: the objects are of in1, or labels are limited, which have no columns and no seen pairs.
    """
    if side == "in1":
        raise UserError("side is in1, wanted in0: this model recommends labels for the objects of in0")
    given = [name for name, value in limits.items() if value is not None]
    if given:
        raise UserError(f"{given[0]} is given, wanted no limits: this model recommends labels")
