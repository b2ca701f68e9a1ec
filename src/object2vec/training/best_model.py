"""The best epoch's weights and metrics, kept while training continues."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from object2vec.data.disk_arrays import empty
from object2vec.model.network import Network


@dataclass(slots=True, kw_only=True)
class BestModel:
    """The best epoch so far, its weights, and its metrics by channel; `epoch` is None before the first one ends.

    A thread that holds `lock` sees one whole epoch until it releases the lock. While `update_if_better` copies the
    weights, `weights` are those of the source network: no step changes them before the copy is complete. A second
    buffer would need twice the space. A lock around the copy would delay a forced exit, and an exception in the
    copy would leave a mix of two epochs.
    """

    metric: str = "loss"
    epoch: int | None = None
    loss: float = math.inf
    cost: float = math.inf  # the loss, or the negative of the metric that decides
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _buffers: dict[str, Tensor] = field(default_factory=dict)
    _source: Network | None = None

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The weights of the best epoch by name, without frozen ones."""
        return self._source.trainable_weights if self._source else self._buffers

    def update_if_better(
        self,
        epoch: int,
        loss: float,
        network: Network,
        metrics: Mapping[str, Mapping[str, float]],
        cost: float | None = None,
    ) -> None:
        """Copy the network's weights, which have these metrics, if `cost` (default: `loss`) is the lowest so far."""
        cost = loss if cost is None else cost
        if cost < self.cost:
            with self.lock:
                self.cost = cost
                self.epoch, self.loss, self.metrics, self._source = epoch, loss, metrics, network
            for name, weight in network.trainable_weights.items():
                self.buffer_for(name, weight).copy_(weight)
            with self.lock:
                self._source = None

    def buffer_for(self, name: str, weight: Tensor) -> Tensor:
        """Return the buffer that holds the best values of a weight."""
        if name not in self._buffers:
            self._buffers[name] = cpu_buffer(weight)
        return self._buffers[name]

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch, its loss and metrics; a checkpoint holds `weights` as tensors."""
        loss, cost = (None, None) if self.epoch is None else (self.loss, self.cost)  # JSON has no infinity
        return {"best_epoch": self.epoch, "best_loss": loss, "best_cost": cost, "best_metrics": self.metrics}

    def load_state_dict(self, state: Mapping[str, Any], network: Network) -> None:
        """Restore what `state_dict` returned, if an epoch had ended; the caller fills `weights`."""
        if state["best_epoch"] is not None:
            self.epoch, self.loss, self.metrics = state["best_epoch"], state["best_loss"], state["best_metrics"]
            self.cost = state.get("best_cost", self.loss)  # a checkpoint of an older version has none
            for name, weight in network.trainable_weights.items():
                self.buffer_for(name, weight)

    def restore(self, network: Network) -> None:
        """Load the best epoch's weights into the network; before an epoch has ended, change nothing."""
        network.load_state_dict(self.weights, strict=False)


def cpu_buffer(parameter: Tensor) -> Tensor:
    """Return an uninitialized CPU tensor of a parameter's shape; a large one is on disk."""
    return torch.from_numpy(empty(parameter.numel(), np.float32)).view_as(parameter)


def is_finite(weight: Tensor) -> bool:
    """Return whether a weight has neither NaN nor infinity."""
    return not weight.numel() or all(math.isfinite(end) for end in torch.aminmax(weight))
