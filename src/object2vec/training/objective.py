"""The loss that training minimizes, and the metrics.

Shapes: P pairs, C scores a pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, pad, softplus

from object2vec.data.batches import Batch
from object2vec.data.sequences import Sequences
from object2vec.hyperparameters import Hyperparameters
from object2vec.model.network import Network
from object2vec.model.tokens import Tokens
from object2vec.ops.in_batch_softmax import GivenNegatives, in_batch_softmax
from object2vec.training.distributed import Group

#: Numbers of classes for which torch's softmax takes up to four times as long over rows as over columns.
SLOW_CLASSES: Final = range(3, 16)


def to_device(batch: Batch, device: torch.device) -> tuple[tuple[Tokens, Tokens], tuple[Tensor, Tensor]]:
    """Return the objects of both sides of a batch, and the index of each pair, (P,) a side."""
    tokens = Tokens.of(batch.objects[0], device), Tokens.of(batch.objects[1], device)
    return tokens, (torch.from_numpy(batch.index[0]).to(device), torch.from_numpy(batch.index[1]).to(device))


def forward_batch(network: Network, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the network's output (P, C) for a batch of P pairs, and their labels (P,)."""
    output: Tensor = network(*to_device(batch, network.device))
    return output, torch.from_numpy(batch.labels).to(network.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingLoss:
    """Cross-entropy of each positive pair among all in1 of its batch, and the given negatives of its in0.

    Other positives of the same in0 are no candidates. The logit of a candidate is its score / `temperature`, less
    `log_q_correction` times the logarithm of the probability that a batch has it.
    """

    temperature: float
    log_q_correction: float

    def measure(
        self, network: Network, batch: Batch, encodings: tuple[Tensor, Tensor], index: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, float]:
        """Return the mean loss of a batch, and how many of its pairs have the best logit, both by weights of pairs."""
        left, right, bias = network.score_factors(encodings)
        bias = bias / self.temperature
        negatives = None
        if batch.candidates:
            left_of, right_of = (torch.from_numpy(side).to(network.device) for side in batch.candidates.negatives)
            negatives = GivenNegatives(left_of, right_of, len(batch.candidates.given))
            if self.log_q_correction:
                bias = bias - self.log_q_correction * torch.from_numpy(batch.candidates.log_q).to(network.device)
        weights = np.ones(len(batch), np.float32) if batch.weights is None else batch.weights
        weight = torch.from_numpy(weights).to(network.device)
        loss, is_best = in_batch_softmax((left / self.temperature, right), bias, index, shares(weight), negatives)
        return loss, weight[is_best].sum().item()


class Objective:
    """Cross-entropy over classes or of each class, the mean squared error of a number, or a ranking loss.

    `monitor` names the metric that is the loss: early stopping and the choice of the best epoch go by it.
    """

    def __init__(self, *, regression: bool, sigmoid: bool = False, ranking: RankingLoss | None = None) -> None:
        self.regression = regression
        self.sigmoid = sigmoid
        self.ranking = ranking
        self.monitor = "mean_squared_error" if regression else "cross_entropy"

    def measure(self, network: Network, batch: Batch) -> tuple[Tensor, float]:
        """Return the mean loss of a batch, and how many of its pairs are correct, both by the weights of pairs.

        In training, the loss is the mean of those of whole encodings and of their prefixes (Matryoshka representation
        learning, Kusupati et al. 2022, https://arxiv.org/abs/2205.13147).
        """
        tokens, index = network.mark_pairs(*to_device(batch, network.device))
        encodings = network.encode_sides(tokens)
        loss, correct = self._measure(network, batch, encodings, index)
        if network.training and network.prefix_dims:
            prefixes = [
                self._measure(network, batch, (prefix(encodings[0], dim), prefix(encodings[1], dim)), index)[0]
                for dim in network.prefix_dims
            ]
            loss = torch.stack([loss, *prefixes]).mean()
        return loss, correct

    def _measure(
        self, network: Network, batch: Batch, encodings: tuple[Tensor, Tensor], index: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, float]:
        """Return what `measure` does, of given encodings."""
        if self.ranking:
            return self.ranking.measure(network, batch, encodings, index)
        output, labels = network.score_objects(encodings, index), torch.from_numpy(batch.labels).to(network.device)
        weights = None if batch.weights is None else torch.from_numpy(batch.weights).to(network.device)
        if batch.classes is not None:
            return measure_sets(output, batch.classes, weights)
        return self.loss(output, labels, weights), self.correct(output.detach(), labels, weights)

    def loss(self, output: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss of P pairs with `output` (P, C) and `labels` (P,) float32; 0 of none.

        With `weights` (P,) it is the weighted mean: the sum of weight times loss, divided by the sum of weights. It
        is 0 if all weights are.
        """
        if not len(labels):
            return output.sum()
        if weights is None:
            return self._losses(output, labels, "mean")
        return weighted_mean(self._losses(output, labels, "none"), weights)

    def _losses(self, output: Tensor, labels: Tensor, reduction: str) -> Tensor:
        """Return the loss of each pair (P,), or their mean, as `reduction` says."""
        if self.regression:
            return mse_loss(output[:, 0], labels, reduction=reduction)
        if output.shape[1] in SLOW_CLASSES:
            losses = cross_entropy(output.t()[None], labels.long()[None], reduction=reduction)
            return losses if reduction == "mean" else losses[0]
        return cross_entropy(output, labels.long(), reduction=reduction)

    def correct(self, output: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
        """Return how many of P pairs have the highest score for their class, or the sum of their `weights` (P,).

        It is 0 if there are no classes.
        """
        if self.regression:
            return 0
        is_correct = output.argmax(dim=1) == labels
        return is_correct.sum().item() if weights is None else weights[is_correct].sum().item()


def prefix(encodings: Tensor, dim: int) -> Tensor:
    """Return encodings (N, D) with zeros after the first `dim` numbers. Heads then score as if they ended there."""
    return pad(encodings[:, :dim], (0, encodings.shape[1] - dim))


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of losses (P,); 0 if all weights (P,) are."""
    return torch.dot(losses, shares(weights))


def shares(weights: Tensor) -> Tensor:
    """Return weights (P,) divided by their sum; zeros if all are."""
    return weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)


def measure_sets(output: Tensor, classes: Sequences, weights: Tensor | None) -> tuple[Tensor, float]:
    """Return the mean loss of P pairs that can have several classes, and how many have one of them as the best.

    The loss of a pair is the sum of the binary cross-entropies of all classes, of `output` (P, C). Both results are by
    `weights` (P,), if given.
    """
    pairs, count = output.shape
    if not pairs:
        return output.sum(), 0
    own = torch.from_numpy(classes.values).to(output.device).long()
    pair = torch.from_numpy(np.repeat(np.arange(pairs), classes.lengths)).to(output.device)
    chosen = output.flatten().index_select(0, pair * count + own)
    losses = softplus(output).sum(1).index_add(0, pair, -chosen)
    found = (own == output.argmax(1)[pair]).to(output.dtype)
    is_best = found.new_zeros(pairs).index_add(0, pair, found)
    if weights is None:
        return losses.mean(), is_best.sum().item()
    return weighted_mean(losses, weights), torch.dot(is_best, weights).item()


def objective_of(hyperparameters: Hyperparameters) -> Objective:
    """Return the loss of a configuration."""
    temperature, log_q_correction = hyperparameters.temperature, hyperparameters.log_q_correction
    ranking = RankingLoss(temperature=temperature, log_q_correction=log_q_correction) if hyperparameters.ranks else None
    return Objective(regression=hyperparameters.squared_error, sigmoid=hyperparameters.sigmoid, ranking=ranking)


class Metrics:
    """Metrics of all rows added so far, each row counted once, or by its weight.

    `numbers` are those of a state to start from.
    """

    def __init__(self, objective: Objective, numbers: Sequence[float] = (0, 0, 0.0, 0, 0)) -> None:
        self.objective = objective
        rows, batches, self._loss, self._correct, *weight = numbers
        self.rows, self.batches = int(rows), int(batches)
        self._weight = weight[0] if weight else rows  # an older checkpoint has none

    def add(self, loss: float, rows: int, correct: float, weight: float | None = None) -> None:
        """Add a batch: its rows, its mean loss, how many rows got their class, and the sum of the rows' weights.

        Without weights, each row has the weight 1.
        """
        weight = rows if weight is None else weight
        self.rows += rows
        self.batches += rows > 0
        self._loss += loss * weight
        self._correct += correct
        self._weight += weight

    def of_all(self, group: Group) -> Metrics:
        """Return the metrics of the rows that all ranks have added."""
        return Metrics(self.objective, group.sum(self.numbers))

    @property
    def numbers(self) -> list[float]:
        """The state of these metrics; ranks' metrics are added by adding these."""
        return [self.rows, self.batches, self._loss, self._correct, self._weight]

    @property
    def loss(self) -> float:
        """The weighted mean of the monitored loss over all rows."""
        return self._loss / (self._weight or 1)

    def values(self) -> dict[str, float]:
        """Every metric under its name, in the order in which they are printed."""
        loss = self.loss
        if self.objective.regression:
            return {"mean_squared_error": loss}
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return {"perplexity": perplexity, "cross_entropy": loss, "accuracy": self._correct / (self._weight or 1)}
