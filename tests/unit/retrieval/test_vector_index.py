"""Exact search: the same as brute force, with filters and ties, from memory and from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from object2vec.atomic_files import write_atomically
from object2vec.errors import ArtifactError
from object2vec.ops.vectors import METRICS, Metric
from object2vec.retrieval import exact
from object2vec.retrieval.vector_index import VectorIndex


def drawn(count: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    """Return vectors of different lengths."""
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(count, dim)) * generator.uniform(0.2, 3, size=(count, 1))).astype(np.float32)


def query_dim(metric: Metric) -> int:
    return 8 + (metric == "dot_and_square")


def brute_force(vectors, queries, k, metric, allowed=None, excluded=None):
    """Return rows and scores by float64, equal scores by row."""
    vectors, queries = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "dot_and_square":
        vectors = np.concatenate([vectors, (vectors**2).sum(1, keepdims=True)], 1)
    scores = queries @ vectors.T
    if metric == "cosine":
        scores /= np.linalg.norm(queries, axis=1)[:, None] * np.maximum(np.linalg.norm(vectors, axis=1), 1e-30)
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    for query, rows in enumerate(excluded or ()):
        scores[query, rows[rows >= 0]] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, 1)
    pad = ((0, 0), (0, k - order.shape[1]))
    return np.pad(np.where(best > -np.inf, order, -1), pad, constant_values=-1), best


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1_000])
def test_exact_search_equals_brute_force(metric: Metric, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and scores are those of brute force, over several blocks of rows and queries, also for k above N."""
    monkeypatch.setattr(exact, "BLOCK_ROWS", 128)
    monkeypatch.setattr(exact, "BLOCK_QUERIES", 4)
    vectors, queries = drawn(count), drawn(9, query_dim(metric), seed=1)
    rows, scores = VectorIndex.build(vectors, metric).search(queries, 10)
    wanted, best = brute_force(vectors, queries, 10, metric)
    assert rows.tolist() == wanted.tolist()
    np.testing.assert_allclose(scores[:, : best.shape[1]], best, rtol=1e-4, atol=1e-5)
    assert np.all(scores[rows < 0] == -np.inf)


def test_equal_scores_are_ordered_by_row() -> None:
    """Copies of a vector have one score wherever they are, and the first rows are found."""
    vectors = np.tile(drawn(1, dim=37), (5_000, 1))
    vectors[100] *= 1.5
    rows, scores = VectorIndex.build(vectors, "dot").search(vectors[:2], 5)
    assert rows.tolist() == [[100, 0, 1, 2, 3]] * 2
    assert len(np.unique(scores)) == 2


def test_a_zero_vector_has_cosine_zero() -> None:
    """Neither a zero vector nor a zero query gives NaN."""
    vectors = np.array([[0, 0], [1, 0], [-1, 0]], np.float32)
    rows, scores = VectorIndex.build(vectors, "cosine").search(np.array([[2, 0], [0, 0]], np.float32), 3)
    assert rows.tolist() == [[1, 0, 2], [0, 1, 2]]
    assert scores.tolist() == [[1, 0, -1], [0, 0, 0]]


def test_scores_do_not_depend_on_other_queries() -> None:
    """A query alone has the same scores, in all bits, as among others."""
    index, queries = VectorIndex.build(drawn(700, dim=33), "cosine"), drawn(70, dim=33, seed=1)
    _, together = index.search(queries, 7)
    alone = [index.search(query[None], 7)[1][0] for query in queries]
    assert np.array_equal(together, alone)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_filters_neither_leak_nor_lose_answers(data: st.DataObject) -> None:
    """Rows that are not allowed, or excluded for a query, are never found; the best others are."""
    count = data.draw(st.integers(1, 200))
    metric = data.draw(st.sampled_from(METRICS))
    vectors, queries = drawn(count), drawn(3, query_dim(metric), seed=1)
    allowed = np.random.default_rng(count).random(count) < data.draw(st.sampled_from([0, 0.02, 0.5, 1]))
    excluded = [np.array(data.draw(st.lists(st.integers(-1, count - 1))), np.int64) for _ in queries]
    k = data.draw(st.integers(1, 12))
    rows, _ = VectorIndex.build(vectors, metric).search(queries, k, allowed=allowed, excluded=excluded)
    assert rows.tolist() == brute_force(vectors, queries, k, metric, allowed, excluded)[0].tolist()


def save(index: VectorIndex, folder: Path) -> None:
    write_atomically(folder, index.fills("neighbors."))


def test_an_opened_index_answers_as_the_built_one(tmp_path: Path) -> None:
    """An index of memory-mapped vectors gives the same answers."""
    vectors = drawn(300)
    index = VectorIndex.build(vectors, "cosine")
    save(index, tmp_path)
    np.save(tmp_path / "vectors.npy", vectors)
    opened = VectorIndex.open(tmp_path, "neighbors.", np.load(tmp_path / "vectors.npy", mmap_mode="r"))
    for found, wanted in zip(opened.search(vectors[:5], 4), index.search(vectors[:5], 4), strict=True):
        assert np.array_equal(found, wanted)
    assert opened.description == index.description


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("json", b'{"metric": "cos"}', "metric 'cos', lists_probed 1 and more_candidates 32, wanted an index"),
        ("norms.npy", b"\x93NUM", "missing or damaged"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """The message names the file."""
    save(VectorIndex.build(drawn(3), "cosine"), tmp_path)
    (tmp_path / f"neighbors.{name}").write_bytes(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        VectorIndex.open(tmp_path, "neighbors.", drawn(3))
    assert str(tmp_path / f"neighbors.{name}") in str(caught.value)
