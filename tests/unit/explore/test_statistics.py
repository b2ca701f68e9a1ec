"""Figures of a map: agreement of neighbors, names of clusters, histograms."""

from __future__ import annotations

import numpy as np

from object2vec.explore.columns import MapColumn
from object2vec.explore.statistics import agreement, histogram, name_clusters

GENRES = MapColumn(
    name="genres", kind="list", description={}, arrays={}, values=[["a", "b"], ["a"], ["a", "b"], ["c"], [], ["c"]]
)
YEARS = MapColumn(name="year", kind="number", description={}, arrays={}, values=[1990, 1991, 1992, 2020, None, 2021])


def test_agreement_counts_neighbors_with_a_common_value() -> None:
    """Neighbors without a value are left out; with `whole`, all values are the same."""
    rows, neighbors = np.array([0, 3]), np.array([[1, 2, 4], [0, 5, -1]])
    assert agreement(GENRES, rows, neighbors, whole=False)["share"] == 0.75
    found = agreement(GENRES, rows, neighbors, whole=True)
    assert (found["column"], found["share"]) == ("all genres", 0.5)


def test_clusters_are_named_by_values_that_are_over_represented() -> None:
    """The name has the values of the cluster, and its years if they are a narrow range."""
    found = name_clusters(np.array([0, 0, 0, 1, 1, 1]), [GENRES, YEARS])
    assert [each["name"] for each in found] == ["a, b, 1990\N{EN DASH}1992", "c, 2020\N{EN DASH}2021"]
    assert [each["count"] for each in found] == [3, 3]


def test_histogram_counts_all_values() -> None:
    """The counts sum to the number of values; there may be none."""
    assert sum(histogram(np.arange(100, dtype=np.float32))["counts"]) == 100
    assert histogram(np.empty(0, np.float32)) == {"edges": [], "counts": []}
