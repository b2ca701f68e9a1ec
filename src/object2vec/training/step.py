"""A training step: batches in, results out. Either by autograd and optimizers, or in one kernel.

Shapes: P pairs, C scores a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from object2vec.data.batches import Batch
from object2vec.model.network import Network
from object2vec.ops import fused_step
from object2vec.ops.scoring import LinearHead
from object2vec.training.gradient_clipping import clip_gradients
from object2vec.training.objective import Objective
from object2vec.training.optimizers import RowOptimizer, scale_learning_rates
from object2vec.training.thread_tuner import ThreadTuner

#: Products of a fused step that make one more thread worth it: it takes rows out of the caches of the others.
PRODUCTS_PER_THREAD: Final = 2**19
#: Batches of one fused call, and pairs that these may have: the cost of a call is paid once for all.
MAX_BATCHES: Final = 8
MAX_PAIRS: Final = 2**15


class StepResult(NamedTuple):
    """What a step gives: its pairs, their mean loss, how many of them got their class, and the sum of their weights."""

    pairs: int
    loss: float
    correct: float
    weight: float


def backward(network: Network, objective: Objective, batch: Batch, share: float = 1.0) -> tuple[Tensor, float]:
    """Set the gradients of `share` times the mean loss of a batch; return that, and how many pairs are correct."""
    network.zero_grad()
    loss, correct = objective.measure(network, batch)
    loss = share * loss
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), correct


@dataclass(eq=False)
class AutogradStep:
    """A step by autograd and optimizers, for every network."""

    network: Network
    objective: Objective
    optimizers: Sequence[Optimizer]
    tuner: ThreadTuner
    max_norm: float = 0.0  # of the gradient; 0 is any

    def __call__(self, batches: Sequence[Batch], factors: Sequence[float]) -> list[StepResult]:
        """Take a step for each batch, one after the other, with these factors of the learning rates."""
        results = []
        for batch, factor in zip(batches, factors, strict=True):
            loss, correct = self.backward(batch)
            self.update(batch, factor)
            results.append(StepResult(len(batch), loss.item(), correct, batch.weight))
        return results

    def backward(self, batch: Batch, share: float = 1.0) -> tuple[Tensor, float]:
        """Set the gradients of `share` times the mean loss; return that, and how many pairs got their class."""
        self.tuner.start()
        loss, correct = backward(self.network, self.objective, batch, share)
        self.tuner.stop()
        return loss, correct

    def update(self, batch: Batch, factor: float) -> None:
        """Let the optimizers step the weights, with this factor of their learning rates."""
        self.tuner.start()
        scale_learning_rates(self.optimizers, factor)
        if self.max_norm:
            clip_gradients(self.network, self.max_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        self.tuner.stop()
        self.tuner.finish_step(len(batch) + sum(len(side.values) for side in batch.objects))

    def batches_per_call(self, size: int) -> int:  # noqa: ARG002 -- as in FusedStep
        """Return how many batches of `size` pairs to pass at a time."""
        return 1

    def threads(self, pairs: int) -> int:  # noqa: ARG002 -- as in FusedStep
        """Return how many threads a step may use."""
        return self.tuner.most


class FusedStep:
    """A step in one kernel, for two tables and an output layer on pairs of single tokens.

    That is matrix factorization, or skip-gram. A pair takes so little arithmetic there that most of the cost is
    elsewhere. So the kernel reads rows in place, and updates them as soon as the gradients of a batch are known.
    """

    def __init__(self, optimizer: RowOptimizer, head: LinearHead, fallback: AutogradStep, tuner: ThreadTuner) -> None:
        self._optimizer = optimizer
        self._head = head
        self._dim = optimizer.tables[0].dim
        self._fallback = fallback
        self._tuner = tuner
        self._max_threads = torch.get_num_threads()  # results depend on this number, and on no later one
        self._weights = [*(table.weight for table in optimizer.tables), *optimizer.layer]

    def __call__(self, batches: Sequence[Batch], factors: Sequence[float]) -> list[StepResult]:
        """Take a step for each batch, one after the other; by autograd if pairs have weights or longer objects."""
        if not all(batch.single and batch.weights is None for batch in batches):
            return self._fallback(batches, factors)
        self._tuner.start()
        optimizer, steps = self._optimizer, len(batches)
        rate, (_, decay) = optimizer.param_groups[0]["initial_lr"], optimizer.settings
        states = [fused_step.parameter_state(weight, *optimizer.begin(weight, steps)) for weight in self._weights]
        given = [
            fused_step.pair_batch([side.values for side in batch.objects], batch.index, batch.labels, factor * rate)
            for batch, factor in zip(batches, factors, strict=True)
        ]
        threads = self.threads(max(map(len, batches)))
        found = fused_step.step_pairs(optimizer.kind, decay, states, self._head, given, dim=self._dim, threads=threads)
        self._tuner.stop()
        self._tuner.finish_step(sum(map(len, batches)))
        return [StepResult(len(batch), *result, len(batch)) for batch, result in zip(batches, found, strict=True)]

    def batches_per_call(self, size: int) -> int:
        """Return how many batches of `size` pairs to pass at a time."""
        return max(1, min(MAX_BATCHES, MAX_PAIRS // size))

    def threads(self, pairs: int) -> int:
        """Return how many threads make a step of this number of pairs faster."""
        return min(self._max_threads, max(1, pairs * self._dim // PRODUCTS_PER_THREAD))


Step = AutogradStep | FusedStep


def make_step(
    network: Network, optimizers: Sequence[Optimizer], autograd_step: AutogradStep, tuner: ThreadTuner
) -> Step:
    """Return the fused step if the network is two tables and an output layer that the kernel can step, else autograd's.

    One `RowOptimizer` must step all of it, and leave rows without a gradient as they are.
    """
    match optimizers, network.train().linear_head:
        case [RowOptimizer(tables=[_, _]) as optimizer], LinearHead() as head if (
            not (autograd_step.objective.ranking or autograd_step.objective.sigmoid or autograd_step.max_norm)
            and optimizer.layer
            and fused_step.is_supported(head)
            and all(map(optimizer.keeps_other_rows, optimizer.tables))
        ):
            return FusedStep(optimizer, head, autograd_step, tuner)
    return autograd_step
