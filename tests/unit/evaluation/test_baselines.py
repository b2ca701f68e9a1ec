"""Baselines: class frequencies, popularity, and biases."""

from __future__ import annotations

import numpy as np

from object2vec.evaluation.baselines import class_frequencies, fit_biases, popularity


def test_class_frequencies_include_classes_without_pairs() -> None:
    assert class_frequencies(np.array([1, 1, 1, 0]), 3).tolist() == [0.25, 0.75, 0]


def test_popularity_counts_the_pairs_of_each_candidate() -> None:
    assert popularity(np.array([2, 0, 2]), 4).tolist() == [1, 0, 2, 0]


def test_biases_of_many_pairs_recover_additive_labels() -> None:
    generator = np.random.default_rng(0)
    users, items = generator.normal(size=50), generator.normal(size=40)
    left, right = np.repeat(np.arange(50), 40), np.tile(np.arange(40), 50)
    predict = fit_biases((left, right), 3 + users[left] + items[right], (50, 40))
    errors = predict(left, right) - (3 + users[left] + items[right])
    assert np.sqrt((errors**2).mean()) < 0.3


def test_an_object_without_training_pairs_is_average() -> None:
    predict = fit_biases((np.array([0, 0]), np.array([0, 1])), np.array([1.0, 3.0]), (2, 3))
    assert predict(np.array([1]), np.array([2])) == 2
