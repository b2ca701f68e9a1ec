"""Queries: checked instances, which are answered alone or in one batch with others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from object2vec.model.network import Network
from object2vec.serving.forward import MAX_BATCH_ROWS, forward
from object2vec.serving.instances import EMPTY, Answers, Column, InputWarning, Vectors
from object2vec.serving.search import LabelSearch, Search, find
from object2vec.serving.token_scorer import TokenPairScorer, single_token_pairs

#: Objects that the instances of one part may ask of an index. They bound the memory of records.
MAX_FOUND: Final = 2**14

#: Scores in one batch: those of many classes take more memory than encodings.
MAX_SCORES: Final = 2**22


@dataclass(frozen=True, slots=True)
class Query:
    """Checked instances for a network, which answers all pairs with scores if `scored`, else with embeddings."""

    network: Network
    columns: tuple[Column, Column]
    count: int
    scored: bool
    token_scorer: TokenPairScorer | None  # None if it does not support the network, or without scores
    warnings: tuple[InputWarning, ...] = ()
    #: What each instance asks of an index; empty if none does.
    searches: Sequence[Search | LabelSearch | None] = ()

    @property
    def is_long(self) -> bool:
        """Return whether the query takes more than one batch."""
        return self.count > self._part_rows

    @property
    def _part_rows(self) -> int:
        if not self.searches:
            head = self.network.head if self.scored else None
            return max(1, min(MAX_BATCH_ROWS, MAX_SCORES // head.output.out_features)) if head else MAX_BATCH_ROWS
        most = max(search.k for search in self.searches if search)
        return max(1, min(MAX_BATCH_ROWS, MAX_FOUND // most))

    def parts(self) -> Iterable[Query]:
        """Return the query in parts of at most `MAX_BATCH_ROWS` instances, fewer if an index is to find much."""
        size = self._part_rows
        if 0 < self.count <= size:
            return (self,)
        return (self._part(start, min(start + size, self.count)) for start in range(0, self.count, size))

    def _part(self, start: int, stop: int) -> Query:
        left, right = (column.slice(start, stop) for column in self.columns)
        searches = self.searches[start:stop]
        return replace(self, columns=(left, right), count=stop - start, searches=searches if any(searches) else ())

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
        """Return the answers of one forward pass, and of an index."""
        answers = forward(self.network, self.columns, self.count, scored=self.scored)
        return find(self.searches, answers) if self.searches else answers

    def can_batch_with(self, other: Query) -> bool:
        """Return whether one forward pass can answer both queries."""
        return self.network is other.network and self.scored == other.scored


def answer_batch(queries: Sequence[Query]) -> list[Answers]:
    """Return the answer to each query, from one forward pass for all; every query must batch with the first."""
    if len(queries) == 1:
        return [queries[0].forward()]
    counts = [query.count for query in queries]
    left, right = (Column.concatenate([query.columns[side] for query in queries], counts) for side in (0, 1))
    searches: list[Search | LabelSearch | None] = []
    if any(query.searches for query in queries):
        searches = [search for query in queries for search in query.searches or [None] * query.count]
    whole = replace(queries[0], columns=(left, right), count=sum(counts), searches=searches)
    return whole.forward().split(counts)
