"""Synchronization of the ranks at each step: gradients, and whether to stop or to write a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from object2vec.data.batches import Batch
from object2vec.data.sequences import Sequences
from object2vec.model.network import Network
from object2vec.ops import embedding
from object2vec.ops.embedding import RowGradient
from object2vec.training.distributed import Group

#: Counts travel as float32, which represents every integer below this one.
EXACT: Final = 2**24
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
    stop: bool  # a rank asks to stop
    checkpoint: bool  # a rank asks for a checkpoint after this step

    @property
    def goes_on(self) -> bool:
        """Whether there is a next step."""
        return self.pairs > 0 and not self.stop


class GradientSync:
    """Sums the gradients of all ranks, so that all take the same step and none waits for one that has finished.

    Gradients travel in one message with everything that the ranks must agree on. Those of tables travel by rows, so
    that the message does not depend on the size of a table.
    """

    def __init__(self, group: Group, network: Network) -> None:
        self.group = group
        self.tables = [table.weight for table in network.tables if table.weight.requires_grad]
        tables = set(self.tables)
        self.parameters = [p for p in network.parameters() if p.requires_grad and p not in tables]
        self._buffers: list[Tensor] | None = None

    def agree(self, pairs: int, *, stop: bool) -> Agreement:
        """Return what the ranks agree on before the first step, for which this rank has `pairs` pairs."""
        all_pairs, stops = self.group.sum([pairs, stop])
        return Agreement(0.0, all_pairs, stops > 0, checkpoint=False)

    def sum(self, loss: Tensor, *, pairs: int, stop: bool, checkpoint: bool) -> Agreement:
        """Replace this rank's gradients by the sum over all ranks; return what the ranks agree on.

        `loss` is this rank's part of the loss. `pairs` is the number of its pairs in the next step.
        """
        grads = [_compact(weight) for weight in self.tables]
        counts = [count for grad in grads for count in (len(grad.ids), len(grad.grad))]
        agreement, all_counts = self._sum_dense([loss.item(), pairs, stop, checkpoint], counts)
        by_table = np.array(all_counts, int).reshape(len(self.tables), 2, self.group.size)
        for weight, own, (ids, rows) in zip(self.tables, grads, by_table.tolist(), strict=True):
            embedding.set_row_grad(weight, self._sum_rows(weight, own, ids, rows))
        return agreement

    def _sum_rows(self, weight: Tensor, own: RowGradient, ids: list[int], rows: list[int]) -> RowGradient:
        """Return the sum of all ranks' gradients of a table; `ids` and `rows` are the lengths of each rank's."""
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

    def _sum_dense(self, values: Sequence[float], counts: Sequence[int]) -> tuple[Agreement, list[float]]:
        """Sum the gradients of all parameters but tables; return the agreement, and each of `counts` by rank."""
        *parts, tail, flat = self._message(len(values) + len(counts) * self.group.size)
        grads = [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]
        torch._foreach_copy_(grads, [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters])
        by_rank = [count if rank == self.group.rank else 0 for count in counts for rank in range(self.group.size)]
        tail.copy_(tail.new_tensor([*values, *by_rank]))
        self.group.all_reduce(flat)
        for p, grad in zip(self.parameters, grads, strict=True):
            p.grad = grad
        loss, pairs, stops, checkpoints, *all_counts = tail.tolist()
        return Agreement(loss, pairs, stops > 0, checkpoints > 0), all_counts

    def _message(self, values: int) -> list[Tensor]:
        """Return parts of one flat tensor: a gradient a parameter, so many values; the last is the tensor itself."""
        if self._buffers is None:
            sizes = [p.numel() for p in self.parameters]
            flat = self.parameters[0].new_empty(sum(sizes) + values)
            self._buffers = [*torch.split(flat, [*sizes, values]), flat]
        return self._buffers


def _compact(weight: Tensor) -> RowGradient:
    grad = embedding.row_grad(weight)
    if grad is None:
        raise RuntimeError("a table has no gradient: run the backward pass first")
    return grad.compact(weight, EXACT)


def _as_floats(integers: Tensor) -> Tensor:
    """Return integers as they travel: in four bytes each, like the floats of the message."""
    return integers.int().view(torch.float32)


def _as_integers(floats: Tensor) -> Tensor:
    return floats.view(torch.int32).long()
