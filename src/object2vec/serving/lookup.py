"""Scores of a few pairs of single tokens, the request that recommenders send most, of pooled encoders on a CPU.

The encoding of a token is its row of the table, and what is left is the head. For so little torch takes longer to begin
than to compute, so this is the head in plain numpy, on the same weights; the scores are equal but for rounding.

Shapes: P pairs, D numbers an encoding, C scores a pair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Self, cast

import numpy as np
from torch import nn

from object2vec.arrays import Float32, Int32
from object2vec.model.encoders import PooledEmbedding
from object2vec.model.network import Head, Network
from object2vec.serving.instances import Column

#: More pairs than these are not few.
FEW: Final = 64
COMPARE: Final[dict[str, Callable[[Float32, Float32], list[Float32]]]] = {
    "hadamard": lambda u, v: [u * v],
    "concat": lambda u, v: [u, v],
    "abs_diff": lambda u, v: [np.abs(u - v)],
}
ACTIVATE: Final[dict[str, Callable[[Float32], Float32]]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
}


class Lookup:
    """The tables and the head of a network, as arrays over its weights."""

    def __init__(self, network: Network, head: Head, activation: str) -> None:
        self._tables = [encoder.embedding.weight.detach().numpy() for encoder in (network.enc0, network.enc1)]
        self._compare = [COMPARE[name] for name in head.comparators]
        self._activate = ACTIVATE[activation]
        *self._layers, self._output = (
            (layer.weight.detach().numpy().T, layer.bias.detach().numpy())
            for layer in cast(list[nn.Linear], [*head.layers, head.output])
        )
        self._softmax = network.softmax

    @classmethod
    def of(cls, network: Network, activation: str) -> Self | None:
        """That of a network; None if it has other encoders, no head, or stands on a GPU."""
        pooled = all(isinstance(encoder, PooledEmbedding) for encoder in (network.enc0, network.enc1))
        if not pooled or network.head is None or network.device.type != "cpu":
            return None
        return cls(network, network.head, activation)

    def scores(self, tokens: tuple[Int32, Int32]) -> Float32:
        """The scores (P, C) of pairs of tokens, (P,) each, none of them 0."""
        u, v = (table[ids] for table, ids in zip(self._tables, tokens, strict=True))
        hidden = np.concatenate([part for compare in self._compare for part in compare(u, v)], axis=1)
        for weight, bias in self._layers:
            hidden = self._activate(hidden @ weight + bias)
        weight, bias = self._output
        output: Float32 = hidden @ weight + bias
        if not self._softmax:
            return output
        powers: Float32 = np.exp(output - output.max(axis=1, keepdims=True))
        powers /= powers.sum(axis=1, keepdims=True)
        return powers


def single_tokens(columns: tuple[Column, Column], count: int) -> tuple[Int32, Int32] | None:
    """The tokens of both sides where `count` instances are pairs of single ones other than 0, and few; else None."""
    if count > FEW:
        return None
    for column in columns:
        values = column.sequences.values
        if not len(column) == len(values) == count or 0 in values.tolist():
            return None
        if count > 1 and (column.sequences.lengths != 1).any():
            return None
    return columns[0].sequences.values, columns[1].sequences.values
