"""Sequences of tokens, and pairs of them, as columns: two flat arrays however many sequences there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from object2vec import kernels
from object2vec.arrays import Float32, Int32, Int64


@dataclass(frozen=True, slots=True)
class Sequences:
    """N sequences of token ids.

    Sequence i is `values[offsets[i]:offsets[i + 1]]`; `values` is (tokens,), `offsets` is (N + 1,) and starts with 0.
    """

    values: Int32
    offsets: Int64

    @classmethod
    def of(cls, lists: Iterable[Sequence[int]]) -> Sequences:
        """Columns of Python lists; ids must fit 32 bits."""
        lists = list(lists)
        offsets = np.zeros(len(lists) + 1, np.int64)
        np.cumsum([len(tokens) for tokens in lists], out=offsets[1:])
        values = np.fromiter((token for tokens in lists for token in tokens), np.int32, int(offsets[-1]))
        return cls(values, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64:
        """Tokens of each sequence, (N,)."""
        return np.diff(self.offsets)

    @property
    def without_tokens(self) -> int:
        """How many of the sequences are empty or hold nothing but 0, which stands for no token."""
        seen = np.concatenate([[0], np.cumsum(self.values != 0)])
        return int(np.sum(seen[self.offsets[1:]] == seen[self.offsets[:-1]]))

    def take(self, index: Int64) -> Sequences:
        """The sequences that `index` names, in its order and as often as it names them."""
        lengths = self.lengths[index]
        offsets = np.zeros(len(index) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        shift = np.repeat(self.offsets[:-1][index] - offsets[:-1], lengths)
        return Sequences(self.values[shift + np.arange(offsets[-1])], offsets)

    def distinct(self) -> tuple[Int64, Int64]:
        """The different ones among the N sequences: where each stands first, and for each of the N which it is, (N,).

        Tokens are compared with tokens, so nothing depends on a hash.
        """
        if kernels.available():
            return kernels.distinct(self.values, self.offsets)
        which = np.empty(len(self), np.int64)
        first: list[Int64] = [np.empty(0, np.int64)]
        found = 0
        for length in np.unique(self.lengths):
            rows = np.flatnonzero(self.lengths == length)
            tokens = self.values[self.offsets[rows, None] + np.arange(length)]
            _, index, inverse = np.unique(_as_keys(tokens), return_index=True, return_inverse=True)
            which[rows] = found + inverse
            first.append(rows[index])
            found += len(index)
        return np.concatenate(first), which


def _as_keys(tokens: Int32) -> npt.NDArray[np.generic]:
    """A (rows, length) matrix as (rows,) values that are equal where the rows are."""
    rows, length = tokens.shape
    if length == 0:
        return np.zeros(rows, np.int32)
    if length == 1:
        return tokens[:, 0]
    return np.ascontiguousarray(tokens).view(np.dtype((np.void, 4 * length)))[:, 0]


@dataclass(frozen=True, slots=True)
class Pairs:
    """N pairs: `in0` and `in1` hold N sequences each, `labels` is (N,): a class, or a real number."""

    in0: Sequences
    in1: Sequences
    labels: Float32

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sides(self) -> tuple[Sequences, Sequences]:
        return self.in0, self.in1
