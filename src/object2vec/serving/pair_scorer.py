"""Scores of many pairs of the same objects: each object is encoded once, then pairs are scored in blocks.

Shapes: N objects of a side, P pairs, C scores a pair.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from object2vec.array_types import Float32, Int64
from object2vec.data.sequences import Sequences
from object2vec.model.network import Network
from object2vec.ops.scoring import score_pairs
from object2vec.serving.forward import MAX_BATCH_ROWS, encode, score_sequences

#: Pairs of one call of a head with activations, and of a linear head, which makes no intermediate results.
HEAD_PAIRS: Final = 2**12
LINEAR_HEAD_PAIRS: Final = 2**20
#: Scores of one call.
MAX_SCORES: Final = 2**25


class PairScorer:
    """Scores pairs of given objects, (N,) of each side, by their indices."""

    @torch.inference_mode()
    def __init__(self, network: Network, objects: tuple[Sequences, Sequences]) -> None:
        self._network, self._objects = network, objects
        self._linear = None
        if network.first_common:  # encodings depend on the pair
            return
        u, v = encode(network, 0, objects[0]), encode(network, 1, objects[1])
        self._linear = network.head.folded() if network.head else None
        if network.head and self._linear:
            u, v = network.head.linear_input(u), network.head.linear_input(v)
        self._encodings = u, v

    @torch.inference_mode()
    def __call__(self, left: Int64, right: Int64) -> Float32:
        """Return the scores (P, C) of object left[p] of in0 with object right[p] of in1: probabilities or a number."""
        size = LINEAR_HEAD_PAIRS if self._linear else HEAD_PAIRS
        if self._network.head:
            size = max(1, min(size, MAX_SCORES // self._network.head.output.out_features))
        if self._network.first_common:
            size = min(size, MAX_BATCH_ROWS)
        parts = [
            self._network.scores(self._score(left[at : at + size], right[at : at + size])).cpu().numpy()
            for at in range(0, max(len(left), 1), size)
        ]
        return np.concatenate(parts)

    def _score(self, left: Int64, right: Int64) -> Tensor:
        """Return the output (P, C) for objects left[p] and right[p]."""
        if self._network.first_common:
            return score_sequences(self._network, self._objects[0].take(left), self._objects[1].take(right))
        u, v = self._encodings
        i, j = (torch.from_numpy(index).to(u.device) for index in (left, right))
        if self._linear:
            return score_pairs(u, v, i, j, self._linear)
        return self._network.score_encodings(u[i], v[j])
