"""The optimizers, with the settings that the built-in's framework (Apache MXNet 1.3) has where a user sets none.

Tables of token embeddings have a gradient by rows, `weight.row_grad`, and their own optimizer, which steps these rows.
With `row_sparse` storage it steps no other row, and the cost does not depend on the size of the table. Optimizers of
torch's get a dense gradient just before their step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import unwrap
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from object2vec import allocator
from object2vec.hyperparameters import Hyperparameters
from object2vec.model.network import Network
from object2vec.model.tokens import TokenEmbedding
from object2vec.ops import embedding

#: The optimizers for all that is not stepped by rows.
TORCH_OPTIMIZERS: Final[dict[str, Callable[..., Optimizer]]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adagrad": partial(torch.optim.Adagrad, eps=1e-7, fused=True),
    "rmsprop": partial(torch.optim.RMSprop, alpha=0.9),
    "sgd": partial(torch.optim.SGD, fused=True),
    "adadelta": partial(torch.optim.Adadelta, rho=0.9, eps=1e-5),
}


def make_optimizers(network: Network, hyperparameters: Hyperparameters) -> list[Optimizer]:
    """Return optimizers that together step every parameter of the network that is not frozen.

    Weight decay is L2, on weights; biases have none. Tables with a learning rate of their own have another optimizer or
    group, so no kernel does the whole step.
    """
    factors = _rate_factors(network, hyperparameters)
    tables = [table for table in network.tables if _by_rows(table, hyperparameters.optimizer)]
    lazy = {table.weight for table in tables}
    # By decay and factor of the rate: few groups, since each costs a step some time.
    by_settings: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and parameter not in lazy:
            decay = 0.0 if "bias" in name else hyperparameters.weight_decay
            by_settings.setdefault((decay, factors.get(parameter, 1.0)), []).append(parameter)
    head = network.head
    others = {parameter for group in by_settings.values() for parameter in group}
    if tables and head and not factors and others <= set(head.output.parameters()):
        return [RowOptimizer(tables, hyperparameters, head.output)]
    kind, rate = hyperparameters.optimizer, hyperparameters.learning_rate
    if kind == "adadelta":  # takes the size of its steps from their history, in MXNet 1.3 from nothing else
        rate = 1.0
    groups = [
        {"params": parameters, "weight_decay": decay, "lr": rate * factor, "initial_lr": rate * factor}
        for (decay, factor), parameters in by_settings.items()
    ]
    optimizers: list[Optimizer] = [TORCH_OPTIMIZERS[kind](groups, lr=rate)]
    optimizers[0].register_step_pre_hook(_make_dense_gradients)
    for factor in dict.fromkeys(factors.get(table.weight, 1.0) for table in tables):
        own = [table for table in tables if factors.get(table.weight, 1.0) == factor]
        optimizers.append(RowOptimizer(own, hyperparameters, factor=factor))
    return optimizers


def _rate_factors(network: Network, hyperparameters: Hyperparameters) -> dict[nn.Parameter, float]:
    """Return the factor of the learning rate of each pretrained table that has one."""
    factor = hyperparameters.pretrained_learning_rate_factor
    if factor == 1:
        return {}
    encoders = zip(network.tables, hyperparameters.encoders, strict=False)  # tied sides have one table
    return {table.weight: factor for table, e in encoders if e.pretrained_embedding_file and not e.frozen}


def _by_rows(table: TokenEmbedding, kind: str) -> bool:
    """Return whether a table is stepped by rows: its storage asks for it, or a kernel makes it faster."""
    return table.weight.requires_grad and (table.row_sparse or embedding.has_row_kernels(table.weight, kind))


def _make_dense_gradients(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
    """Give each table of an optimizer of torch's the dense gradient that it needs."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if (by_rows := embedding.row_grad(weight)) is not None:
                weight.grad = by_rows.to_dense(weight)


