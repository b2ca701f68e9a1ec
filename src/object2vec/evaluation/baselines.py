"""Simple predictors that a model must beat: class frequencies, popularity, and biases.

Objects are numbered from 0. An object that training does not have counts as average.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from object2vec.array_types import Float64, Int64

#: Rounds of alternating least squares, and the number of average labels that each object is given in addition.
BIAS_ROUNDS: Final = 10
BIAS_SHRINKAGE: Final = 5.0


def class_frequencies(labels: Int64, classes: int) -> Float64:
    """Return the share of each class in training, (C,)."""
    counts = np.bincount(labels, minlength=classes)
    return np.asarray(counts / max(counts.sum(), 1))


def popularity(candidates: Int64, count: int) -> Float64:
    """Return in how many training pairs each of `count` candidates is, (count,)."""
    return np.bincount(candidates, minlength=count).astype(np.float64)


def fit_biases(
    index: tuple[Int64, Int64], labels: Float64, counts: tuple[int, int]
) -> Callable[[Int64, Int64], Float64]:
    """Fit a mean and a bias for each object of both sides; return the function that predicts pairs.

    `index` are the objects of the training pairs, (P,) each; `counts` is how many objects each side has.
    """
    mean = float(labels.mean())
    biases = [np.zeros(count) for count in counts]
    weights = [np.bincount(own, minlength=count) + BIAS_SHRINKAGE for own, count in zip(index, counts, strict=True)]
    for _ in range(BIAS_ROUNDS):
        for side in (1, 0):
            rest = labels - mean - biases[1 - side][index[1 - side]]
            biases[side] = np.bincount(index[side], weights=rest, minlength=counts[side]) / weights[side]

    def predict(left: Int64, right: Int64) -> Float64:
        return mean + biases[0][left] + biases[1][right]

    return predict
