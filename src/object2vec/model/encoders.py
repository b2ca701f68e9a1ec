"""The three encoders: from token sequences to one vector each, `(tokens) -> (N, D)`.

The vector of a sequence depends on its own tokens alone, not on the rest of the batch. There is no padding.

Shapes: N sequences, E dimensions of an embedding, D dimensions of an encoding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import torch
from torch import Tensor, nn

from object2vec.hyperparameters import Hyperparameters
from object2vec.hyperparameters.table import POOLINGS
from object2vec.model.tokens import TokenEmbedding, Tokens
from object2vec.ops import convolution
from object2vec.ops.embedding import gather_rows, mean_pool
from object2vec.ops.recurrent import Steps, run_lstm
from object2vec.ops.segments import segment_max

ACTIVATE: Final[dict[str, Callable[[Tensor], Tensor]]] = {"tanh": torch.tanh, "relu": torch.relu, "linear": lambda x: x}


class PooledEmbedding(nn.Module):
    """The mean of the token embeddings; D is E. Id 0 is no token, and a sequence without tokens gives zeros.

    `pooling` is one of `POOLINGS`. A projection is a layer of D units on the mean, with an activation. It
    has no bias, which keeps zeros.
    """

    def __init__(
        self, embedding: TokenEmbedding, pooling: str = "mean", projection: str = "none", dim: int = 0
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.power = POOLINGS[pooling]
        self.projection = None if projection == "none" else nn.Linear(embedding.dim, dim, bias=False)
        self.activate = ACTIVATE.get(projection)

    @property
    def gives_rows(self) -> bool:
        """Whether the encoding of a single token is its row of the table."""
        return self.projection is None

    def forward(self, tokens: Tokens) -> Tensor:
        """Return the encodings of N sequences, (N, D)."""
        pooled = mean_pool(self.embedding.weight, *tokens, power=self.power)
        return self.activate(self.projection(pooled)) if self.projection and self.activate else pooled


class HierarchicalCNN(nn.Module):
    """Stacked convolutions with ReLU, and the maxima over time of all levels, concatenated.

    The hierarchical ConvNet of Conneau et al. 2017 (https://arxiv.org/abs/1705.02364, section 3.2.4). The levels'
    widths add up to D; the first levels are one wider if D does not divide evenly. An empty sequence gives zeros.
    """

    def __init__(self, embedding: TokenEmbedding, *, dim: int, layers: int, filter_width: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.filter_width = filter_width
        widths = [dim // layers + (level < dim % layers) for level in range(layers)]
        inputs = [embedding.dim, *widths[:-1]]
        self.levels = nn.ModuleList(
            nn.Conv1d(given, width, filter_width) for given, width in zip(inputs, widths, strict=True)
        )

    def forward(self, tokens: Tokens) -> Tensor:
        """Return the encodings of N sequences, (N, D)."""
        levels = [(cast(Tensor, level.weight), cast(Tensor, level.bias)) for level in self.levels]
        return convolution.encode(self.embedding.weight, tokens.values, tokens.offsets, levels)


class BiLSTM(nn.Module):
    """Forward and backward LSTM layers, and the maximum over time of the last layer's output.

    The forward half has ceil(D / 2) units, the backward half the rest. An empty sequence gives zeros.
    """

    def __init__(self, embedding: TokenEmbedding, *, dim: int, layers: int) -> None:
        super().__init__()
        self.embedding = embedding
        inputs = [embedding.dim] + [dim] * (layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(given, dim - dim // 2) for given in inputs)
        self.backwards = nn.ModuleList(nn.LSTM(given, dim // 2) for given in inputs)

    def forward(self, tokens: Tokens) -> Tensor:
        """Return the encodings of N sequences, (N, D)."""
        steps = Steps.from_offsets(tokens.offsets)
        hidden = gather_rows(self.embedding.weight, tokens.values[steps.token])
        for forward, backward in zip(self.forwards, self.backwards, strict=True):
            left = run_lstm(cast(nn.LSTM, forward), hidden, steps)
            right = run_lstm(cast(nn.LSTM, backward), hidden.index_select(0, steps.mirror), steps)
            hidden = torch.cat([left, right.index_select(0, steps.mirror)], dim=1)
        return segment_max(hidden, steps.row, tokens.offsets)


class NoEncoder(nn.Module):
    """The second side of a network that has only in0: zeros. It has the table of the first side."""

    def __init__(self, embedding: TokenEmbedding, dim: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.dim = dim

    def forward(self, tokens: Tokens) -> Tensor:
        """Return zeros for N sequences, (N, D)."""
        return self.embedding.weight.new_zeros(len(tokens.offsets) - 1, self.dim)


Encoder = PooledEmbedding | HierarchicalCNN | BiLSTM | NoEncoder


def make_encoder(hyperparameters: Hyperparameters, side: int, embedding: TokenEmbedding) -> Encoder:
    """Return the encoder of a side, 0 or 1, over a table of embeddings."""
    encoder, dim = hyperparameters.encoders[side], hyperparameters.enc_dim
    match encoder.network:
        case "pooled_embedding":
            return PooledEmbedding(embedding, hyperparameters.token_pooling, hyperparameters.pooled_projection, dim)
        case "none":
            return NoEncoder(embedding, hyperparameters.encoding_dim(side))
        case "hcnn":
            width = encoder.cnn_filter_width
            return HierarchicalCNN(embedding, dim=dim, layers=encoder.layers, filter_width=width)
        case _:
            return BiLSTM(embedding, dim=dim, layers=encoder.layers)
