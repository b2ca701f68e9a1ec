"""Embeddings in fewer bits."""

from __future__ import annotations

import numpy as np
import pytest

from object2vec.retrieval.embeddings import Sample, quantize, restore


@pytest.mark.parametrize("dtype, low, high", [("float16", 0.99, 1.0), ("int8", 0.95, 1.0), ("binary", 0.1, 0.9)])
def test_recall_falls_with_the_bits(dtype: str, low: float, high: float) -> None:
    sample = Sample()
    vectors = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32)
    sample.add(vectors[:1000])
    sample.add(vectors[1000:])
    assert low <= sample.recall(dtype) <= high
    assert sample.count == 3000


def test_vectors_of_zeros_and_large_values_are_kept() -> None:
    """A zero vector stays zero; values outside of float16 are clamped."""
    vectors = np.array([[0, 0], [1e6, -2e6]], np.float32)
    assert quantize(vectors, "int8").tolist() == [[0, 0], [64, -127]]
    assert np.isfinite(quantize(vectors, "float16")).all()
    assert restore(quantize(vectors, "binary"), "binary", 2).tolist() == [[-1, -1], [1, -1]]
