"""Maxima over the rows of segments, without padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from object2vec.ops.arguments import call, check_offsets, check_range, usable


def segment_max(x: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
    """Return the maximum of each column of `x` (m, D) over the rows of N segments, (N, D).

    Segment s has rows[starts[s]:starts[s + 1]], with `rows` (n,) and `starts` (N + 1,) int64. No row is in two
    segments. A segment without rows has 0. The maximum is NaN if any of the rows is.
    """
    if not usable(x):
        return _segment_max_torch(x, rows, starts)
    maxima: Tensor = _SegmentMax.apply(x, rows, starts)  # type: ignore[no-untyped-call]
    return maxima


def _segment_max_torch(x: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
    # Not torch.segment_reduce: if several rows have the maximum, each gets all of a negative gradient.
    count, lengths = len(starts) - 1, starts.diff()
    segment = torch.arange(count, device=x.device).repeat_interleave(lengths, output_size=len(rows))
    lowest = x.new_full((count, x.shape[1]), -torch.inf)
    maxima = lowest.scatter_reduce(0, segment[:, None].expand(-1, x.shape[1]), x.index_select(0, rows), "amax")
    return maxima.masked_fill(lengths[:, None] == 0, 0.0)


class _SegmentMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
        count, dim = check_offsets("segment_max", "starts", starts, len(rows)), x.shape[1]
        check_range("segment_max", "rows", rows, len(x))
        maxima, ctx.argmax = x.new_empty(count, dim), torch.empty(count, dim, dtype=torch.int32)
        call("segment_max", x.contiguous(), dim, rows, starts, count, maxima, ctx.argmax)
        ctx.rows = len(x)
        return maxima

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        d_x = grad.new_zeros(ctx.rows + 1, grad.shape[1])  # the last row takes the gradient of segments without rows
        argmax = ctx.argmax.long().remainder_(len(d_x))
        return d_x.scatter_(0, argmax, grad)[:-1], None, None
