"""Answers from the indexes of a model: objects that are similar to those of instances, and recommendations for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from threading import Lock
from typing import Any, Final, cast

import numpy as np

from object2vec.array_types import Bools, Int64
from object2vec.data.records import SIDES, Side
from object2vec.errors import RequestError, UserError
from object2vec.retrieval.label_finder import RankedLabels
from object2vec.retrieval.label_probabilities import LabelProbabilities
from object2vec.retrieval.object_index import ObjectIndex
from object2vec.retrieval.recommender import Recommender
from object2vec.schema.label import Label
from object2vec.schema.schema import Schema
from object2vec.schema.values import describe
from object2vec.serving.instances import Answers, Found, FoundLabels, Instances, describe_unknown_id, is_id
from object2vec.serving.top_k import TopK, read_top_k

#: Results of conditions that a process keeps for a model, and their bytes: one for each object, which has more in the
#: files of its index than all its results here.
MAX_FILTERS: Final = 32
MAX_FILTER_BYTES: Final = 2**25


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What an instance asks of an index: objects of its own side (`neighbors`), or of the other one."""

    index: ObjectIndex
    side: int  # of the instance
    k: int
    neighbors: bool
    #: The object of the instance, if it is one of the index; it is not its own neighbor.
    own: Any | None
    excluded: Int64
    allowed: Bools | None

    @property
    def batch_key(self) -> tuple[int, ...]:
        """Return what searches have in common that can be one. The most excluded rows decide what all of them cost."""
        return id(self.index), self.neighbors, self.k, id(self.allowed), len(self.excluded).bit_length()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSearch:
    """What an instance asks of a model that classifies objects: its `k` most probable labels."""

    label: Label
    calibration: LabelProbabilities | None
    k: int

    @property
    def batch_key(self) -> tuple[int, ...]:
        """Return what searches have in common that can be one."""
        return id(self.label), self.k


def find(searches: Sequence[Search | LabelSearch | None], answers: Answers) -> Answers:
    """Return the answers with what their searches find by the embeddings of the instances."""
    batches: dict[tuple[int, ...], list[int]] = {}
    for row, search in enumerate(searches):
        if search:
            batches.setdefault(search.batch_key, []).append(row)
    found: list[Found | FoundLabels | None] = [None] * answers.count
    for rows in batches.values():
        batch = [search for row in rows if (search := searches[row])]
        for row, own in zip(rows, _find(batch, rows, answers), strict=True):
            found[row] = own
    return replace(answers, found=found)


def _find(
    searches: Sequence[Search | LabelSearch], rows: Sequence[int], answers: Answers
) -> Iterator[Found | FoundLabels]:
    """Yield what searches of one batch find, each for its instance of `rows`."""
    first = searches[0]
    if isinstance(first, LabelSearch):
        scores = answers.scores.values[np.searchsorted(answers.scores.rows, rows)]
        yield from map(FoundLabels, RankedLabels.from_scores(scores, first.label, first.calibration, first.k).records())
        return
    own_searches = [search for search in searches if isinstance(search, Search)]
    index, embeddings = first.index, answers.embeddings[first.side]
    queries = embeddings.values[np.searchsorted(embeddings.rows, rows)]
    best = index.neighbors.search if first.neighbors else cast(Recommender, index.recommender).recommend
    excluded = [search.excluded for search in own_searches]
    owners = [number for number, search in enumerate(own_searches) if search.own is not None]
    own_rows = index.objects.rows([own_searches[number].own for number in owners]) if owners else ()
    for number, row in zip(owners, own_rows, strict=True):
        if row >= 0:
            excluded[number] = np.append(excluded[number], row)
    places, scores = best(queries, first.k, allowed=first.allowed, excluded=excluded)
    is_found = places >= 0
    records = iter(index.objects.records(places[is_found]))
    counts = is_found.sum(axis=1).tolist()
    for count, own_scores in zip(counts, scores, strict=True):
        yield Found(neighbors=first.neighbors, records=list(islice(records, count)), scores=own_scores[:count])


