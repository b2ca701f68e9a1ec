"""The dropout layer."""

from __future__ import annotations

from torch import Tensor, nn

from object2vec.ops.dropout import dropout


class Dropout(nn.Module):
    """In training, set a random share `p` of the units to 0, and scale the rest up to keep the mean."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with dropout in training, else `x`."""
        return dropout(x, self.p) if self.training and self.p else x
