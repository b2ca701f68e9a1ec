"""The optimizers, with the settings that the built-in's framework (Apache MXNet 1.3) has where a user sets none.

Tables with `row_sparse` storage get their own, lazy, kind: a step moves only the rows that the batch touched, and
costs as much however large the table is.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from object2vec.hyperparameters import Hyperparameters
from object2vec.model.tokens import TokenEmbedding


def make_optimizers(network: nn.Module, hyperparameters: Hyperparameters) -> list[Optimizer]:
    """Optimizers that together move every parameter of the network that is not frozen.

    Weight decay is L2, on weights; biases have none.
    """
    sparse = {m.weight for m in network.modules() if isinstance(m, TokenEmbedding) and m.row_sparse}
    moving = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    weights = [p for name, p in moving if "bias" not in name and p not in sparse]
    biases = [p for name, p in moving if "bias" in name]
    tables = [p for _, p in moving if p in sparse]
    groups: list[dict[str, Any]] = [{"params": weights}] if weights else []
    groups.append({"params": biases, "weight_decay": 0.0})
    return [_dense(groups, hyperparameters), *([_sparse(tables, hyperparameters)] if tables else [])]


def _dense(groups: list[dict[str, Any]], hyperparameters: Hyperparameters) -> Optimizer:
    rate, decay = hyperparameters.learning_rate, hyperparameters.weight_decay
    match hyperparameters.optimizer:
        case "adam":
            return torch.optim.Adam(groups, lr=rate, weight_decay=decay, fused=True)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr=rate, weight_decay=decay, eps=1e-7)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=rate, weight_decay=decay, alpha=0.9)
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, weight_decay=decay, fused=True)
        case _:  # adadelta takes the size of its steps from their history, in MXNet 1.3 from nothing else
            return torch.optim.Adadelta(groups, lr=1.0, weight_decay=decay, rho=0.9, eps=1e-5)


def _sparse(tables: list[nn.Parameter], hyperparameters: Hyperparameters) -> Optimizer:
    kinds = {"adam": RowAdam, "adagrad": RowAdagrad, "sgd": RowSGD}
    return kinds[hyperparameters.optimizer](tables, hyperparameters.learning_rate, hyperparameters.weight_decay)


class RowOptimizer(Optimizer):
    """Moves the rows of tables (V, E) that a sparse gradient names; the other rows and their state stay as they are."""

    #: Names of the state that is kept for each number of a table.
    columns: tuple[str, ...] = ()

    def __init__(self, tables: list[nn.Parameter], rate: float, weight_decay: float) -> None:
        super().__init__(tables, {"lr": rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002 -- torch's signature
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._step(table, group)

    def _step(self, table: Tensor, group: dict[str, Any]) -> None:
        gradient = table.grad.coalesce()  # type: ignore[union-attr]
        rows = gradient.indices()[0]
        state = self.state[table]
        if "step" not in state:
            state["step"] = 0
            state.update({name: torch.zeros_like(table) for name in self.columns})
        state["step"] += 1
        kept = [cast(Tensor, state[name]) for name in self.columns]
        values = table[rows]
        slope = gradient.values() + group["weight_decay"] * values
        columns = [column[rows] for column in kept]
        table[rows] = values - group["lr"] * self.direction(slope, columns, state["step"])
        for column, new in zip(kept, columns, strict=True):
            column[rows] = new

    def direction(self, slope: Tensor, columns: list[Tensor], step: int) -> Tensor:
        """What the learning rate is multiplied with, (rows, E), from the gradient; `columns` are updated in place."""
        raise NotImplementedError


class RowSGD(RowOptimizer):
    def direction(self, slope: Tensor, columns: list[Tensor], step: int) -> Tensor:  # noqa: ARG002
        return slope


class RowAdagrad(RowOptimizer):
    columns = ("sum",)

    def direction(self, slope: Tensor, columns: list[Tensor], step: int) -> Tensor:  # noqa: ARG002
        (total,) = columns
        total.addcmul_(slope, slope)
        return slope / (total.sqrt() + 1e-7)


class RowAdam(RowOptimizer):
    """Adam with the moments of a row standing still while no batch touches it; `step` counts all steps."""

    columns = ("mean", "square")

    def direction(self, slope: Tensor, columns: list[Tensor], step: int) -> Tensor:
        mean, square = columns
        mean.lerp_(slope, 0.1)
        square.mul_(0.999).addcmul_(slope, slope, value=0.001)
        unbiased = (square / (1 - 0.999**step)).sqrt_().add_(1e-8)
        return mean / unbiased / (1 - 0.9**step)
