"""Stacked convolutions with ReLU over sequences of unequal length, and their maxima over time.

Shapes: N sequences, n tokens, L places of a line, I inputs, O outputs, w the filter's width, D the sum of all O.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import byref
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from object2vec.ops.arguments import (
    addresses,
    call,
    check_offsets,
    check_range,
    check_shapes,
    readable,
    table_struct,
)
from object2vec.ops.segments import segment_max

#: A convolution's weight (O, I, w) and bias (O,).
Level = tuple[Tensor, Tensor]


def encode(
    table: Tensor,
    values: Tensor,
    offsets: Tensor,
    levels: Sequence[Level],
    gather_line: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """Return the maxima over time of each of stacked convolutions with ReLU, side by side, (N, D).

    Sequence i has the ids values[offsets[i]:offsets[i + 1]] of `table` (V, I); id 0 is a token. A token sees those
    from (w - 1) // 2 before it to w // 2 after it, and zeros outside of its sequence. `gather_line(values, place,
    inside)` returns the embeddings with a gradient: each at its place of a line (L, I), zeros elsewhere.
    """
    if torch.is_inference_mode_enabled() and readable(table):
        return _encode_by_kernel(table, values, offsets, [(to_taps(weight), bias) for weight, bias in levels])
    # All sequences are in one line, with so many zeros between them that no filter sees two sequences.
    gap = levels[0][0].shape[2] // 2
    count = len(offsets) - 1
    sequence = torch.arange(count, device=offsets.device).repeat_interleave(offsets.diff(), output_size=len(values))
    place = torch.arange(len(values), device=offsets.device) + (sequence + 1) * gap
    inside = levels[0][0].new_zeros(len(values) + gap * (count + 1), 1).index_fill_(0, place, 1)
    hidden, maxima = gather_line(values, place, inside), []
    for weight, bias in levels:
        hidden = _Convolve.apply(hidden, weight, bias, inside)  # type: ignore[no-untyped-call]
        maxima.append(segment_max(hidden[: len(hidden) - gap], offsets.diff() + gap))  # the gaps are 0, the least
    return torch.cat(maxima, dim=1)


def to_taps(weight: Tensor) -> Tensor:
    """Return a weight (O, I, w) as one matrix for each tap, (w, O, I)."""
    return weight.permute(2, 0, 1).contiguous()


def in_tap_order(weight: Tensor) -> Tensor:
    """Return the same weight (O, I, w) with a memory layout of which `to_taps` is a view."""
    return to_taps(weight).permute(1, 2, 0)


def _encode_by_kernel(
    table: Tensor, values: Tensor, offsets: Tensor, levels: Sequence[tuple[Tensor, Tensor]]
) -> Tensor:
    """Return what `encode` does, without a gradient. A level is its taps (w, O, I) and its bias (O,)."""
    name = "hcnn_forward"
    rows, taps, count = table_struct(table), len(levels[0][0]), check_offsets(name, "offsets", offsets, len(values))
    check_range(name, "values", values, len(table))
    widths = [table.shape[1], *(len(bias) for _, bias in levels)]
    for (weights, bias), (inputs, outputs) in zip(levels, pairwise(widths), strict=True):
        check_shapes(name, weights=(weights, (taps, outputs, inputs)), biases=(bias, (outputs,)))
    lines = torch.empty(2, len(values) + count * (taps - 1), max(widths))
    encodings = torch.empty(count, sum(widths[1:]))
    pointers = [addresses(name, part) for part in zip(*levels, strict=True)]
    sizes = count, taps, len(levels)
    given = *pointers, np.array(widths, np.int64), max(widths), *lines
    call(name, byref(rows), values, offsets, *sizes, *given, encodings.shape[1], encodings)
    return encodings


def _convolve(line: Tensor, taps: Tensor, bias: Tensor, inside: Tensor) -> Tensor:
    """Return the convolution of a line with taps (w, O, I), followed by ReLU."""
    width = len(taps)
    count = len(line) - width + 1
    before = (width - 1) // 2
    out = line.new_empty(len(line), taps.shape[1])
    out[:before] = out[before + count :] = 0
    inner = out[before:][:count]
    torch.addmm(bias, line[:count], taps[0].t(), out=inner)
    for tap in range(1, width):
        inner.addmm_(line[tap : tap + count], taps[tap].t())
    return out.relu_().mul_(inside)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, line: Tensor, weight: Tensor, bias: Tensor, inside: Tensor) -> Tensor:
        taps = to_taps(weight)
        out = _convolve(line, taps, bias, inside)
        ctx.save_for_backward(line, taps, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        line, taps, out = ctx.saved_tensors
        width, outputs, inputs = taps.shape
        count = len(line) - width + 1
        grad = torch.ops.aten.threshold_backward(grads[0], out, 0)[(width - 1) // 2 :][:count]
        d_line = None
        if inputs > outputs:  # then copying the gradients for all taps at once costs less than their products
            grad_taps = line.new_zeros(len(line), width, outputs)
            for tap in range(width):
                grad_taps[tap : tap + count, tap] = grad
            grad_taps = grad_taps.view(len(line), width * outputs)
            d_taps = (grad_taps.t() @ line).view(width, outputs, inputs)
            if ctx.needs_input_grad[0]:
                d_line = grad_taps @ taps.view(width * outputs, inputs)
        else:
            d_taps = torch.stack([grad.t() @ line[tap : tap + count] for tap in range(width)])
            if ctx.needs_input_grad[0]:
                d_line = torch.empty_like(line)
                d_line[count:] = 0
                torch.mm(grad, taps[0], out=d_line[:count])
                for tap in range(1, width):
                    d_line[tap : tap + count].addmm_(grad, taps[tap])
        return d_line, d_taps.permute(1, 2, 0), grad.sum(0), None
