"""A convolution with ReLU over sequences that stand in one line, as products of matrices.

Shapes: L places of the line, I numbers in, O numbers out, w the filter's width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def convolve(line: Tensor, level: nn.Module, inside: Tensor) -> Tensor:
    """The convolution (L, O) of `line` (L, I) with the `weight` (O, I, w) and `bias` (O,) of a level, after ReLU.

    A place sees those from (w - 1) // 2 before it to w // 2 behind it. `inside` (L, 1) is 1 at each place with a token;
    the others, where it is 0, lie between sequences and at both ends: they are 0 in the line and in what comes of it.
    """
    convolved: Tensor = _Convolve.apply(line, level.weight, level.bias, inside)  # type: ignore[no-untyped-call]
    return convolved


def laid_out(weight: Tensor) -> Tensor:
    """The same `weight` (O, I, w) in the order in which a convolution takes it, so that none has to lay it out."""
    return taps_of(weight).permute(1, 2, 0)


def taps_of(weight: Tensor) -> Tensor:
    """The weights of each place that a filter sees, (w, O, I)."""
    return weight.permute(2, 0, 1).contiguous()


def _convolve(line: Tensor, taps: Tensor, bias: Tensor, inside: Tensor) -> Tensor:
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
        taps = taps_of(weight)
        out = _convolve(line, taps, bias, inside)
        ctx.save_for_backward(line, taps, out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        line, taps, out = ctx.saved_tensors
        width, outputs, inputs = taps.shape
        count = len(line) - width + 1
        slope = torch.ops.aten.threshold_backward(gradients[0], out, 0)[(width - 1) // 2 :][:count]
        d_line = None
        if inputs > outputs:  # then the slopes are less to lay out for all taps at once than what comes of them
            slopes = line.new_zeros(len(line), width, outputs)
            for tap in range(width):
                slopes[tap : tap + count, tap] = slope
            slopes = slopes.view(len(line), width * outputs)
            d_taps = (slopes.t() @ line).view(width, outputs, inputs)
            if ctx.needs_input_grad[0]:
                d_line = slopes @ taps.view(width * outputs, inputs)
        else:
            d_taps = torch.stack([slope.t() @ line[tap : tap + count] for tap in range(width)])
            if ctx.needs_input_grad[0]:
                d_line = torch.empty_like(line)
                d_line[count:] = 0
                torch.mm(slope, taps[0], out=d_line[:count])
                for tap in range(1, width):
                    d_line[tap : tap + count].addmm_(slope, taps[tap])
        return d_line, d_taps.permute(1, 2, 0), slope.sum(0), None
