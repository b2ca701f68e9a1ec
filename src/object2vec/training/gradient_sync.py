"""What the ranks of a group tell one another at each step: gradients, and what is to be agreed on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from object2vec.data.batches import Batch
from object2vec.data.sequences import Sequences
from object2vec.model.network import Network
from object2vec.model.tokens import TokenEmbedding, Touched
from object2vec.ops import arguments
from object2vec.ops import embedding as embedding_ops
from object2vec.training.distributed import Group
from object2vec.training.optimizers import joined

#: Counts travel as float32, which has every integer below this one.
EXACT: Final = 2**24
#: The batch of a rank that is through with its own.
NO_PAIRS: Final = Batch(
    (Sequences.from_lists([]), Sequences.from_lists([])),
    (np.empty(0, np.int64), np.empty(0, np.int64)),
    np.empty(0, np.float32),
)


class Exchange:
    """One rank's part of it, so that all make the same step and none waits for one that is done.

    Gradients travel summed up, in one message with all that is to be agreed on. Those of token embeddings travel as
    what the rank's look-ups add to them, and cost as much however large the table is.
    """

    def __init__(self, group: Group, network: Network) -> None:
        self.group = group
        self.tables = [table for table in network.tables if table.weight.requires_grad]
        self._whole = {table for table in self.tables if not table.collects}  # moved by a gradient of all of it
        if group.size > 1:
            for table in self.tables:
                table.collects = True
        weights = {table.weight for table in self.tables}
        self.parameters = [p for p in network.parameters() if p.requires_grad and p not in weights]
        self._rows = self._own_rows = 0.0  # of this step's batches: of all ranks, of this one
        self._next_rows, self._wish = 0.0, False
        self.asking = self._asked = False  # for a pause after this step: this rank, any rank

    @cached_property
    def _message(self) -> list[Tensor]:
        """Parts of one flat tensor: a gradient a parameter, then what is agreed on; the last is all of it."""
        sizes = [p.numel() for p in self.parameters]
        agreed = len(Agreed._fields) - 1 + 2 * self.group.size * len(self.tables)
        flat = self.parameters[0].new_empty(sum(sizes) + agreed)
        return [*torch.split(flat, [*sizes, agreed]), flat]

    def batches(self, own: Iterator[Batch], stop: Callable[[], bool]) -> Iterator[Batch]:
        """This rank's batches, then batches of no pairs until every rank is through with its own.

        They end on all ranks at once, also where `stop()`, asked each batch, is true on any of them.
        """
        if self.group.size == 1:
            yield from takewhile(lambda _: not stop(), own)
            return
        ahead = next(own, NO_PAIRS)
        rows, wishes = self.group.sum([len(ahead), stop()])
        self._rows = rows if not wishes else 0
        while self._rows:
            batch, ahead = ahead, next(own, NO_PAIRS)
            self._own_rows, self._next_rows, self._wish = len(batch), len(ahead), stop()
            yield batch

    @property
    def share(self) -> float:
        """What the mean loss over this rank's own rows counts in that over the rows of all ranks."""
        return 1.0 if self.group.size == 1 else self._own_rows / self._rows

    @property
    def asked(self) -> bool:
        """Whether any rank asks for a pause after this step."""
        return self.asking if self.group.size == 1 else self._asked

    def sum(self, loss: Tensor) -> Tensor:
        """Turn the gradients of `loss`, this rank's part of it, into those of the sum over the ranks; returns that."""
        if self.group.size == 1:
            return loss
        touched = [_compact(table) for table in self.tables]
        agreed = self._sum(loss, [size for one in touched for size in (len(one.values), len(one.gradient))])
        self._rows = agreed.next_rows if not agreed.wishes else 0
        self._asked = agreed.asked > 0
        sizes = np.array(agreed.sizes, int).reshape(len(self.tables), 2, self.group.size)
        for table, own, (values, rows) in zip(self.tables, touched, sizes.tolist(), strict=True):
            total = self._of_all_ranks(table, own, values, rows)
            table.touched[:] = [] if table in self._whole else [total]
            table.weight.grad = table.gradient_of(total) if table in self._whole else None
        return loss.new_tensor(agreed.loss)

    def _of_all_ranks(self, table: TokenEmbedding, own: Touched, values: list[int], rows: list[int]) -> Touched:
        """What all ranks add to a table, by rank so many values and rows of a gradient; they arrive in place."""
        gradient = own.gradient.new_empty(sum(rows), table.dim)
        parts = torch.split(gradient, rows)
        parts[self.group.rank].copy_(own.gradient)
        messages = [gradient.new_empty(m + 2 * n) for n, m in zip(values, rows, strict=True)]
        torch.cat([own.scale, _as_floats(own.values), _as_floats(own.origin)], out=messages[self.group.rank])
        self.group.all_gather_into(parts, messages)
        of_ranks = [
            Touched(_as_integers(message[m : m + n]), _as_integers(message[m + n :]), message[:m], part)
            for message, part, n, m in zip(messages, parts, values, rows, strict=True)
        ]
        if arguments.usable(table.weight):  # the kernels sum up an id's rows in the order of the ranks
            return joined(of_ranks, gradient)
        return _summed(table, of_ranks)

    def _sum(self, loss: Tensor, sizes: Sequence[int]) -> Agreed:
        """Make the gradients of all but token embeddings those of all ranks; what else the ranks say is added up."""
        *gradients, tail, flat = self._message
        shaped = [part.view_as(p) for part, p in zip(gradients, self.parameters, strict=True)]
        torch._foreach_copy_(shaped, [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters])
        rank = self.group.rank
        by_rank = [size if r == rank else 0 for size in sizes for r in range(self.group.size)]
        tail.copy_(tail.new_tensor([loss.item(), self._next_rows, self._wish, self.asking, *by_rank]))
        self.group.all_reduce(flat)
        for p, gradient in zip(self.parameters, shaped, strict=True):
            p.grad = gradient
        losses, next_rows, wishes, asked, *all_sizes = tail.tolist()
        return Agreed(losses, next_rows, wishes, asked, [int(size) for size in all_sizes])


