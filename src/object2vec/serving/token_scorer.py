"""Scores of pairs of single tokens, the request that recommenders send most, of pooled encoders on a CPU.

The encoding of a token is its row of the table, and what is left is the head. For one pair torch takes longer to begin
than to compute, so a kernel does all of it; the scores are equal but for rounding. It has the head's weights in the
order in which they are read, and keeps what the head makes of a token alone, half of the first layer by the default
comparators, for tokens that come again.

Shapes: P pairs, C scores a pair.
"""

from __future__ import annotations

from typing import Final, Self, cast

import numpy as np
from torch import nn

from object2vec.array_types import Float32, Int32
from object2vec.model.network import Network
from object2vec.ops import scoring as scoring_ops
from object2vec.serving.instances import Column

#: Bytes that a model may take in a process for its head once more, and for what was computed of its tokens before.
MAX_CACHE_BYTES: Final = 2**23
#: Products of pairs with weights at a time, a millisecond or two: no other thread works meanwhile.
MAX_MULTIPLY_ADDS: Final = 2**26


class TokenPairScorer:
    """Scores pairs of tokens by the tables and the head of a network, `max_pairs` pairs in one call."""

    def __init__(self, head: scoring_ops.TokenHead, max_pairs: int) -> None:
        self._head = head
        self.max_pairs = max_pairs

    @classmethod
    def from_network(cls, network: Network, activation: str) -> Self | None:
        """Return the scorer of a network; None for other networks, no head, a large head, or without kernels."""
        head = network.head
        tables = [encoder.embedding.weight for encoder in (network.enc0, network.enc1)]
        if not network.gives_rows or network.sigmoid or head is None:
            return None
        modules = cast(list[nn.Linear], [*head.layers, head.output])
        weights = sum(module.weight.numel() for module in modules)
        layers = [(module.weight, module.bias) for module in modules]
        made = scoring_ops.token_head(
            tables, head.comparators, layers, activation, softmax=network.softmax, max_bytes=MAX_CACHE_BYTES
        )
        if made is None:
            return None
        return cls(made, max(1, MAX_MULTIPLY_ADDS // weights))

    def scores(self, tokens: tuple[Int32, Int32]) -> Float32:
        """Return the scores (P, C) of pairs of tokens, (P,) each, none of them 0."""
        left, right = tokens
        if len(left) <= self.max_pairs:
            return scoring_ops.score_tokens(self._head, tokens)
        starts = range(0, len(left), self.max_pairs)
        parts = ((left[start : start + self.max_pairs], right[start : start + self.max_pairs]) for start in starts)
        return np.concatenate([scoring_ops.score_tokens(self._head, part) for part in parts])


def single_token_pairs(columns: tuple[Column, Column], count: int) -> tuple[Int32, Int32] | None:
    """Return the tokens of both sides if `count` instances are pairs of single tokens other than 0; else None."""
    for column in columns:
        values = column.sequences.values
        if not len(column) == len(values) == count or 0 in values.tolist():
            return None
        if count > 1 and (column.sequences.lengths != 1).any():
            return None
    return columns[0].sequences.values, columns[1].sequences.values
