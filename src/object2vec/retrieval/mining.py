"""Mine hard negatives: objects that a model ranks high for an `in0` with which they are not paired.

Shapes: B objects of in0, W ranks of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from object2vec.array_types import Int64
from object2vec.data.sequences import Pairs
from object2vec.errors import UserError
from object2vec.retrieval.object_index import Encode
from object2vec.retrieval.recommender import Recommender

#: Queries that are answered at a time.
BLOCK_QUERIES: Final = 2**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which ranks are mined: those after `skip`, which are likely positives without a label, up to `top`.

    Of these, `per_pair` are drawn for each positive pair, and none twice for the same `in0`.
    """

    per_pair: int = 1
    skip: int = 10
    top: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.skip >= self.top:
            raise UserError(f"skip is {self.skip} and top is {self.top}, wanted a top above skip")


def mine_negatives(
    pairs: Pairs,
    encode: Encode,
    network: Any,
    window: Window,
    *,
    mined: Callable[[int], object] = int,
) -> Pairs:
    """Return negatives of the positive pairs: for each `in0`, objects of `in1` in a window of the model's ranking.

    No pair of `pairs`, whatever its label, is a negative. `mined` is called with each number of finished `in0`.

    Raises:
        UserError: a label is neither 0 nor 1, or the model gives no single score.
    """
    wrong = (pairs.labels != 0) & (pairs.labels != 1)
    if wrong.any():
        raise UserError(
            f"a label is {pairs.labels[wrong.argmax()]:g}, wanted pairs with the labels 0 and 1 to mine for"
        )
    (first0, inverse0), (first1, inverse1) = (side.unique() for side in pairs.sides)
    objects = pairs.in0.take(first0), pairs.in1.take(first1)
    positives = np.bincount(inverse0[pairs.labels == 1], minlength=len(first0))
    queries = np.flatnonzero(positives)
    by_query = np.argsort(inverse0, kind="stable")
    starts = np.searchsorted(inverse0[by_query], np.arange(len(first0) + 1))
    recommender = Recommender.build(network, encode(objects[1], "in1"), 1, seed=window.seed)
    generator = np.random.default_rng(window.seed)
    found = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for start in range(0, len(queries), BLOCK_QUERIES):
        block = queries[start : start + BLOCK_QUERIES]
        paired = [inverse1[by_query[starts[query] : starts[query + 1]]].astype(np.int64) for query in block]
        rows, _ = recommender.recommend(encode(objects[0].take(block), "in0"), window.top, excluded=paired)
        places, chosen = _draw(rows[:, window.skip :], window.per_pair * positives[block], generator)
        found.append((block[places], chosen))
        mined(len(block))
    left, right = (np.concatenate(each) for each in zip(*found, strict=True))
    return Pairs(objects[0].take(left), objects[1].take(right), np.zeros(len(left), np.float32))


def _draw(rows: Int64, counts: Int64, generator: np.random.Generator) -> tuple[Int64, Int64]:
    """Draw up to `counts` (B,) different rows of each query from `rows` (B, W), without -1.

    Return the position of the query and the row of each that is drawn.
    """
    order = np.argsort(generator.random(rows.shape) + (rows < 0), axis=1)
    shuffled = np.take_along_axis(rows, order, 1)
    chosen = (np.arange(rows.shape[1]) < counts[:, None]) & (shuffled >= 0)
    return np.nonzero(chosen)[0], shuffled[chosen]


def mixed(parts: Sequence[Pairs], seed: int) -> Pairs:
    """Return all pairs in random order, with each pair of label 0 after a positive of its `in0`, if there is one.

    Ranking losses take it as a negative of this positive.
    """
    joined = Pairs.concatenate(parts)
    place, in0 = np.random.default_rng(seed).permutation(len(joined)), joined.in0.unique()[1]
    positives, negatives = (np.flatnonzero(side) for side in (joined.labels >= 1, joined.labels < 1))
    positives, negatives = (rows[np.argsort(in0[rows], kind="stable")] for rows in (positives, negatives))
    first, end = (np.searchsorted(in0[positives], in0[negatives], side) for side in ("left", "right"))
    has_positive = end > first
    turn = np.arange(len(negatives)) - np.searchsorted(in0[negatives], in0[negatives])
    chosen = first[has_positive] + turn[has_positive] % (end - first)[has_positive]  # in turn
    place[negatives[has_positive]] = place[positives[chosen]]
    return joined.take(np.lexsort((joined.labels < 1, place)))
