"""Maxima over the rows of segments, without padding."""

from __future__ import annotations

import torch
from torch import Tensor


def segment_max(x: Tensor, lengths: Tensor) -> Tensor:
    """Return the maximum of each column of `x` (n, D) over N segments of `lengths` (N,) rows each, (N, D).

    A segment without rows has 0. The maximum is NaN if any of the rows is.
    """
    maxima = torch.segment_reduce(x, "max", lengths=lengths, unsafe=True)
    return maxima.masked_fill(lengths[:, None] == 0, 0.0)
