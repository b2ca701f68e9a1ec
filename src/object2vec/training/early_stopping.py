"""Early stopping by the rule of the built-in algorithm, with its log lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class EarlyStopping:
    """Compares the loss of each epoch with the losses of the `patience` epochs before it, if there are as many.

    Of a `metric` other than the loss, higher values are better. Its negative is in place of the loss.

    An epoch is good if its loss is below the lowest of those by `tolerance` or more. Training stops when more than
    `patience` epochs in a row are bad.
    """

    patience: int
    tolerance: float
    metric: str = "loss"
    losses: list[float] = field(default_factory=list)
    bad: int = 0

    def judge(self, loss: float) -> list[str]:
        """Add the loss of one more epoch and return the log lines about it."""
        window = self.losses[-self.patience :]
        self.losses.append(loss)
        if len(window) < self.patience:
            return []
        least = min(window)
        difference = abs(loss - least)
        if self.metric == "loss":
            lines = [
                f"patience losses: {window}",
                f"min patience losses: {least}",
                f"current loss: {loss}",
                f"absolute loss difference: {difference}",
            ]
        else:
            lines = [
                f"patience values of {self.metric}: {[-value for value in window]}",
                f"max patience value: {-least}",
                f"current value: {-loss}",
                f"absolute difference: {difference}",
            ]
        if loss < least and difference >= self.tolerance:
            self.bad = 0
            return lines
        self.bad += 1
        lines.append(f"Bad epoch: {self.metric} has not improved (enough). Bad count:{self.bad}")
        if self.stop:
            lines.append("Bad epochs exceeded patience. Stopping training early!")
        return lines

    def state_dict(self) -> dict[str, Any]:
        """Return the losses so far and the count of bad epochs."""
        return {"losses": self.losses, "bad": self.bad}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.losses, self.bad = state["losses"], state["bad"]

    @property
    def stop(self) -> bool:
        return self.bad > self.patience
