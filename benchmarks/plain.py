"""The reference: the same model as a plain PyTorch program of a good engineer.

It pads all sequences once before training, and truncates each batch to its longest sequence. A DataLoader fetches and
collates whole batches; negatives are ordinary pairs. Shapes: P pairs, T tokens of the longest sequence, embeddings of
E numbers, encodings of D numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.data import DataLoader, Dataset

from object2vec.data.sequences import Pairs, Sequences
from object2vec.hyperparameters import EncoderHyperparameters, Hyperparameters
from object2vec.model.network import Network

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class PairDataset(Dataset[Batch]):
    """The given pairs, and negatives that are drawn at access, one row each."""

    def __init__(self, pairs: Pairs, negatives: int) -> None:
        self.tokens = [padded(side) for side in pairs.sides]
        self.lengths = [torch.from_numpy(side.lengths) for side in pairs.sides]
        self.labels = torch.from_numpy(pairs.labels.copy())
        self.each = 1 + negatives

    def __len__(self) -> int:
        return len(self.labels) * self.each

    def __getitems__(self, numbers: list[int]) -> Batch:
        number = torch.tensor(numbers)
        row = number // self.each
        negative = number % self.each > 0
        other = torch.where(negative, torch.randint(len(self.labels), row.shape), row)
        labels = torch.where(negative, 0.0, self.labels[row])
        return self.tokens[0][row], self.lengths[0][row], self.tokens[1][other], self.lengths[1][other], labels


def padded(sequences: Sequences) -> Tensor:
    """Return all sequences as one int64 matrix (N, T), padded with 0."""
    lengths = sequences.lengths
    tokens = np.zeros((len(lengths), lengths.max()), np.int64)
    tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = sequences.values
    return torch.from_numpy(tokens)


def collate(batch: Batch) -> Batch:
    """Remove columns that are padding in every row."""
    tokens0, lengths0, tokens1, lengths1, labels = batch
    return tokens0[:, : lengths0.max()], lengths0, tokens1[:, : lengths1.max()], lengths1, labels


class Pooled(nn.Module):
    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        embeddings: Tensor = self.embedding(tokens)
        return embeddings.sum(1) / lengths[:, None]  # the embedding of the padding is 0


class CNN(nn.Module):
    def __init__(self, embedding: nn.Embedding, encoder: EncoderHyperparameters, dim: int) -> None:
        super().__init__()
        self.embedding = embedding
        layers, width = encoder.layers, encoder.cnn_filter_width
        outputs = [dim // layers + (level < dim % layers) for level in range(layers)]
        inputs = [embedding.embedding_dim, *outputs[:-1]]
        self.levels = nn.ModuleList(
            nn.Conv1d(given, made, width, padding="same") for given, made in zip(inputs, outputs, strict=True)
        )

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        mask = (torch.arange(tokens.shape[1]) < lengths[:, None])[:, None].float()
        hidden = self.embedding(tokens).transpose(1, 2)
        pooled = []
        for level in self.levels:
            hidden = level(hidden).relu() * mask
            pooled.append(hidden.amax(2))
        return torch.cat(pooled, dim=1)


class BiLSTM(nn.Module):
    def __init__(self, embedding: nn.Embedding, encoder: EncoderHyperparameters, dim: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.lstm = nn.LSTM(embedding.embedding_dim, dim // 2, encoder.layers, batch_first=True, bidirectional=True)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, padding_value=-torch.inf)
        return hidden.amax(1)


class Model(nn.Module):
    """The two encoders, the comparators and the feed-forward network of `hyperparameters`."""

    def __init__(self, hyperparameters: Hyperparameters, *, sparse: bool) -> None:
        super().__init__()
        encoders = hyperparameters.encoders
        tables = [
            nn.Embedding(encoder.vocab_size, encoder.token_embedding_dim, padding_idx=0, sparse=sparse)
            for encoder in encoders[: 1 if hyperparameters.tied_token_embedding_weight else 2]
        ]
        self.enc0 = make_encoder(encoders[0], tables[0], hyperparameters.enc_dim)
        self.enc1 = make_encoder(encoders[1], tables[-1], hyperparameters.enc_dim)
        self.comparators = hyperparameters.comparator_list
        self.regression = hyperparameters.regression
        self.ranks, self.temperature = hyperparameters.ranks, hyperparameters.temperature
        self.dropout = nn.Dropout(hyperparameters.dropout)
        dim = hyperparameters.encoding_dim(0)
        width = sum({"concat": 2 * dim, "cosine": 1}.get(name, dim) for name in self.comparators)
        activation = {"tanh": nn.Tanh, "relu": nn.ReLU, "linear": nn.Identity}[hyperparameters.mlp_activation]
        layers: list[nn.Module] = []
        for _ in range(hyperparameters.mlp_layers):
            layers += [nn.Linear(width, hyperparameters.mlp_dim), activation(), nn.Dropout(hyperparameters.dropout)]
            width = hyperparameters.mlp_dim
        self.mlp = nn.Sequential(*layers, nn.Linear(width, hyperparameters.scores))

    def forward(self, tokens0: Tensor, lengths0: Tensor, tokens1: Tensor, lengths1: Tensor) -> Tensor:
        u, v = self.dropout(self.enc0(tokens0, lengths0)), self.dropout(self.enc1(tokens1, lengths1))
        compare: dict[str, Callable[[], Tensor]] = {
            "hadamard": lambda: u * v,
            "concat": lambda: torch.cat([u, v], dim=1),
            "abs_diff": lambda: (u - v).abs(),
            "cosine": lambda: nn.functional.cosine_similarity(u, v)[:, None],
        }
        output: Tensor = self.mlp(torch.cat([compare[name]() for name in self.comparators], dim=1))
        return output

    def ranking_loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy among the in1 of a batch, for single tokens and hadamard.

        The other positives of a pair's in0 are no candidates.
        """
        tokens0, lengths0, tokens1, _, _ = batch
        (_, row), (candidates, column) = (
            torch.unique(tokens[:, 0], return_inverse=True) for tokens in (tokens0, tokens1)
        )
        positive = torch.zeros(int(row.max()) + 1, len(candidates), dtype=torch.bool)
        positive[row, column] = True
        masked = positive[row]
        masked[torch.arange(len(column)), column] = False
        v = self.dropout(self.enc1(candidates[:, None], torch.ones_like(candidates)))
        u = self.dropout(self.enc0(tokens0, lengths0)) * self.mlp[-1].weight
        logits = (u @ v.t() / self.temperature).masked_fill(masked, -torch.inf)
        return nn.functional.cross_entropy(logits, column)

    def loss(self, batch: Batch) -> Tensor:
        if self.ranks:
            return self.ranking_loss(batch)
        *inputs, labels = batch
        output = self(*inputs)
        if self.regression:
            return nn.functional.mse_loss(output[:, 0], labels)
        return nn.functional.cross_entropy(output, labels.long())


