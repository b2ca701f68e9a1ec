"""The three encoders: from token sequences to one vector each. All have one signature, `(tokens) -> (N, D)`.

Nothing but its own tokens changes the vector of a sequence: there is no padding, and what else is in the batch does not
matter.

Shapes: N sequences, E numbers an embedding, D numbers an encoding.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from object2vec.hyperparameters import EncoderHyperparameters
from object2vec.model.tokens import TokenEmbedding, Tokens
from object2vec.ops import convolution
from object2vec.ops.recurrent import Steps, run_lstm
from object2vec.ops.segments import segment_max


class PooledEmbedding(nn.Module):
    """The mean of the token embeddings; D is E. Id 0 counts as no token, and no token at all gives zeros."""

    def __init__(self, embedding: TokenEmbedding) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, tokens: Tokens) -> Tensor:
        return self.embedding.mean(tokens)


class HierarchicalCNN(nn.Module):
    """Stacked convolutions with ReLU; the maximum over time of every level, side by side.

    The levels' widths add up to D; the first levels are one wider where D does not divide evenly. The hierarchical
    ConvNet of Conneau et al. 2017, https://arxiv.org/abs/1705.02364, section 3.2.4. No token at all gives zeros.
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
        levels = [(cast(Tensor, level.weight), cast(Tensor, level.bias)) for level in self.levels]
        return convolution.encode(self.embedding.weight, *tokens, levels, self.embedding.line)


class BiLSTM(nn.Module):
    """Forward and backward LSTM layers; the maximum over time of the last layer's output.

    The forward half has ceil(D / 2) units, the backward half the rest. No token at all gives zeros.
    """

    def __init__(self, embedding: TokenEmbedding, *, dim: int, layers: int) -> None:
        super().__init__()
        self.embedding = embedding
        inputs = [embedding.dim] + [dim] * (layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(given, dim - dim // 2) for given in inputs)
        self.backwards = nn.ModuleList(nn.LSTM(given, dim // 2) for given in inputs)

    def forward(self, tokens: Tokens) -> Tensor:
        steps = Steps.from_offsets(tokens.offsets)
        hidden = self.embedding.rows(tokens.values[steps.token])
        for ahead, behind in zip(self.forwards, self.backwards, strict=True):
            ways = (ahead, steps), (behind, steps.reversed())
            hidden = torch.cat([run_lstm(cast(nn.LSTM, lstm), hidden, order) for lstm, order in ways], dim=1)
        return segment_max(hidden, steps.row, tokens.offsets)


Encoder = PooledEmbedding | HierarchicalCNN | BiLSTM


def make_encoder(hyperparameters: EncoderHyperparameters, embedding: TokenEmbedding, enc_dim: int) -> Encoder:
    """The encoder that one side's hyperparameters describe, over a table of embeddings."""
    match hyperparameters.network:
        case "pooled_embedding":
            return PooledEmbedding(embedding)
        case "hcnn":
            width = hyperparameters.cnn_filter_width
            return HierarchicalCNN(embedding, dim=enc_dim, layers=hyperparameters.layers, filter_width=width)
        case _:
            return BiLSTM(embedding, dim=enc_dim, layers=hyperparameters.layers)
