"""The three encoders: from token sequences to one vector each. All have one signature, `(tokens) -> (N, D)`.

Nothing but its own tokens changes the vector of a sequence: neither padding nor what else is in the batch.

Shapes: N sequences, T tokens of the longest, E numbers an embedding, D numbers an encoding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from object2vec.hyperparameters import EncoderHyperparameters
from object2vec.model.tokens import TokenEmbedding, Tokens


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
        self.padding = ((filter_width - 1) // 2, filter_width // 2)
        widths = [dim // layers + (level < dim % layers) for level in range(layers)]
        inputs = [embedding.dim, *widths[:-1]]
        self.levels = nn.ModuleList(
            nn.Conv1d(given, width, filter_width) for given, width in zip(inputs, widths, strict=True)
        )

    def forward(self, tokens: Tokens) -> Tensor:
        mask = tokens.mask()
        hidden = self.embedding.padded(tokens, mask).transpose(1, 2)  # (N, E, T)
        pooled = []
        for level in self.levels:
            # Zero past the end of each sequence, so that a convolution sees there what it sees past the last column.
            hidden = level(pad(hidden, self.padding)).relu() * mask[:, None, :]
            pooled.append(hidden.amax(dim=2))
        return torch.cat(pooled, dim=1)


class BiLSTM(nn.Module):
    """Forward and backward LSTM layers; the maximum over time of the last layer's output.

    The forward half has ceil(D / 2) units, the backward half the rest. No token at all gives zeros.
    """

    def __init__(self, embedding: TokenEmbedding, *, dim: int, layers: int) -> None:
        super().__init__()
        self.embedding = embedding
        inputs = [embedding.dim] + [dim] * (layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(given, dim - dim // 2, batch_first=True) for given in inputs)
        self.backwards = nn.ModuleList(nn.LSTM(given, dim // 2, batch_first=True) for given in inputs)

    def forward(self, tokens: Tokens) -> Tensor:
        mask = tokens.mask()
        hidden = self.embedding.padded(tokens, mask)
        backward = self._reversal(tokens.lengths, mask)
        lengths = tokens.lengths.clamp(min=1).cpu()
        for ahead, behind in zip(self.forwards, self.backwards, strict=True):
            reverse = backward.expand(-1, -1, hidden.shape[2])
            seen = _run(behind, hidden.gather(1, reverse), lengths)
            hidden = torch.cat([_run(ahead, hidden, lengths), seen.gather(1, backward.expand_as(seen))], dim=2)
        highest = hidden.masked_fill(~mask[:, :, None], -torch.inf).amax(dim=1)
        return highest.masked_fill(tokens.lengths[:, None] == 0, 0.0)

    @staticmethod
    def _reversal(lengths: Tensor, mask: Tensor) -> Tensor:
        """Where each place of a reversed sequence comes from; padding stays where it is, (N, T, 1)."""
        place = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        return torch.where(mask, lengths[:, None] - 1 - place, place)[:, :, None]


def _run(lstm: nn.Module, hidden: Tensor, lengths: Tensor) -> Tensor:
    """The output of one LSTM over sequences of `lengths`, (N, T, units)."""
    packed = pack_padded_sequence(hidden, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=hidden.shape[1])[0]


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
