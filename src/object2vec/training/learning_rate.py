"""The learning rate over the steps of a job."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

#: The factor of the learning rate for the share of the steps after the warm-up that are done.
SCHEDULES: Final[Mapping[str, Callable[[float], float]]] = {
    "constant": lambda done: 1.0,  # noqa: ARG005 -- as the others
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}


@dataclass(frozen=True, slots=True)
class LearningRateSchedule:
    """A learning rate that rises in the share `warmup` of all steps, and then follows a schedule to the last epoch.

    An epoch is expected to have `batches` batches. The factor of a step depends on its epoch and batch alone, so a
    resumed job has the same factors. It is never 0.
    """

    name: str
    warmup: float
    epochs: int
    batches: int = 1

    @property
    def is_constant(self) -> bool:
        return self.name == "constant" and not self.warmup

    def factor(self, epoch: int, batch: int) -> float:
        """Return the factor of the learning rate in a batch of an epoch."""
        steps = self.epochs * self.batches
        step = min(epoch * self.batches + min(batch, self.batches - 1), steps - 1)
        warmup = self.warmup * steps
        if step < warmup:
            return min(1.0, (step + 1) / warmup)
        return SCHEDULES[self.name]((step - warmup) / (steps - warmup))
