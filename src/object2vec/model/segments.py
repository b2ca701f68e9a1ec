"""Maxima over the rows of sequences of unequal length, without padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from object2vec.ops import arguments
from object2vec.ops import segments as segments_ops


def segment_maximum(x: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
    """The maximum of each column of `x` (m, D) over the rows of N segments, (N, D); a segment without rows has 0.

    The maximum is NaN if any of the rows is.
    Segment s has the rows rows[starts[s]:starts[s + 1]]; `rows` is (n,), `starts` (N + 1,), and no row is in two.
    """
    if arguments.usable(x):
        if torch.is_inference_mode_enabled():  # nothing to keep for a gradient
            return segments_ops.segment_maximum(x.contiguous(), rows, starts)[0]
        highest: Tensor = _SegmentMaximum.apply(x, rows, starts)  # type: ignore[no-untyped-call]
        return highest
    count = len(starts) - 1
    segment = torch.arange(count, device=x.device).repeat_interleave(starts.diff(), output_size=len(rows))
    lowest = x.new_full((count, x.shape[1]), -torch.inf)
    highest = lowest.scatter_reduce(0, segment[:, None].expand(-1, x.shape[1]), x[rows], "amax")
    return highest.masked_fill(starts.diff()[:, None] == 0, 0.0)


class _SegmentMaximum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
        highest, ctx.where = segments_ops.segment_maximum(x.contiguous(), rows, starts)
        ctx.rows = len(x)
        return highest

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return segments_ops.segment_maximum_backward(gradients[0].contiguous(), ctx.where, ctx.rows), None, None
