"""What training makes small, and what is measured on the way.

Shapes: P pairs, C scores a pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from object2vec.ops import arguments
from object2vec.ops import scoring as scoring_ops
from object2vec.training.distributed import Group


class Objective:
    """Cross-entropy over classes, or the mean squared error of a number.

    `monitor` names the metric that is the loss: early stopping and the choice of the best epoch go by it.
    """

    def __init__(self, *, regression: bool) -> None:
        self.regression = regression
        self.monitor = "mean_squared_error" if regression else "cross_entropy"

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of P pairs: `output` (P, C) of the network against `labels` (P,) of float32; 0 of none."""
        if not len(labels):
            return output.sum()
        if self.regression:
            return mse_loss(output[:, 0], labels)
        if arguments.usable(output):
            return _CrossEntropy.apply(output, labels)  # type: ignore[no-any-return, no-untyped-call]
        return cross_entropy(output, labels.long())

    def slope(self, output: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss of P pairs, P > 0, and its gradient (P, C) of their output, where the kernels are usable."""
        if not self.regression:
            return scoring_ops.cross_entropy(output, labels)
        off = output - labels[:, None]
        return off.square().mean(), off * (2 / len(labels))

    def correct(self, output: Tensor, labels: Tensor) -> int:
        """How many of P pairs get their class; none where there are no classes."""
        if self.regression:
            return 0
        if arguments.usable(output):
            return scoring_ops.correct(output, labels)
        return int((output.argmax(dim=1) == labels.long()).sum())


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, labels: Tensor) -> Tensor:
        loss, slope = scoring_ops.cross_entropy(output.contiguous(), labels)
        ctx.save_for_backward(slope)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope * gradients[0], None


class Metrics:
    """Metrics of all rows added so far, each row counted once."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.rows = 0
        self.batches = 0
        self._loss = 0.0
        self._correct = 0

    def add(self, loss: float, rows: int, correct: int) -> None:
        """Add a batch of so many rows: its mean loss, and how many got their class."""
        self.rows += rows
        self.batches += rows > 0
        self._loss += loss * rows
        self._correct += correct

    def of_all(self, group: Group) -> Metrics:
        """Metrics of the rows that all ranks have added."""
        return Metrics.of(self.objective, group.sum(self.numbers))

    @property
    def numbers(self) -> list[float]:
        """All that these metrics are made of; `of` makes them again."""
        return [self.rows, self.batches, self._loss, self._correct]

    @classmethod
    def of(cls, objective: Objective, numbers: Sequence[float]) -> Metrics:
        metrics = cls(objective)
        rows, batches, metrics._loss, correct = numbers
        metrics.rows, metrics.batches, metrics._correct = int(rows), int(batches), int(correct)
        return metrics

    @property
    def loss(self) -> float:
        """The mean of the monitored loss over all rows."""
        return self._loss / self.rows

    def values(self) -> dict[str, float]:
        """Every metric under its name, in the order in which they are printed."""
        loss = self.loss
        if self.objective.regression:
            return {"mean_squared_error": loss}
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return {"perplexity": perplexity, "cross_entropy": loss, "accuracy": self._correct / self.rows}
