"""Search in lists of codes: the kernel is equal to numpy, and arrays that do not fit are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from object2vec.ops import lists as module
from object2vec.ops import vectors as vectors_module
from object2vec.ops.lists import BLOCK_ROWS, EXTRA_ROWS, MAX_CODE, CodeLists, search_lists
from object2vec.ops.vectors import METRICS, Metric, ScoredVectors

DIM = 33


def drawn_lists(sizes: list[int], dim: int = DIM, seed: int = 0) -> CodeLists:
    """Return lists of these numbers of blocks with random codes; a tenth of the rows has no vector."""
    generator = np.random.default_rng(seed)
    blocks = sum(sizes)
    codes = generator.integers(0, MAX_CODE + 1, (blocks, -(-dim // 4), BLOCK_ROWS, 4), dtype=np.uint8)
    rows = generator.permutation(blocks * BLOCK_ROWS).astype(np.int32).reshape(blocks, BLOCK_ROWS)
    rows[generator.random(rows.shape) < 0.1] = -1
    centroids = generator.normal(size=(len(sizes) + EXTRA_ROWS, dim)).astype(np.float32)
    centroids[-EXTRA_ROWS:] = np.array([-3, 0.05])[:, None]
    return CodeLists(codes, rows, np.concatenate([[0], np.cumsum(sizes)]), centroids, blocks * BLOCK_ROWS)


def decoded(lists: CodeLists, metric: Metric, dim: int) -> ScoredVectors:
    """Return the vectors of the codes, up to a little noise."""
    low, step = lists.centroids[-EXTRA_ROWS:, 0][:2]
    vectors = np.zeros((lists.vectors, lists.centroids.shape[1]), np.float32)
    for number in range(len(lists)):
        blocks = slice(lists.starts[number], lists.starts[number + 1])
        rows, codes = lists.rows[blocks].ravel(), lists.codes[blocks].transpose(0, 2, 1, 3)
        values = (
            codes.reshape(len(rows), 4 * codes.shape[2])[:, : vectors.shape[1]] * step + low + lists.centroids[number]
        )
        vectors[rows[rows >= 0]] = values[rows >= 0]
    kept = np.ascontiguousarray(
        vectors[:, :dim] + np.random.default_rng(5).normal(scale=0.02, size=(len(vectors), dim))
    )
    return ScoredVectors(kept.astype(np.float32), np.linalg.norm(kept, axis=1).astype(np.float32), metric)


def drawn_search(n: int, metric: Metric = "dot", *, filtered: bool = False) -> Any:
    """Return a function that searches for n queries, or for some of them."""
    lists = drawn_lists([0, 3, 1, 0, 5, 2, 4, 9])
    vectors = decoded(lists, metric, DIM - 2)
    generator = np.random.default_rng(7)
    queries = generator.normal(size=(n, DIM - 2 + (metric == "dot_and_square"))).astype(np.float32)
    probed = generator.integers(1, len(lists) + 1, n)
    allowed = generator.random(lists.vectors) < 0.4 if filtered else None
    excluded = [generator.permutation(lists.vectors)[: 50 * (query % 3)] for query in range(n)] if filtered else None

    def search(part: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        return search_lists(
            *(lists, vectors, queries[part], 10),
            candidates=30,
            probed=probed[part],
            allowed=allowed,
            excluded=excluded and excluded[part],
        )

    return search


def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available", lambda: False)
    monkeypatch.setattr(vectors_module, "available", lambda: False)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 70])
@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_kernel_equals_numpy(
    metric: Metric, n: int, threads: int, filtered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows and scores, with empty lists, padding, filters and excluded rows."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    search = drawn_search(n, metric, filtered=filtered)
    rows, scores = search()
    without_kernels(monkeypatch)
    wanted, wanted_scores = search()
    assert rows.tolist() == wanted.tolist()
    np.testing.assert_allclose(scores, wanted_scores, rtol=1e-5, atol=1e-5)


def test_a_query_alone_has_the_same_result() -> None:
    """Other queries change neither rows nor any bit of scores."""
    search = drawn_search(70, filtered=True)
    together = search()
    for query in range(70):
        alone = search(slice(query, query + 1))
        assert all(np.array_equal(one[0], all_[query]) for one, all_ in zip(alone, together, strict=True))


def test_extreme_codes_do_not_overflow() -> None:
    """The largest products of 1,000 dimensions are exact."""
    dim = 1000
    codes = np.full((1, dim // 4, BLOCK_ROWS, 4), MAX_CODE, np.uint8)
    centroids = np.array([[0], [0], [1]], np.float32) * np.ones(dim, np.float32)
    lists = CodeLists(codes, np.arange(BLOCK_ROWS, dtype=np.int32)[None], np.array([0, 1]), centroids, BLOCK_ROWS)
    rows = np.full((BLOCK_ROWS, dim), MAX_CODE, np.float32)
    rows[3:5] += 1
    vectors = ScoredVectors(rows, np.linalg.norm(rows, axis=1), "dot")
    for sign in (1, -1):
        query = np.full((1, dim), sign, np.float32)
        found, scores = search_lists(lists, vectors, query, 2, candidates=32, probed=np.array([1]))
        assert found.tolist() == [[3, 4] if sign > 0 else [0, 1]]
        assert scores.tolist() == [[1000 * (MAX_CODE + (sign > 0)) * sign] * 2]


def test_fewer_rows_than_wanted() -> None:
    """The places of missing rows are -1 and -inf."""
    lists = drawn_lists([1, 1], dim=8)
    vectors = decoded(lists, "dot", 8)
    query = np.ones((1, 8), np.float32)
    rows, scores = search_lists(lists, vectors, query, 100, candidates=100, probed=np.array([1]))
    assert 0 < (rows >= 0).sum() == (scores > -np.inf).sum() < BLOCK_ROWS


@pytest.mark.parametrize(
    "change, message",
    [
        ({"starts": np.array([0, 2, 1, 3])}, "ascend from 0 to 3"),
        ({"starts": np.array([0, 1, 4])}, "ascend from 0 to 3"),
        ({"vectors": 95}, "rows must be from -1 to 94"),
        ({"rows": np.zeros((2, BLOCK_ROWS), np.int32)}, "rows has shape"),
        ({"codes": np.zeros((3, 2, BLOCK_ROWS, 4), np.int8)}, "int8, wanted uint8"),
        ({"centroids": np.zeros((5, 8), np.float32)}, "centroids have shape"),
        ({"centroids": np.zeros((4, 9), np.float32)}, "2 quads for 9 dimensions"),
    ],
)
def test_lists_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    """The kernel cannot check addresses, so arrays are checked once."""
    whole = {
        "codes": np.zeros((3, 2, BLOCK_ROWS, 4), np.uint8),
        "rows": np.arange(96, dtype=np.int32).reshape(3, BLOCK_ROWS),
        "starts": np.array([0, 1, 3]),
        "centroids": np.zeros((4, 8), np.float32),
        "vectors": 96,
    }
    assert len(CodeLists(**whole)) == 2
    with pytest.raises(ValueError, match=message):
        CodeLists(**(whole | change))


def test_queries_that_do_not_fit_are_refused() -> None:
    """A search cannot read outside its arrays."""
    lists = drawn_lists([1, 1], dim=8)
    vectors, settings = decoded(lists, "dot", 8), {"probed": np.array([1])}
    with pytest.raises(ValueError, match="queries has shape"):
        search_lists(lists, vectors, np.ones((1, 9), np.float32), 1, candidates=1, **settings)
    with pytest.raises(ValueError, match="probed has shape"):
        search_lists(lists, vectors, np.ones((2, 8), np.float32), 1, candidates=1, **settings)
    with pytest.raises(ValueError, match="9 of 8 candidates"):
        search_lists(lists, vectors, np.ones((1, 8), np.float32), 9, candidates=8, **settings)
