"""Token ids on the way into an encoder, and their embeddings.

Shapes: N sequences, T tokens of the longest, n tokens in all, E numbers an embedding, V ids in the vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from object2vec.data.sequences import Sequences

#: Standard deviation of new embeddings, chosen by measurement on 100,000 film ratings. `make demo` with its weight
#: decay set to 0: from .001 to .03 the held-out RMSE is .876 to .878, with .1 it is .881, with .3 it is .888. The
#: same pairs against sampled ones, hadamard, and else the default network and step: cross-entropy of the third
#: epoch is .08 with .01, and .39 with .1.
INITIAL_STD = 0.01


class Tokens(NamedTuple):
    """N sequences without padding: sequence i is the next `lengths[i]` of `values`."""

    values: Tensor  # (n,) int64
    lengths: Tensor  # (N,) int64

    @classmethod
    def of(cls, sequences: Sequences, device: torch.device | None = None) -> Tokens:
        """The same sequences as tensors on `device`."""
        values = torch.from_numpy(sequences.values.astype("int64", copy=False)).to(device)
        return cls(values, torch.from_numpy(sequences.lengths).to(device))

    @property
    def starts(self) -> Tensor:
        """Where each sequence begins in `values`, (N,)."""
        return self.lengths.cumsum(0) - self.lengths

    def mask(self) -> Tensor:
        """Which places of the padded (N, T) form hold a token; T is at least 1."""
        longest = max(1, int(self.lengths.max())) if len(self.lengths) else 1
        return torch.arange(longest, device=self.lengths.device) < self.lengths[:, None]


class TokenEmbedding(nn.Module):
    """The table of token embeddings, (V, E). `row_sparse` makes its gradient hold only the rows that were used."""

    def __init__(self, vocab_size: int, dim: int, *, row_sparse: bool, frozen: bool) -> None:
        super().__init__()
        self.row_sparse = row_sparse
        self.weight = nn.Parameter(torch.empty(vocab_size, dim).normal_(std=INITIAL_STD), requires_grad=not frozen)

    @property
    def dim(self) -> int:
        return self.weight.shape[1]

    def mean(self, tokens: Tokens) -> Tensor:
        """The mean embedding of each sequence, (N, E). Id 0 counts as no token; no token at all gives zeros."""
        return nn.functional.embedding_bag(
            tokens.values, self.weight, tokens.starts, mode="mean", sparse=self.row_sparse, padding_idx=0
        )

    def padded(self, tokens: Tokens, mask: Tensor) -> Tensor:
        """The embedding of each token, zeros where `mask` (N, T) has none, (N, T, E)."""
        rows = nn.functional.embedding(tokens.values, self.weight, sparse=self.row_sparse)
        return rows.new_zeros(*mask.shape, self.dim).masked_scatter(mask[:, :, None], rows)
