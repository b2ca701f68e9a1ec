"""Stacked convolutions with ReLU over sequences of unequal length, and their maxima over time.

Shapes: N sequences, n tokens, L places of a line, I inputs, O outputs, w the filter's width, D the sum of all O.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from object2vec.ops.arguments import addresses, call, check_offsets, check_range, check_shapes, readable, table_struct
from object2vec.ops.embedding import gather_line
from object2vec.ops.segments import segment_max

#: A convolution's weight (O, I, w) and bias (O,).
Level = tuple[Tensor, Tensor]


def encode(table: Tensor, values: Tensor, offsets: Tensor, levels: Sequence[Level]) -> Tensor:
    """Return the maxima over time of each of stacked convolutions with ReLU, side by side, (N, D).

    Sequence i has the ids values[offsets[i]:offsets[i + 1]] of `table` (V, I); id 0 is a token. A token sees those
    from (w - 1) // 2 before it to w // 2 after it, and zeros outside of its sequence.
    """
    if torch.is_inference_mode_enabled() and readable(table):
        return _encode_by_kernel(table, values, offsets, levels)
    # All sequences are in one line. The zeros between them keep each filter within one sequence.
    gap = levels[0][0].shape[2] // 2
    count = len(offsets) - 1
    sequence = torch.arange(count, device=offsets.device).repeat_interleave(offsets.diff(), output_size=len(values))
    place = torch.arange(len(values), device=offsets.device) + (sequence + 1) * gap
    inside = levels[0][0].new_zeros(len(values) + gap * (count + 1), 1).index_fill_(0, place, 1)
    hidden, maxima = gather_line(table, values, place, inside), []
    for weight, bias in levels:
        hidden = _Convolve.apply(hidden, weight, bias, inside)  # type: ignore[no-untyped-call]
        maxima.append(segment_max(hidden, place, offsets))
    return torch.cat(maxima, dim=1)


def to_taps(weight: Tensor) -> Tensor:
    """Return a weight (O, I, w) as one matrix for each tap, (w, O, I)."""
    return weight.permute(2, 0, 1).contiguous()


def in_tap_order(weight: Tensor) -> Tensor:
    """Return the same weight (O, I, w) with a memory layout of which `to_taps` is a view."""
    return to_taps(weight).permute(1, 2, 0)


def _encode_by_kernel(table: Tensor, values: Tensor, offsets: Tensor, levels: Sequence[Level]) -> Tensor:
    """Return what `encode` does, without a gradient."""
    name = "hcnn_forward"
    rows, count = table_struct(table), check_offsets(name, "offsets", offsets, len(values))
    check_range(name, "values", values, len(table))
    weights, biases = [to_taps(weight) for weight, _ in levels], [bias for _, bias in levels]
    taps, widths = len(weights[0]), [table.shape[1], *map(len, biases)]
    for weight, (inputs, outputs) in zip(weights, pairwise(widths), strict=True):
        check_shapes(name, weights=(weight, (taps, outputs, inputs)))
    lines = [torch.empty(len(values) + count * (taps - 1), max(widths)) for _ in range(2)]  # each aligned
    encodings = torch.empty(count, sum(widths[1:]))
    given = addresses(name, weights), addresses(name, biases), np.array(widths, np.int64), max(widths), *lines
    sizes = count, taps, len(levels)
    call(name, byref(rows), values, offsets, *sizes, *given, encodings.shape[1], encodings)
    return encodings


class _Convolve(torch.autograd.Function):
    """The convolution of a line, followed by ReLU."""

    @staticmethod
    def forward(ctx: Any, line: Tensor, weight: Tensor, bias: Tensor, inside: Tensor) -> Tensor:
        taps = to_taps(weight)
        out = line.new_zeros(len(line), len(bias))
        inner = _without_edges(out, len(taps))
        torch.addmm(bias, line[: len(inner)], taps[0].t(), out=inner)
        for tap in range(1, len(taps)):
            inner.addmm_(line[tap:][: len(inner)], taps[tap].t())
        out.relu_().mul_(inside)
        ctx.save_for_backward(line, taps, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        line, taps, out = ctx.saved_tensors
        grad = _without_edges(torch.ops.aten.threshold_backward(grads[0], out, 0), len(taps))
        d_line = None
        if ctx.needs_input_grad[0]:
            d_line = torch.zeros_like(line)
            for tap, factor in enumerate(taps):
                d_line[tap:][: len(grad)].addmm_(grad, factor)
        d_taps = torch.stack([grad.t() @ line[tap:][: len(grad)] for tap in range(len(taps))])
        return d_line, d_taps.permute(1, 2, 0), grad.sum(0), None


def _without_edges(line: Tensor, width: int) -> Tensor:
    """Return the places of a line on which a filter of this width fits."""
    return line[(width - 1) // 2 : len(line) - width // 2]
