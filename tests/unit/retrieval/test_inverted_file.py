"""Approximate search: its recall, filters, files, and that it depends on the seed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from object2vec.atomic_files import write_atomically
from object2vec.errors import ArtifactError
from object2vec.ops.vectors import METRICS, Metric
from object2vec.retrieval import vector_index
from object2vec.retrieval.vector_index import VectorIndex

COUNT, DIM = 3_000, 18


@pytest.fixture(autouse=True)
def few_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search approximately among the vectors of the tests."""
    monkeypatch.setattr(vector_index, "EXACT_UP_TO", 1_000)


def clustered(seed: int = 0) -> np.ndarray:
    """Return vectors of different lengths around 50 centers."""
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(50, DIM))
    points = centers[generator.integers(50, size=COUNT)] + generator.normal(scale=0.4, size=(COUNT, DIM))
    return (points * generator.uniform(0.5, 2, size=(COUNT, 1))).astype(np.float32)


def queries_for(metric: Metric, seed: int) -> np.ndarray:
    """Return queries; those of `dot_and_square` want short vectors, as a distance does."""
    queries = clustered(seed)[:400]
    return np.pad(queries, ((0, 0), (0, 1)), constant_values=-0.5) if metric == "dot_and_square" else queries


def exact_search(vectors, queries, k, metric, **filters):
    vectors = vector_index.Vectors(vectors, metric)
    return vector_index.search_all(vectors, vectors.prepare(queries), k, **filters)


@pytest.mark.parametrize("metric", METRICS)
def test_recall_reaches_the_target(metric: Metric) -> None:
    """Fewer than all lists are probed, the recorded recall holds for other queries, and scores are exact."""
    vectors, queries = clustered(), queries_for(metric, 1)
    index = VectorIndex.build(vectors, metric, queries=queries_for(metric, 2))
    assert index.description["kind"] == "approximate"
    assert index.description["lists_probed"] < index.description["lists"]
    assert index.description["recall@10"] >= vector_index.TARGET_RECALL
    rows, scores = index.search(queries, 10)
    wanted, best = exact_search(vectors, queries, 10, metric)
    assert np.mean((rows[:, :, None] == wanted[:, None]).any(2)) > 0.92
    same = rows == wanted
    assert np.array_equal(scores[same], best[same])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.9])
def test_filters_neither_leak_nor_lose_answers(metric: Metric, share: float) -> None:
    """Rows that are not allowed or excluded are never found, and all k are found if there are as many."""
    vectors, queries = clustered(), queries_for(metric, 1)[:20]
    allowed = np.random.default_rng(3).random(COUNT) < share
    excluded = [found[:number] for number, found in enumerate(exact_search(vectors, queries, 20, metric)[0])]
    index = VectorIndex.build(vectors, metric, queries=queries_for(metric, 2))
    rows, _ = index.search(queries, 10, allowed=allowed, excluded=excluded)
    wanted, _ = exact_search(vectors, queries, 10, metric, allowed=allowed, excluded=excluded)
    found = rows[rows >= 0]
    assert allowed[found].all()
    assert not any(np.isin(own, hidden).any() for own, hidden in zip(rows, excluded, strict=True))
    assert np.array_equal(rows >= 0, wanted >= 0)
    assert np.mean((rows[:, :, None] == wanted[:, None]).any(2)) > 0.9


def test_more_than_the_probed_lists_have_are_found() -> None:
    """Search among all vectors finds k rows, however few are in the probed lists."""
    rows, _ = VectorIndex.build(clustered(), "cosine").search(clustered()[:2], COUNT)
    assert [sorted(own) for own in rows.tolist()] == [list(range(COUNT))] * 2


def test_equal_vectors_are_ordered_by_row() -> None:
    """Copies of one vector do not break k-means, and the first candidates come first."""
    vectors = np.tile(clustered()[:1], (COUNT, 1))
    rows, scores = VectorIndex.build(vectors, "cosine").search(vectors[:1], 3)
    assert np.all(np.diff(rows[0]) > 0)
    assert len(set(scores[0].tolist())) == 1


def test_a_seed_repeats_an_index(tmp_path: Path) -> None:
    """The same vectors and seed give the same files."""
    for name in ("a", "b"):
        write_atomically(tmp_path / name, VectorIndex.build(clustered(), "dot", seed=4).fills("n."))
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 6
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_an_opened_index_answers_as_the_built_one(tmp_path: Path) -> None:
    """Memory-mapped lists give the same answers."""
    vectors = clustered()
    index = VectorIndex.build(vectors, "dot")
    write_atomically(tmp_path, index.fills("n."))
    opened = VectorIndex.open(tmp_path, "n.", vectors)
    for found, wanted in zip(opened.search(vectors[:5], 4), index.search(vectors[:5], 4), strict=True):
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize(
    "name, array, message",
    [
        ("rows", np.full((1, 32), COUNT, np.int32), "damaged lists"),
        ("starts", np.array([], np.int64), "damaged lists"),
        ("centroids", np.zeros((3, DIM), np.float32), "damaged lists"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, array: np.ndarray, message: str) -> None:
    """No array that does not fit reaches a kernel."""
    write_atomically(tmp_path, VectorIndex.build(clustered(), "cosine").fills("n."))
    np.save(tmp_path / f"n.{name}.npy", array)
    with pytest.raises(ArtifactError, match=message):
        VectorIndex.open(tmp_path, "n.", clustered())
