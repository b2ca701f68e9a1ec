"""The objects of one side with the highest scores for objects of the other side, by the network's own score.

Heads without activations, on products and encodings, are searched by inner product: their score is one. For other
heads, all candidates are scored if they are few. Of many, the network scores those that an approximation finds.

Shapes: N candidates, D dimensions of an encoding, Q queries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from object2vec.array_types import Bools, Float32, Int64
from object2vec.data.files import read_object
from object2vec.errors import ArtifactError
from object2vec.model.network import Network
from object2vec.model.tokens import Tokens
from object2vec.ops.vectors import Metric
from object2vec.retrieval.anchors import Anchors
from object2vec.retrieval.array_files import open_array, write_array
from object2vec.retrieval.exact import as_tensor, best_pairs, highest
from object2vec.retrieval.pair_scores import PairScores
from object2vec.retrieval.vector_index import VectorIndex

#: At most so many candidates are all scored, if the score is not a product.
SCORE_ALL_UP_TO: Final = 20_000
#: Random queries that the search is tuned for, if none are given.
SAMPLE_QUERIES: Final = 1_000


class Recommender:
    """Finds the candidates, objects of one side, with the highest scores for encodings of the other side.

    The score is the network's: the probability of class 1 of two classes, or the number of a regression.
    """

    def __init__(
        self, scores: PairScores, vectors: Tensor, index: VectorIndex | None = None, anchors: Anchors | None = None
    ) -> None:
        self._scores = scores
        self._vectors = vectors
        self._index = index
        self._anchors = anchors

    @property
    def description(self) -> Mapping[str, Any]:
        """Return how candidates are searched, in JSON values."""
        if self._index is None:
            return {"kind": "all scored"}
        how = {"kind": "anchors", **self._anchors.description} if self._anchors else {"kind": "product"}
        return how | {"search": dict(self._index.description)}

    @classmethod
    def build(
        cls, network: Network, vectors: Float32, side: int, *, queries: Float32 | None = None, seed: int = 0
    ) -> Recommender:
        """Return a recommender of objects of `side`, 0 or 1, whose encodings are `vectors` (N, D).

        Args:
            network: the model.
            vectors: encodings of the candidates, which are not copied; they can be memory-mapped.
            side: the side of the candidates.
            queries: encodings of objects of the other side, which the search is tuned for; drawn if None.
            seed: of what is drawn.

        Raises:
            UserError: the model has several classes without an order.
        """
        scores, candidates = PairScores(network, side), as_tensor(vectors)
        if not scores.is_product and len(vectors) <= SCORE_ALL_UP_TO:
            return cls(scores, candidates)
        with torch.inference_mode():
            examples = _random_queries(network, 1 - side, seed) if queries is None else torch.from_numpy(queries)
            anchors = None if scores.is_product else Anchors.build(scores, candidates, examples, seed=seed)
            factors, _ = cls(scores, candidates, anchors=anchors)._linear_scores(examples)
        product: Metric = "dot" if scores.cosine_sign is None else "cosine"
        metric = "dot_and_square" if anchors else product
        index = VectorIndex.build(vectors, metric, queries=factors.numpy(), seed=seed)
        return cls(scores, candidates, index, anchors)

    @torch.inference_mode()
    def recommend(
        self,
        queries: Float32,
        k: int,
        *,
        allowed: Bools | None = None,
        excluded: Sequence[Int64] | None = None,
    ) -> tuple[Int64, Float32]:
        """Return rows (Q, k) of the candidates with the highest scores, and the scores; see `VectorIndex.search`."""
        given = torch.from_numpy(np.array(queries, np.float32, order="C"))
        if self._index is None:
            rows, scores = self._score_all(given, k, allowed, excluded)
        elif self._anchors is None:
            factors, constants = self._linear_scores(given)
            rows, scores = self._index.search(factors.numpy(), k, allowed=allowed, excluded=excluded)
            if self._scores.cosine_sign is None:
                scores += constants.numpy()
            else:
                rows, scores = self._rerank(given, rows, k)
        else:
            factors, _ = self._linear_scores(given)
            rows, _ = self._index.search(
                factors.numpy(), max(k, self._anchors.reranked), allowed=allowed, excluded=excluded
            )
            rows, scores = self._rerank(given, rows, k)
        return rows, np.where(rows >= 0, self._scores.published(scores), -np.inf).astype(np.float32)

    def fills(self, prefix: str) -> dict[str, Callable[[Path], object]]:
        """Return the names of the files, each with a function that writes it; the vectors are not written."""
        return {
            **(self._index.fills(f"{prefix}search.") if self._index else {}),
            **({} if self._anchors is None else {f"{prefix}anchors.npy": partial(write_array, self._anchors.rows)}),
            f"{prefix}json": lambda path: path.write_text(json.dumps(dict(self.description), indent=2) + "\n"),
        }

    @classmethod
    def open(cls, directory: Path, prefix: str, network: Network, vectors: Float32, side: int) -> Recommender:
        """Open the recommender that `fills` wrote with this prefix, for the same network, vectors and side.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        path = directory / f"{prefix}json"
        described = read_object(path, "wanted the description of an index", ArtifactError)
        scores, candidates, kind = PairScores(network, side), as_tensor(vectors), described.get("kind")
        if kind == "all scored":
            return cls(scores, candidates)
        if kind not in ("product", "anchors") or (kind == "product") != scores.is_product:
            raise ArtifactError(f"{path}: kind is {kind!r}, which does not fit the model")
        anchors = (
            _open_anchors(directory / f"{prefix}anchors.npy", candidates, described) if kind == "anchors" else None
        )
        return cls(scores, candidates, VectorIndex.open(directory, f"{prefix}search.", vectors), anchors)

    def _linear_scores(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return factors (Q, D or D + 1) and constants (Q, 1) of exact or approximate scores, for the index."""
        if self._anchors is None:
            return self._scores.product(queries)
        found = self._anchors.fitted(self._scores, self._vectors, queries)
        return found[:, :-1].contiguous(), found[:, -1:]

    def _rerank(self, queries: Tensor, rows: Int64, k: int) -> tuple[Int64, Float32]:
        """Return the k best (Q, k) of rows (Q, n) by the network's score; -1 is no row."""
        left, place = np.nonzero(rows >= 0)
        scores = np.full(rows.shape, -np.inf, np.float32)
        scores[left, place] = self._scores(queries, self._vectors, left, rows[left, place])
        left, place = highest(scores, k)
        return best_pairs(left, rows[left, place], scores[left, place], len(queries), k)

    def _score_all(
        self, queries: Tensor, k: int, allowed: Bools | None, excluded: Sequence[Int64] | None
    ) -> tuple[Int64, Float32]:
        """Score all candidates that may be found, one query at a time."""
        rows = np.arange(len(self._vectors)) if allowed is None else np.flatnonzero(allowed)
        found = [self._rerank(queries[:0], rows[None, :0], k)]
        for number in range(len(queries)):
            own = rows if excluded is None else np.setdiff1d(rows, excluded[number], assume_unique=False)
            found.append(self._rerank(queries[number : number + 1], own[None], k))
        return np.concatenate([each[0] for each in found]), np.concatenate([each[1] for each in found])


def _open_anchors(path: Path, vectors: Tensor, described: Mapping[str, Any]) -> Anchors:
    """Return the anchors of a file.

    Raises:
        ArtifactError: it does not fit the vectors.
    """
    rows, sizes = np.array(open_array(path)), [described.get(name) for name in ("reranked", "recall@10")]
    if rows.dtype != np.int64 or rows.ndim != 1 or not all(isinstance(size, int | float) for size in sizes):
        raise ArtifactError(f"{path}: no anchors")
    if not 0 <= rows.min(initial=0) <= rows.max(initial=0) < len(vectors):
        raise ArtifactError(f"{path}: does not fit the vectors")
    reranked, recall = sizes
    return Anchors.restore(vectors, rows, reranked=int(reranked or 1), recall=float(recall or 0))


def _random_queries(network: Network, side: int, seed: int) -> Tensor:
    """Return the encodings of random objects of one token each."""
    generator = torch.Generator().manual_seed(seed)
    size = len(network.encoder(side).embedding.weight)
    ids = torch.randint(min(1, size - 1), size, (SAMPLE_QUERIES,), generator=generator)
    tokens = Tokens(ids.to(network.device), torch.arange(len(ids) + 1, device=network.device))
    found: Tensor = network.encode(side, tokens)
    return found.cpu()
