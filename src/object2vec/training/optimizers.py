"""The optimizers, with the settings that the built-in's framework (Apache MXNet 1.3) has where a user sets none.

Tables of token embeddings get their own kind, which makes no gradient as large as a table. With `row_sparse` storage a
step moves only the rows that the batch touched, and costs as much however large the table is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from object2vec import allocator
from object2vec.hyperparameters import Hyperparameters
from object2vec.model.network import Network
from object2vec.model.tokens import TokenEmbedding, Touched
from object2vec.ops import arguments
from object2vec.ops import embedding as embedding_ops


def make_optimizers(network: Network, hyperparameters: Hyperparameters) -> list[Optimizer]:
    """Optimizers that together move every parameter of the network that is not frozen.

    Weight decay is L2, on weights; biases have none.
    """
    tables = [table for table in network.tables if _by_rows(table, hyperparameters.optimizer)]
    for table in tables:
        table.collects = True
    lazy = {table.weight for table in tables}
    by_decay: dict[float, list[nn.Parameter]] = {}  # where all decay alike, one group: each costs a step some time
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and parameter not in lazy:
            by_decay.setdefault(0.0 if "bias" in name else hyperparameters.weight_decay, []).append(parameter)
    head = network.head
    if tables and head and {p for group in by_decay.values() for p in group} == set(head.output.parameters()):
        return [RowOptimizer(tables, hyperparameters, head.output)]
    groups = [{"params": parameters, "weight_decay": decay} for decay, parameters in by_decay.items()]
    optimizers = [_dense(groups, hyperparameters)]
    if tables:
        optimizers.append(RowOptimizer(tables, hyperparameters))
    return optimizers


def _by_rows(table: TokenEmbedding, kind: str) -> bool:
    """Whether a table is moved by what its look-ups leave: by its storage, or because there is a kernel that can."""
    can = table.row_sparse or (kind in RowOptimizer.STATE and arguments.usable(table.weight))
    return can and table.weight.requires_grad


def _dense(groups: list[dict[str, Any]], hyperparameters: Hyperparameters) -> Optimizer:
    rate = hyperparameters.learning_rate
    match hyperparameters.optimizer:
        case "adam":
            return torch.optim.Adam(groups, lr=rate, fused=True)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr=rate, eps=1e-7)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=rate, alpha=0.9)
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, fused=True)
        case _:  # adadelta takes the size of its steps from their history, in MXNet 1.3 from nothing else
            return torch.optim.Adadelta(groups, lr=1.0, rho=0.9, eps=1e-5)


@contextmanager
def unmoved(optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Within, a step changes what the optimizers remember of gradients, and no weight."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    rates = [group["lr"] for group in groups]
    for group in groups:
        group["lr"] = 0.0
    try:
        yield
    finally:
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate


class RowOptimizer(Optimizer):
    """Moves the rows of tables (V, E) that look-ups touched; the other rows and their state stay as they are if the
    table is row_sparse, and if it is not, move as a gradient of zeros moves them.

    Where an output layer is all that is left to move beside them it moves that too, so that one kernel can do a step.

    Adam's moments of a row_sparse row stand still while no batch touches it, and its step counts all steps.
    """

    #: Tables of state that each kind keeps beside a table.
    STATE: Final = {"sgd": (), "adagrad": ("sum",), "adam": ("mean", "square")}

    def __init__(
        self, tables: Sequence[TokenEmbedding], hyperparameters: Hyperparameters, layer: nn.Linear | None = None
    ) -> None:
        self.kind = hyperparameters.optimizer
        self.tables = tables
        self.layer = [] if layer is None else [layer.weight, layer.bias]
        settings = {"lr": hyperparameters.learning_rate, "weight_decay": hyperparameters.weight_decay}
        super().__init__([*(table.weight for table in tables), *self.layer], settings)

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: ARG002 -- torch's signature
        for table in self.tables:
            table.touched.clear()
        for parameter in self.layer:
            parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002 -- torch's signature
        for table in self.tables:
            if table.touched:
                self._step(table, joined(table.touched))
                table.touched.clear()
        for parameter in self.layer:
            if parameter.grad is not None:
                self._step_whole(parameter, parameter.grad)

    @property
    def settings(self) -> tuple[float, float]:
        """The size of a step, and the decay of what it moves."""
        group = self.param_groups[0]
        return group["lr"], group["weight_decay"]

    def at_rest(self, table: TokenEmbedding) -> bool:
        """Whether the rows of a table that no look-up touched stay as they are."""
        return table.row_sparse or (self.kind != "adam" and not self.settings[1])

    def begin(self, weight: Tensor, steps: int = 1) -> tuple[list[Tensor], int]:
        """Count steps of a weight; its state, and how many steps there were before."""
        state = self.state[weight]
        if not state:
            state["step"] = 0
            for name in self.STATE[self.kind]:
                state[name] = allocator.zeros(len(weight), weight[0].numel()).view_as(weight).to(weight.device)
        state["step"] += steps
        return [state[name] for name in self.STATE[self.kind]], state["step"] - steps

    def _step(self, table: TokenEmbedding, touched: Touched) -> None:
        kept, before = self.begin(table.weight)
        if arguments.usable(table.weight):
            groups = embedding_ops.group(touched.values, touched.origin, table.lut)
            given = self.kind, table.weight, kept, groups, touched.scale, touched.gradient
            rate, decay = self.settings
            lut = None if self.at_rest(table) else table.lut
            embedding_ops.step_rows(*given, rate=rate, decay=decay, corrections=_corrections(before), lut=lut)
        else:
            self._step_plainly(table.weight, kept, touched, _corrections(before))

    def _step_whole(self, weight: Tensor, slope: Tensor) -> None:
        kept, before = self.begin(weight)
        rate, decay = self.settings
        if weight.dim() > 1:  # no bias
            slope = slope + decay * weight
        weight -= rate * self._direction(slope, kept, _corrections(before))

    def _step_plainly(
        self, weight: Tensor, kept: list[Tensor], touched: Touched, corrections: tuple[float, float]
    ) -> None:
        """What the kernel does, in torch: for GPUs, and where there is no kernel."""
        rate, decay = self.settings
        rows, place = torch.unique(touched.values, return_inverse=True)
        values = weight[rows]
        slope = decay * values
        slope.index_add_(0, place, (touched.gradient * touched.scale[:, None])[touched.origin])
        columns = [column[rows] for column in kept]
        weight[rows] = values - rate * self._direction(slope, columns, corrections)
        for column, new in zip(kept, columns, strict=True):
            column[rows] = new

    def _direction(self, slope: Tensor, columns: list[Tensor], corrections: tuple[float, float]) -> Tensor:
        """What the learning rate is multiplied with, (rows, E), from the gradient; `columns` are updated in place."""
        match columns:
            case []:
                return slope
            case [total]:
                total.addcmul_(slope, slope)
                return slope / (total.sqrt() + 1e-7)
            case _:
                mean, square = columns
                mean.lerp_(slope, 0.1)
                square.mul_(0.999).addcmul_(slope, slope, value=0.001)
                return mean / corrections[0] / ((square / corrections[1]).sqrt() + 1e-8)


def _corrections(before: int) -> tuple[float, float]:
    """Adam's 1 - beta^step, of the step after so many."""
    return 1 - 0.9 ** (before + 1), 1 - 0.999 ** (before + 1)


def joined(touched: Sequence[Touched], gradient: Tensor | None = None) -> Touched:
    """Several look-ups of one table as one: those of both sides, where the table is theirs.

    `gradient` is theirs one behind the other, where they already stand so.
    """
    if len(touched) == 1:
        return touched[0]._replace(gradient=touched[0].gradient.contiguous())
    starts = itertools.accumulate((len(t.gradient) for t in touched[:-1]), initial=0)
    return Touched(
        values=torch.cat([t.values for t in touched]),
        origin=torch.cat([t.origin + start for t, start in zip(touched, starts, strict=True)]),
        scale=torch.cat([t.scale for t in touched]),
        gradient=torch.cat([t.gradient for t in touched]) if gradient is None else gradient,
    )