class Agreed(NamedTuple):
    """What the ranks said of a step, added up."""

    loss: float
    next_rows: float  # rows of the next step's batches
    wishes: float  # ranks that wish to stop
    asked: float  # ranks that ask for a pause
    sizes: list[int]  # what look-ups of each table add: n values by rank, then m rows by rank


def _compact(table: TokenEmbedding) -> Touched:
    """What a step's look-ups add to a table, in the form that is the shorter message: as they are, or summed up by id.

    Without kernels it is summed up: a GPU adds in any order, and so it is done by one rank for all.
    """
    touched = joined(table.touched)
    if arguments.usable(table.weight):
        groups = embedding_ops.group(touched.values, touched.origin, table.lut)
        ids = groups.rows
        if len(touched.gradient) <= len(ids) and len(touched.values) < EXACT:
            return touched
        gradient = table.weight.new_zeros(len(ids), table.dim)
        numbered = groups._replace(rows=torch.arange(len(ids)))
        embedding_ops.add_rows(gradient, numbered, touched.scale, touched.gradient)
    else:
        ids, place = torch.unique(touched.values, return_inverse=True)
        gradient = table.weight.new_zeros(len(ids), table.dim)
        gradient.index_add_(0, place, (touched.gradient * touched.scale[:, None])[touched.origin])
    return Touched(ids, torch.arange(len(ids), device=ids.device), gradient.new_ones(len(ids)), gradient)


def _as_floats(integers: Tensor) -> Tensor:
    """Ids or places as they travel: four bytes each, as the numbers beside them."""
    return integers.int().view(torch.float32)


def _as_integers(floats: Tensor) -> Tensor:
    return floats.view(torch.int32).long()


def _summed(table: TokenEmbedding, of_ranks: Sequence[Touched]) -> Touched:
    """What all ranks add to a table, a rank at a time: a GPU adds in any order, and the ranks would drift apart."""
    values = torch.cat([touched.values for touched in of_ranks])
    ids, row = torch.unique(values, return_inverse=True)
    summed = of_ranks[0].gradient.new_zeros(len(ids), table.dim)
    for rows, of_rank in zip(row.split([len(t.values) for t in of_ranks]), of_ranks, strict=True):
        summed.index_add_(0, rows, of_rank.gradient)
    return Touched(ids, torch.arange(len(ids), device=ids.device), summed.new_ones(len(ids)), summed)
