"""Maxima over the rows of segments, without padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from object2vec.ops.arguments import call, check_offsets, check_range, check_shapes, usable


def segment_max(x: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
    """Return the maximum of each column of `x` (m, D) over the rows of N segments, (N, D).

    Segment s has rows[starts[s]:starts[s + 1]], with `rows` (n,) and `starts` (N + 1,) int64. No row is in two
    segments. A segment without rows has 0. The maximum is NaN if any of the rows is.
    """
    if not usable(x):
        return _segment_max_torch(x, rows, starts)
    if torch.is_inference_mode_enabled():  # nothing to keep for a gradient
        return _forward(x.contiguous(), rows, starts)[0]
    maxima: Tensor = _SegmentMax.apply(x, rows, starts)  # type: ignore[no-untyped-call]
    return maxima


def _segment_max_torch(x: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
    count = len(starts) - 1
    segment = torch.arange(count, device=x.device).repeat_interleave(starts.diff(), output_size=len(rows))
    lowest = x.new_full((count, x.shape[1]), -torch.inf)
    maxima = lowest.scatter_reduce(0, segment[:, None].expand(-1, x.shape[1]), x[rows], "amax")
    return maxima.masked_fill(starts.diff()[:, None] == 0, 0.0)


class _SegmentMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
        maxima, ctx.argmax = _forward(x.contiguous(), rows, starts)
        ctx.rows = len(x)
        return maxima

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _backward(grads[0].contiguous(), ctx.argmax, ctx.rows), None, None


def _forward(x: Tensor, rows: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maxima, and the row of each, int32; -1 for a segment without rows."""
    count, dim = check_offsets("segment_max", "starts", starts, len(rows)), x.shape[1]
    check_range("segment_max", "rows", rows, len(x))
    maxima, argmax = x.new_empty(count, dim), torch.empty(count, dim, dtype=torch.int32)
    call("segment_max", x, dim, rows, starts, count, maxima, argmax)
    return maxima, argmax


def _backward(grad: Tensor, argmax: Tensor, rows: int) -> Tensor:
    """Return the gradient (rows, D) of x from that of the maxima (N, D)."""
    check_shapes("segment_max_backward", argmax=(argmax, tuple(grad.shape)))
    check_range("segment_max_backward", "argmax", argmax, rows, low=-1)
    d_x = grad.new_zeros(rows, grad.shape[1])
    call("segment_max_backward", grad, grad.shape[1], argmax, len(grad), d_x)
    return d_x
