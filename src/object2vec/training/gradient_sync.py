"""Synchronization of the ranks at each step: gradients, and whether to stop or to write a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from object2vec.data.batches import Batch
from object2vec.data.sequences import Sequences
from object2vec.model.network import Network
from object2vec.ops import embedding
from object2vec.ops.embedding import RowGradient
from object2vec.training.distributed import Group

#: The batch of a rank that has no more batches of its own.
NO_PAIRS: Final = Batch(
    (Sequences.from_lists([]), Sequences.from_lists([])),
    (np.empty(0, np.int64), np.empty(0, np.int64)),
    np.empty(0, np.float32),
)


class Agreement(NamedTuple):
    """What the ranks agree on for the next step."""

    loss: float  # of this step, over the pairs of all ranks
    pairs: float  # of the next step, over all ranks
    weight: float  # of these pairs
    stop: bool  # a rank asks to stop
    checkpoint: bool  # a rank asks for a checkpoint after this step
    row_counts: list[list[int]]  # by rank, see `GradientSync.compact`


class GradientSync:
    """Sums the gradients of all ranks, so that all take the same step and none waits for one that has finished.

    Gradients of tables travel by rows, so that the messages do not depend on the size of a table.
    """

    def __init__(self, group: Group, network: Network) -> None:
        self.group = group
        self.tables = [table.weight for table in network.tables if table.weight.requires_grad]
        tables = set(self.tables)
        self.parameters = [p for p in network.parameters() if p.requires_grad and p not in tables]

    def agree(
        self,
        *,
        pairs: int,
        weight: float,
        stop: bool,
        checkpoint: bool = False,
        loss: float = 0.0,
        row_counts: Sequence[int] = (),
    ) -> Agreement:
        """Return what the ranks agree on.

        `pairs` is the number of this rank's pairs in the next step, `weight` the sum of their
        weights, `loss` its part of the loss of this one.
        """
        of_ranks = self.group.all_gather([loss, pairs, weight, stop, checkpoint, *row_counts])
        losses, pairs_of_ranks, weights, stops, checkpoints, *_ = zip(*of_ranks, strict=True)
        counts = [[int(count) for count in numbers[5:]] for numbers in of_ranks]
        return Agreement(sum(losses), sum(pairs_of_ranks), sum(weights), any(stops), any(checkpoints), counts)

    def compact(self) -> list[int]:
        """Shorten this rank's gradients of tables; return how many ids and rows each of them has then."""
        counts = []
        for weight in self.tables:
            grad = cast(RowGradient, embedding.row_grad(weight)).compact(weight)  # each backward pass sets it
            embedding.set_row_grad(weight, grad)
            counts += [len(grad.ids), len(grad.grad)]
        return counts

    def sum(self, row_counts: Sequence[Sequence[int]]) -> None:
        """Replace this rank's gradients by the sums over all ranks; `row_counts` are those of each rank."""
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        flat = torch.cat([grad.flatten() for grad in grads])
        self.group.all_reduce(flat)
        for p, summed in zip(self.parameters, torch.split(flat, [p.numel() for p in self.parameters]), strict=True):
            p.grad = summed.view_as(p)
        by_table = np.array(row_counts, int).T.reshape(len(self.tables), 2, self.group.size).tolist()
        for weight, (ids, rows) in zip(self.tables, by_table, strict=True):
            embedding.set_row_grad(weight, self._sum_rows(weight, ids, rows))

    def _sum_rows(self, weight: Tensor, ids: list[int], rows: list[int]) -> RowGradient:
        """Return the sum of all ranks' gradients of a table; `ids` and `rows` are the lengths of each rank's."""
        own = cast(RowGradient, embedding.row_grad(weight))
        grad = own.grad.new_empty(sum(rows), weight.shape[1])
        parts = torch.split(grad, rows)
        parts[self.group.rank].copy_(own.grad)
        messages = [grad.new_empty(m + 2 * n) for n, m in zip(ids, rows, strict=True)]
        torch.cat([own.scale, _as_floats(own.ids), _as_floats(own.source)], out=messages[self.group.rank])
        self.group.all_gather_into(parts, messages)
        of_ranks = [
            RowGradient(_as_integers(message[m : m + n]), _as_integers(message[m + n :]), message[:m], part)
            for message, part, n, m in zip(messages, parts, ids, rows, strict=True)
        ]
        return RowGradient.sum_in_order(weight, of_ranks, grad)


def _as_floats(integers: Tensor) -> Tensor:
    """Return integers as they travel: in four bytes each, like the floats of the message."""
    return integers.int().view(torch.float32)


def _as_integers(floats: Tensor) -> Tensor:
    return floats.view(torch.int32).long()
