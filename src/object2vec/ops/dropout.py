"""Dropout with cheap random numbers on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from object2vec.ops.arguments import call as _call


def dropout(x: Tensor, p: float, seed: int) -> Tensor:
    """`x` (float32) with a share `p` of it set to 0 and the rest scaled to keep the mean; `seed` decides which."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is {p}, wanted a number from 0 to 1")
    out = torch.empty_like(x)
    threshold = min(int(p * 2**32), 2**32 - 1)
    _call("dropout", x, out, x.numel(), seed, threshold, 1 / (1 - p) if p < 1 else 0.0)
    return out
