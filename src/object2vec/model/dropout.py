"""Dropout whose random numbers cost next to nothing on a CPU, where torch's cost more than the layer they are for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from object2vec.ops import arguments
from object2vec.ops import dropout as dropout_ops


class Dropout(nn.Module):
    """In training a share `p` of the units is set to 0, and the rest scaled up to keep the mean."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if arguments.usable(x):
            dropped: Tensor = _Dropout.apply(x, self.p, int(torch.randint(2**62, ())))  # type: ignore[no-untyped-call]
            return dropped
        return nn.functional.dropout(x, self.p)


class _Dropout(torch.autograd.Function):
    """The same seed drops the same units of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, seed: int) -> Tensor:
        ctx.p, ctx.seed = p, seed
        return dropout_ops.dropout(x.contiguous(), p, seed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return dropout_ops.dropout(gradients[0].contiguous(), ctx.p, ctx.seed), None, None
