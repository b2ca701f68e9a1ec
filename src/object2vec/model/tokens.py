"""Token ids on the way into an encoder, and their embeddings.

Shapes: N sequences, n tokens in all, E numbers an embedding, V ids in the vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from object2vec import allocator
from object2vec.data.sequences import Sequences

#: Standard deviation of new embeddings, chosen by measurement on 100,000 film ratings. Without weight decay, the
#: held-out RMSE is .876 to .878 from .001 to .03; it is .881 with .1, and .888 with .3. With the pairs as positives,
#: sampled negatives, hadamard and defaults, the cross-entropy of the third epoch is .08 with .01, and .39 with .1.
INITIAL_STD = 0.01


class Tokens(NamedTuple):
    """N sequences without padding: sequence i is values[offsets[i]:offsets[i + 1]]."""

    values: Tensor  # (n,) int64
    offsets: Tensor  # (N + 1,) int64
    counts: Tensor | None = None  # (N,) tokens other than 0 before dropout, if there was any

    @classmethod
    def of(cls, sequences: Sequences, device: torch.device | None = None) -> Tokens:
        """Return the sequences as tensors on `device`."""
        values = torch.from_numpy(sequences.values.astype("int64", copy=False))
        offsets = torch.from_numpy(sequences.offsets)
        return cls(values, offsets) if device is None else cls(values.to(device), offsets.to(device))

    @property
    def lengths(self) -> Tensor:
        """Tokens in each sequence, (N,)."""
        return self.offsets.diff()

    def drop(self, share: float) -> Tokens:
        """Return the sequences with 0 in place of a random share of the tokens; an only token stays."""
        kept = torch.rand_like(self.values, dtype=torch.float32) >= share
        used = torch.nn.functional.pad((self.values != 0).cumsum(0), (1, 0))
        return self._replace(
            values=self.values * (kept | (self.lengths == 1).repeat_interleave(self.lengths)),
            counts=used[self.offsets].diff(),
        )

    def take(self, index: Tensor) -> Tokens:
        """Return the sequences (P,) with these indices."""
        lengths = self.lengths.index_select(0, index)
        offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        shift = (self.offsets.index_select(0, index) - offsets[:-1]).repeat_interleave(lengths)
        return Tokens(self.values[torch.arange(len(shift), device=shift.device) + shift], offsets)


def mark_common(left: Tokens, right: Tokens, vocab_size: int) -> tuple[Tokens, Tokens]:
    """Return the tokens of P pairs, with `vocab_size` added to those that both sides of a pair have. Id 0 stays."""
    pairs = torch.arange(len(left.offsets) - 1, device=left.values.device) * vocab_size
    keys = [side.values + pairs.repeat_interleave(side.lengths) for side in (left, right)]
    common = torch.isin(keys[0], keys[1]), torch.isin(keys[1], keys[0])
    marked = [
        side._replace(values=side.values + vocab_size * (is_common & (side.values != 0)))
        for side, is_common in zip((left, right), common, strict=True)
    ]
    return marked[0], marked[1]


class TokenEmbedding(nn.Module):
    """The table of token embeddings, (V, E). Its gradient is `weight.row_grad`."""

    def __init__(self, vocab_size: int, dim: int, *, row_sparse: bool, frozen: bool) -> None:
        super().__init__()
        self.row_sparse = row_sparse
        self.weight = nn.Parameter(allocator.zeros(vocab_size, dim).normal_(std=INITIAL_STD), requires_grad=not frozen)

    @property
    def dim(self) -> int:
        """Numbers an embedding."""
        return self.weight.shape[1]