@contextmanager
def zero_learning_rate(optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Set the learning rate to 0 within: a step then changes the optimizers' state, and no weight."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    rates = [group["initial_lr"] for group in groups]
    for group in groups:
        group["initial_lr"] = 0.0
    try:
        yield
    finally:
        for group, rate in zip(groups, rates, strict=True):
            group["initial_lr"] = rate


def scale_learning_rates(optimizers: Sequence[Optimizer], factor: float) -> None:
    """Set the learning rates to `factor` times those that the optimizers began with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = factor * group["initial_lr"]


class RowOptimizer(Optimizer):
    """Steps the rows of tables (V, E) that have a gradient.

    Other rows and their state stay as they are if the table is row_sparse. If not, they are stepped with a gradient of
    zeros.

    If an output layer is the only other trainable part, this optimizer steps it as well, so that one kernel can do the
    whole step.

    Adam's moments of a row_sparse row do not decay while no batch has the row, and its step counts all steps.
    """

    # torch wraps these to exclude them from compiled code, and then imports its compiler, which takes a second.
    add_param_group = unwrap(Optimizer.add_param_group)
    load_state_dict = unwrap(Optimizer.load_state_dict)
    state_dict = unwrap(Optimizer.state_dict)

    #: Tables of state that each kind keeps for a table.
    STATE: Final = {"sgd": (), "adagrad": ("sum",), "adam": ("mean", "square")}

    def __init__(
        self,
        tables: Sequence[TokenEmbedding],
        hyperparameters: Hyperparameters,
        layer: nn.Linear | None = None,
        factor: float = 1.0,  # of the learning rate
    ) -> None:
        self.kind = hyperparameters.optimizer
        self.tables = tables
        self.layer = [] if layer is None else [layer.weight, layer.bias]
        rate = factor * hyperparameters.learning_rate
        settings = {"lr": rate, "initial_lr": rate, "weight_decay": hyperparameters.weight_decay}
        super().__init__([*(table.weight for table in tables), *self.layer], settings)

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: ARG002 -- torch's signature
        """Clear the gradients of tables and layer."""
        for table in self.tables:
            embedding.set_row_grad(table.weight, None)
        for parameter in self.layer:
            parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002 -- torch's signature
        """Step each table and layer that has a gradient; those of tables are cleared."""
        learning_rate, weight_decay = self.settings
        for table in self.tables:
            if grad := embedding.row_grad(table.weight):
                state, before = self.begin(table.weight)
                step = embedding.OptimizerStep(self.kind, learning_rate, weight_decay, before + 1)
                embedding.step_rows(step, table.weight, state, grad, all_rows=not self.keeps_other_rows(table))
                embedding.set_row_grad(table.weight, None)
        for parameter in self.layer:
            if parameter.grad is not None:
                state, before = self.begin(parameter)
                decay = weight_decay if parameter.dim() > 1 else 0.0  # biases have none
                grad_and_decay = parameter.grad + decay * parameter
                parameter -= learning_rate * embedding.step_direction(grad_and_decay, state, before + 1)

    @property
    def settings(self) -> tuple[float, float]:
        """The learning rate and the weight decay."""
        group = self.param_groups[0]
        return group["lr"], group["weight_decay"]

    def keeps_other_rows(self, table: TokenEmbedding) -> bool:
        """Return whether rows without a gradient stay as they are."""
        return table.row_sparse or (self.kind != "adam" and not self.settings[1])

    def begin(self, weight: Tensor, steps: int = 1) -> tuple[list[Tensor], int]:
        """Count steps of a weight; return its state, and how many steps there were before."""
        state = self.state[weight]
        if not state:
            state["step"] = 0
            for name in self.STATE[self.kind]:
                state[name] = allocator.zeros(len(weight), weight[0].numel()).view_as(weight).to(weight.device)
        state["step"] += steps
        return [state[name] for name in self.STATE[self.kind]], state["step"] - steps
