"""The moving average of a network's weights, which is closer to the optimum than the weights of single steps."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch

from object2vec.model.network import Network


class WeightAverage:
    """The average of a network's weights over the steps so far; `network` holds it.

    It is the mean of the first 1 / (1 - decay) steps, and after those the exponential moving average. Averages of
    iterates: Polyak and Juditsky 1992, https://doi.org/10.1137/0330046.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network = deepcopy(network)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """Add the weights after one more step."""
        self.steps += 1
        share = max(1 - self.decay, 1 / self.steps)
        for mean, weight in zip(self.network.parameters(), network.parameters(), strict=True):
            if weight.requires_grad:
                mean.lerp_(weight, share)

    def state_dict(self) -> dict[str, Any]:
        """Return the count of steps; a checkpoint holds the averaged weights as tensors."""
        return {"average_steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; the caller fills the averaged weights."""
        self.steps = state["average_steps"]