class Searcher:
    """The indexes of a model by their side. `vocab_sizes` are those of its encoders.

    `labels` has the label and the calibration of a model that classifies objects.
    """

    def __init__(
        self,
        indexes: Mapping[Side, ObjectIndex],
        schema: Schema | None,
        vocab_sizes: Sequence[int],
        labels: tuple[Label, LabelProbabilities | None] | None = None,
    ) -> None:
        self.indexes = indexes
        self._labels = labels
        self._schema = schema
        self._vocab_sizes = vocab_sizes
        self._met: dict[tuple[Side, str], Bools] = {}  # by the side and the condition, the oldest first
        self._lock = Lock()

    def prepare(
        self, instances: Instances, asked: Mapping[int, TopK]
    ) -> tuple[Instances, list[Search | LabelSearch | None]]:
        """Return the instances without sides that are only implied, and what each of them asks of an index.

        Raises:
            RequestError: an instance has two sides, there is no index, or an excluded object or a filter is not valid.
        """
        if self._schema:  # a text alone is a pair, whose scores are those of labels
            lone = [row for row, top_k in asked.items() if top_k.neighbors or not self._labels]
            left, right = (
                column if self._schema[side].columns else column.without(lone)
                for side, column in zip(SIDES, instances.columns, strict=True)
            )
            instances = replace(instances, columns=(left, right))
        raw = instances.raw()
        searches: list[Search | LabelSearch | None] = [None] * len(instances)
        for row, top_k in asked.items():
            searches[row] = self._search(top_k, instances, row, raw.get(row, {}))
        return instances, searches

    def _search(self, top_k: TopK, instances: Instances, row: int, raw: Mapping[str, Any]) -> Search | LabelSearch:
        name = instances.name(row)
        left, right = (column.tokens(row) for column in instances.columns)
        if self._labels and not top_k.neighbors:
            if left is None or right is None or top_k.exclude or top_k.condition:
                raise RequestError(
                    f"{name}: top_k asks for labels, wanted a raw value of in0, no exclude and no filter"
                )
            return LabelSearch(label=self._labels[0], calibration=self._labels[1], k=top_k.k)
        if left is not None and right is not None:
            how = "the object to search for; in CSV, the first line names its columns"
            raise RequestError(f"{name} has in0, in1 and top_k, wanted one side: {how}")
        side = int(left is None)
        target = side if top_k.neighbors else 1 - side
        index = self._index(SIDES[target], name)
        if not top_k.neighbors and index.recommender is None:
            raise RequestError(f"{name}: {index.refusal}")
        excluded = self._excluded(top_k, index, target, name)
        own = (raw.get(SIDES[side]) or (right if left is None else left)) if top_k.neighbors else None
        if isinstance(own, list) and max(own, default=0) >= self._vocab_sizes[side]:
            own = None  # it is refused, or cut
        return Search(
            index=index,
            side=side,
            k=top_k.k,
            neighbors=top_k.neighbors,
            own=own,
            excluded=excluded[excluded >= 0],
            allowed=self._allowed(top_k.condition, index, name) if top_k.condition else None,
        )

    def _index(self, side: Side, name: str) -> ObjectIndex:
        if side not in self.indexes:
            raise RequestError(
                f"{name}: top_k asks for objects of {side}, and the model has no index of them; "
                f"make one with `object2vec index --side {side}`"
            )
        return self.indexes[side]

    def _excluded(self, top_k: TopK, index: ObjectIndex, side: int, name: str) -> Int64:
        """Return the rows of the excluded objects, -1 for those that are not there."""
        if not top_k.exclude:
            return np.empty(0, np.int64)
        for place, value in enumerate(top_k.exclude):
            if isinstance(value, list) or self._schema is None:
                self._check_tokens(value, side, f"{name}: exclude[{place}]")
        try:
            return index.objects.rows(top_k.exclude)
        except UserError as error:
            raise RequestError(f"{name}: exclude: {error}") from None

    def _check_tokens(self, value: Any, side: int, name: str) -> None:
        if not isinstance(value, list) or not all(map(is_id, value)):
            raise RequestError(f"{name} is {describe(value)}, wanted a list of integer token ids")
        for token in value:
            if not 0 <= token < self._vocab_sizes[side]:
                raise RequestError(f"{name}: {describe_unknown_id(SIDES[side], token, self._vocab_sizes[side])}")

    def _allowed(self, condition: str, index: ObjectIndex, name: str) -> Bools:
        """Return which objects of an index meet a condition."""
        key = index.side, condition
        with suppress(KeyError):
            return self._met[key]
        with self._lock:  # one at a time: each takes time and memory
            if key not in self._met:
                try:
                    met = index.objects.where(condition)
                except UserError as error:
                    raise RequestError(f"{name}: filter: {error}") from None
                while self._met and len(self._met) >= min(MAX_FILTERS, MAX_FILTER_BYTES // max(1, len(met))):
                    del self._met[next(iter(self._met))]
                self._met[key] = met
            return self._met[key]


def read_asked(instances: Instances, **defaults: Any) -> dict[int, TopK]:
    """Return what instances ask of an index, by the instance; see `read_top_k` for `defaults`."""
    rows = instances.asked if defaults["default"] is None else range(len(instances))
    asked = ((row, read_top_k(instances.asked.get(row, {}), instances.name(row), **defaults)) for row in rows)
    return {row: top_k for row, top_k in asked if top_k}
