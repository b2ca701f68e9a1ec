"""Maxima over the rows of segments."""

from __future__ import annotations

import torch
from torch import Tensor

from object2vec.ops.arguments import call as _call
from object2vec.ops.arguments import (
    check_offsets,
    check_range,
    check_shapes,
)


def segment_maximum(x: Tensor, rows: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum of each column of `x` (m, D) over the rows of N segments, (N, D), and the row that has it, int32.

    Segment s has rows[starts[s]:starts[s + 1]], int64; without rows its maximum is 0 and its row -1.
    """
    count, dim = check_offsets("segment_max", "starts", starts, len(rows)), x.shape[1]
    check_range("segment_max", "rows", rows, len(x))
    highest, where = x.new_empty(count, dim), torch.empty(count, dim, dtype=torch.int32)
    _call("segment_max", x, dim, rows, starts, count, highest, where)
    return highest, where


def segment_maximum_backward(gradient: Tensor, where: Tensor, rows: int) -> Tensor:
    """The gradient (m, D) of `x`, which has `rows` rows, from that of the maxima (N, D)."""
    check_shapes("segment_max_backward", argmax=(where, tuple(gradient.shape)))
    check_range("segment_max_backward", "argmax", where, rows, low=-1)
    d_x = gradient.new_zeros(rows, gradient.shape[1])
    _call("segment_max_backward", gradient, gradient.shape[1], where, len(gradient), d_x)
    return d_x
