"""Queries: checked instances, which are answered alone or in one batch with others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import eq

import numpy as np

from object2vec.array_types import Int64
from object2vec.data.records import SIDES
from object2vec.data.sequences import Sequences
from object2vec.model.network import Network
from object2vec.serving.forward import MAX_BATCH_ROWS, forward
from object2vec.serving.instances import (
    EMPTY,
    MAX_FEW_TOKENS,
    Answers,
    Column,
    InputWarning,
    Instances,
    Vectors,
)
from object2vec.serving.token_scorer import TokenPairScorer, single_token_pairs


@dataclass(frozen=True, slots=True)
class Query:
    """Checked instances for a network, which answers all pairs with scores if `scored`, else with embeddings."""

    network: Network
    columns: tuple[Column, Column]
    count: int
    scored: bool
    token_scorer: TokenPairScorer | None  # None if it does not support the network, or without scores
    warnings: tuple[InputWarning, ...] = ()

    @property
    def is_long(self) -> bool:
        """Return whether the query takes more than one batch."""
        return self.count > MAX_BATCH_ROWS

    def parts(self) -> Iterable[Query]:
        """Return the query in parts of at most `MAX_BATCH_ROWS` instances."""
        if 0 < self.count <= MAX_BATCH_ROWS:
            return (self,)
        return (
            self._part(start, min(start + MAX_BATCH_ROWS, self.count)) for start in range(0, self.count, MAX_BATCH_ROWS)
        )

    def _part(self, start: int, stop: int) -> Query:
        left, right = (column.slice(start, stop) for column in self.columns)
        return replace(self, columns=(left, right), count=stop - start)

    def answers(self) -> Iterator[Answers]:
        """Return the answers in parts, each computed when it is requested."""
        return (part.token_scores() or part.forward() for part in self.parts())

    def token_scores(self) -> Answers | None:
        """Return the scores of pairs of single tokens, which takes microseconds; None for other instances."""
        token_scorer = self.token_scorer
        if token_scorer and (tokens := single_token_pairs(self.columns, self.count)):
            scores = Vectors(self.columns[0].rows, token_scorer.scores(tokens))
            return Answers(count=self.count, scores=scores, embeddings=(EMPTY, EMPTY))
        return None

    def forward(self) -> Answers:
        """Return the answers of one forward pass."""
        return forward(self.network, self.columns, self.count, scored=self.scored)

    def can_batch_with(self, other: Query) -> bool:
        """Return whether one forward pass can answer both queries."""
        return self.network is other.network and self.scored == other.scored


def answer_batch(queries: Sequence[Query]) -> list[Answers]:
    """Return the answer to each query, from one forward pass for all; every query must batch with the first."""
    if len(queries) == 1:
        (query,) = queries
        return [query.forward()]
    counts = [query.count for query in queries]
    left, right = (Column.concatenate([query.columns[side] for query in queries], counts) for side in (0, 1))
    return replace(queries[0], columns=(left, right), count=sum(counts)).forward().split(counts)


def find_warnings(instances: Instances, side: int, column: Column, pooled: bool) -> Iterator[InputWarning]:
    """Yield the warnings about one side of instances. `column` is that side after truncation."""
    given = instances.columns[side].sequences
    if given is not column.sequences:
        rows = column.rows[given.lengths > column.sequences.lengths]
        yield InputWarning(kind="truncated", side=SIDES[side], rows=rows)
    found = _without_tokens(column.sequences, pooled)
    if found is not None:
        yield InputWarning(kind="no_tokens", side=SIDES[side], rows=column.rows[found])


def _without_tokens(sequences: Sequences, pooled: bool) -> Int64 | None:
    """Return the sequences that are empty, or for a pooled encoder hold only id 0; None if there are none."""
    values, offsets = sequences.values, sequences.offsets
    if len(sequences) <= MAX_FEW_TOKENS and len(values) <= MAX_FEW_TOKENS:
        starts = offsets.tolist()
        possible = (pooled and 0 in values.tolist()) or any(map(eq, starts, starts[1:]))
    else:
        possible = (pooled and not values.all()) or not (offsets[1:] > offsets[:-1]).all()
    if not possible:
        return None
    lacking = offsets[1:] == offsets[:-1]
    if pooled:
        filled = np.flatnonzero(~lacking)
        if len(filled):
            lacking[filled] = ~np.logical_or.reduceat(values != 0, offsets[filled])
    return np.flatnonzero(lacking) if lacking.any() else None
