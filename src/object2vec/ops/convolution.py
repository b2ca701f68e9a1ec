"""Stacked convolutions with ReLU and maxima over time."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from object2vec.ops.arguments import (
    addresses,
    check_offsets,
    check_range,
    check_shapes,
    table_struct,
)
from object2vec.ops.arguments import call as _call


def encode_convolved(table: Tensor, values: Tensor, offsets: Tensor, levels: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The maxima over N sequences of each of stacked convolutions with ReLU, side by side: (N, D).

    Table and sequences are as in `pool`, but that id 0 is a token. A level is its weights (w, O, I), of each place that
    a filter sees, and its bias (O,).
    """
    name = "hcnn_forward"
    rows, taps, count = table_struct(table), len(levels[0][0]), check_offsets(name, "offsets", offsets, len(values))
    check_range(name, "values", values, len(table))
    widths = [table.shape[1], *(len(bias) for _, bias in levels)]
    for (weights, bias), (inputs, outputs) in zip(levels, pairwise(widths), strict=True):
        check_shapes(name, weights=(weights, (taps, outputs, inputs)), biases=(bias, (outputs,)))
    lines = torch.empty(2, len(values) + count * (taps - 1), max(widths))
    encodings = torch.empty(count, sum(widths[1:]))
    places = [addresses(name, part) for part in zip(*levels, strict=True)]
    sizes = count, taps, len(levels)
    given = *places, np.array(widths, np.int64), *lines
    _call(name, byref(rows), values, offsets, *sizes, *given, encodings.shape[1], encodings)
    return encodings
