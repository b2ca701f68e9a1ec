"""A step in one kernel, for networks that are two tables and an output layer, on pairs of single tokens.

That is matrix factorisation, or skip-gram. A pair is so little arithmetic there that all around it is what counts: rows
are read where they lie, and move there as soon as the gradients of a batch are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

import torch
from torch import Tensor
from torch.optim import Optimizer

from object2vec.data.batches import Batch
from object2vec.model.network import Network
from object2vec.ops import fused_step as fused_step_ops
from object2vec.ops import scoring as scoring_ops
from object2vec.training.optimizers import RowOptimizer

#: Numbers of pairs for which one more thread is worth it: it takes rows out of the caches of the others.
WORK: Final = 2**19
#: Batches that are given at a time, and pairs that these may have: what is around a step is done but once for all.
TOGETHER: Final = 8
PAIRS: Final = 2**15


class FusedStep:
    """Steps of a network that one optimizer moves: of tables the rows that look-ups touch, and the output layer."""

    def __init__(self, optimizer: RowOptimizer, at: Tensor) -> None:
        self._optimizer = optimizer
        self._at = at
        self._most_threads = torch.get_num_threads()  # results depend on this number, and on no later one
        self._weights = [*(table.weight for table in optimizer.tables), *optimizer.layer]
        classes, width = optimizer.layer[0].shape
        self._shape = classes, width, optimizer.tables[0].dim

    @classmethod
    def of(cls, network: Network, optimizers: Sequence[Optimizer]) -> Self | None:
        """That of a network; None where it has another form, or no kernel can work on it."""
        match optimizers, network.train().direct:
            case [RowOptimizer(tables=[_, _], layer=[_, bias]) as optimizer], scoring_ops.Output(at=at) if (
                len(bias) <= 2
            ):
                return cls(optimizer, at) if all(map(optimizer.at_rest, optimizer.tables)) else None
        return None

    def __call__(self, batches: Sequence[Batch]) -> list[tuple[float, int]] | None:
        """Step all that a batch of pairs touches, one batch after the other.

        Returns of each the mean loss, and how many pairs get their class, if there are classes; None, with nothing
        done, where an object is no single token.
        """
        if not all(batch.single for batch in batches):
            return None
        optimizer = self._optimizer
        moved = [fused_step_ops.Moved(weight, *optimizer.begin(weight, len(batches))) for weight in self._weights]
        given = [
            fused_step_ops.PairBatch([side.values for side in batch.objects], batch.index, batch.labels)
            for batch in batches
        ]
        (rate, decay), threads = optimizer.settings, self.threads(max(map(len, batches)))
        layer = self._shape, self._at
        return fused_step_ops.step_pairs(optimizer.kind, moved, *layer, given, rate=rate, decay=decay, threads=threads)

    @staticmethod
    def together(size: int) -> int:
        """How many batches of so many pairs are best given at a time."""
        return max(1, min(TOGETHER, PAIRS // size))

    def threads(self, pairs: int) -> int:
        """How many threads a step of so many pairs is worth."""
        return min(self._most_threads, max(1, pairs * self._shape[-1] // WORK))
