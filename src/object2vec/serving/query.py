"""Queries: checked instances, which are answered alone or in one batch with others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from object2vec.model.network import Network
from object2vec.serving.forward import MAX_BATCH_ROWS, forward
from object2vec.serving.instances import EMPTY, Answers, Column, InputWarning, Vectors
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
        return [queries[0].forward()]
    counts = [query.count for query in queries]
    left, right = (Column.concatenate([query.columns[side] for query in queries], counts) for side in (0, 1))
    return replace(queries[0], columns=(left, right), count=sum(counts)).forward().split(counts)
