"""Dropout whose random numbers are cheap on a CPU, where torch's cost more than the layer before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from object2vec.ops.arguments import call, usable


def dropout(x: Tensor, p: float) -> Tensor:
    """Return `x` with a random share `p` of it set to 0 and the rest scaled up to keep the mean."""
    if not usable(x):
        return nn.functional.dropout(x, p)
    dropped: Tensor = _Dropout.apply(x, p, int(torch.randint(2**62, ())))  # type: ignore[no-untyped-call]
    return dropped


class _Dropout(torch.autograd.Function):
    """The same seed drops the same units of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, seed: int) -> Tensor:
        ctx.p, ctx.seed = p, seed
        return dropout_of_seed(x.contiguous(), p, seed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return dropout_of_seed(grads[0].contiguous(), ctx.p, ctx.seed), None, None


def dropout_of_seed(x: Tensor, p: float, seed: int) -> Tensor:
    """Return the dropout of `x` (float32) that `seed` decides, by the kernel."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is {p}, wanted a number from 0 to 1")
    out = torch.empty_like(x)
    threshold = min(int(p * 2**32), 2**32 - 1)
    call("dropout", x, out, x.numel(), seed, threshold, 1 / (1 - p) if p < 1 else 0.0)
    return out
