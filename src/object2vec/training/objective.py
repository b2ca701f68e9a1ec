"""What training makes small, and what is measured on the way.

Shapes: P pairs, C scores a pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from object2vec.training.distributed import Group


class Objective:
    """Cross-entropy over classes, or the mean squared error of a number.

    `watched` names the metric that is the loss: early stopping and the choice of the best epoch go by it.
    """

    def __init__(self, *, regression: bool) -> None:
        self.regression = regression
        self.watched = "mean_squared_error" if regression else "cross_entropy"

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of P pairs: `output` (P, C) of the network against `labels` (P,) of float32; 0 of none."""
        if not len(labels):
            return output.sum()
        if self.regression:
            return mse_loss(output[:, 0], labels)
        return cross_entropy(output, labels.long())

    def correct(self, output: Tensor, labels: Tensor) -> Tensor:
        """How many of P pairs get their class."""
        return (output.argmax(dim=1) == labels.long()).sum()


class Metrics:
    """Metrics of all rows added so far, each row counted once."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.rows = 0
        self.batches = 0
        self._loss = torch.zeros((), dtype=torch.float64)
        self._correct = torch.zeros((), dtype=torch.int64)

    def add(self, loss: Tensor, output: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss, its output (P, C) and its labels (P,)."""
        self.rows += len(labels)
        self.batches += len(labels) > 0
        self._loss = self._loss.to(loss.device) + loss.detach().double() * len(labels)
        if not self.objective.regression:
            self._correct = self._correct.to(loss.device) + self.objective.correct(output, labels)

    def of_all(self, group: Group) -> Metrics:
        """Metrics of the rows that all ranks have added."""
        return Metrics.of(self.objective, group.sum(self.numbers))

    @property
    def numbers(self) -> list[float]:
        """All that these metrics are made of; `of` makes them again."""
        return [self.rows, self.batches, self._loss.item(), self._correct.item()]

    @classmethod
    def of(cls, objective: Objective, numbers: Sequence[float]) -> Metrics:
        metrics = cls(objective)
        rows, batches, loss, correct = numbers
        metrics.rows, metrics.batches = int(rows), int(batches)
        metrics._loss, metrics._correct = metrics._loss + loss, metrics._correct + int(correct)
        return metrics

    @property
    def loss(self) -> float:
        """The mean of the watched loss over all rows."""
        return self._loss.item() / self.rows

    def values(self) -> dict[str, float]:
        """Every metric under its name, in the order in which they are printed."""
        loss = self.loss
        if self.objective.regression:
            return {"mean_squared_error": loss}
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return {"perplexity": perplexity, "cross_entropy": loss, "accuracy": self._correct.item() / self.rows}