def make_encoder(encoder: EncoderHyperparameters, table: nn.Embedding, dim: int) -> Pooled | CNN | BiLSTM:
    match encoder.network:
        case "pooled_embedding":
            return Pooled(table)
        case "hcnn":
            return CNN(table, encoder, dim)
        case _:
            return BiLSTM(table, encoder, dim)


class Program:
    """Data, model, optimizers and training loop. `sparse` selects sparse nn.Embedding and SparseAdam."""

    def __init__(self, pairs: Pairs, hyperparameters: Hyperparameters, *, sparse: bool) -> None:
        self.model = Model(hyperparameters, sparse=sparse)
        self.loader = DataLoader(
            PairDataset(pairs, hyperparameters.negative_sampling_rate),
            hyperparameters.mini_batch_size,
            shuffle=True,
            collate_fn=collate,  # type: ignore[arg-type]  # a batch of rows at once, as __getitems__ returns
        )
        tables = list({id(e.embedding.weight): e.embedding.weight for e in (self.model.enc0, self.model.enc1)}.values())
        rest = [p for p in self.model.parameters() if all(p is not table for table in tables)]
        rate = hyperparameters.learning_rate
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(rest if sparse else self.model.parameters(), rate)
        ]
        if sparse:
            self.optimizers.append(torch.optim.SparseAdam(tables, rate))

    def batches(self) -> Iterator[Batch]:
        """Yield batches endlessly, epoch after epoch."""
        while True:
            yield from self.loader

    def step(self, batch: Batch) -> float:
        """Do one training step and return its loss."""
        loss = self.model.loss(batch)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.item()

    @torch.no_grad()
    def loss(self, batch: Batch) -> float:
        """Return the loss of a batch, without dropout."""
        return self.model.eval().loss(batch).item()

    def copy_from(self, network: Network) -> None:
        """Copy the weights of our network, so that both compute the same."""
        copy_weights(network, self.model)


@torch.no_grad()
def copy_weights(network: Network, model: Model) -> None:
    """Copy the weights of our network into the plain model, with a zero embedding for the padding."""
    for name, parameter in model.named_parameters():
        parameter.copy_(network.get_parameter(_ours(name, len(model.mlp))))
    for encoder in (model.enc0, model.enc1):
        encoder.embedding.weight[0] = 0


def _ours(name: str, layers: int) -> str:
    """Return our name of a parameter of the plain model."""
    part, *rest = name.split(".")
    if part == "mlp":
        number = int(rest[0])
        return f"head.{'output' if number == layers - 1 else f'layers.{number // 3}'}.{rest[1]}"
    if rest[0] == "lstm":
        kind, level, *backward = rest[1].rsplit("_l", 1)[0], *rest[1].rsplit("_l", 1)[1].split("_")
        return f"{part}.{'backwards' if backward else 'forwards'}.{level}.{kind}_l0"
    return name
