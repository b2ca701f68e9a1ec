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
from object2vec.serving.forward import encode

#: Pairs of one call of a head with activations, and of a linear head, which makes no intermediate results.
HEAD_PAIRS: Final = 2**12
LINEAR_HEAD_PAIRS: Final = 2**20
#: Scores of one call.
MAX_SCORES: Final = 2**25


class PairScorer:
    """Scores pairs of given objects, (N,) of each side, by their indices."""

    @torch.inference_mode()
    def __init__(self, network: Network, objects: tuple[Sequences, Sequences]) -> None:
        self._network = network
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
        parts = [
            self._score(torch.from_numpy(left[at : at + size]), torch.from_numpy(right[at : at + size]))
            for at in range(0, max(len(left), 1), size)
        ]
        return np.concatenate(parts)

    def _score(self, left: Tensor, right: Tensor) -> Float32:
        u, v = self._encodings
        left, right = left.to(u.device), right.to(u.device)
        if self._linear:
            output = score_pairs(u, v, left, right, self._linear)
        else:
            output = self._network.score_encodings(u[left], v[right])
        return self._network.scores(output).cpu().numpy()
