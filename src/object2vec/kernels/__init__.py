"""Kernels in C for what torch and numpy are slow at on a CPU.

`available()` says whether they were built and can be loaded. Whoever calls one has a plain form beside it, for GPUs and
for machines without a compiler. Arguments must be contiguous, on the CPU, and of the types that a function names.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_float, c_int64, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from object2vec.arrays import Float64, Int32, Int64

LIBRARY = Path(__file__).with_name("kernels.so")
KINDS = {"sgd": 0, "adagrad": 1, "adam": 2}


@cache
def _library() -> ctypes.CDLL | None:
    # torch is imported by now, and its OpenMP runtime with it: the kernels' threads are torch's.
    try:
        kernels = ctypes.CDLL(str(LIBRARY))
    except OSError:
        return None
    for name in ("group", "distinct", "number", "read_lines"):
        getattr(kernels, name).restype = c_int64
    return kernels


def available() -> bool:
    """Whether the kernels can be called."""
    return _library() is not None


def usable(tensor: Tensor) -> bool:
    """Whether the kernels can work on tensors like this one."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and available()


def _call(name: str, *arguments: object) -> int:
    """Call a kernel: tensors and arrays go as pointers, ctypes values as they are, integers as int64."""
    result: int = getattr(_library(), name)(*map(_argument, arguments))
    return result


def _argument(value: object) -> object:
    if isinstance(value, Tensor):
        return c_void_p(value.data_ptr())
    if isinstance(value, np.ndarray):
        return c_void_p(value.ctypes.data)
    return c_int64(value) if isinstance(value, int) else value


def pool(table: Tensor, values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """The mean row of each bag of ids, (N, E), and 1 / tokens of each, (N,); id 0 counts as no token.

    `table` is (V, E) float32, `values` (n,) and `offsets` (N + 1,) int64: bag i is values[offsets[i]:offsets[i + 1]].
    """
    count, dim = len(offsets) - 1, table.shape[1]
    out, scale = table.new_empty(count, dim), table.new_empty(count)
    _call("pool", table, dim, values, offsets, count, out, scale)
    return out, scale


class Groups(NamedTuple):
    """The different ids among n, and where each stands: id rows[r] at places[starts[r]:starts[r + 1]]. All int64."""

    rows: Tensor
    starts: Tensor
    places: Tensor


def group(values: Tensor, lut: Tensor, *, skip: int = -1) -> Groups:
    """Group n ids (int64) by value, those equal to `skip` left out.

    `lut` is scratch: one int32 an id of the vocabulary, all -1 before and after.
    """
    count = len(values)
    rows, starts, places = values.new_empty(count), values.new_empty(count + 1), values.new_empty(count)
    found = _call("group", values, count, skip, lut, rows, starts, places)
    return Groups(rows[:found], starts[: found + 1], places)


def step_rows(
    kind: str,
    table: Tensor,
    state: Sequence[Tensor],
    groups: Groups,
    origin: Tensor,
    scale: Tensor,
    gradient: Tensor,
    *,
    rate: float,
    decay: float = 0.0,
    corrections: tuple[float, float] = (1.0, 1.0),
) -> None:
    """One step of sgd, adagrad or adam on the rows of `table` (V, E) that `groups` names, in place.

    The gradient of a row is the sum of scale[p] * gradient[origin[p]] over its places p. `origin` (n,) is int64,
    `scale` (n,) and `gradient` (m, E) float32; `state` is the optimizer's, tables like `table`; `corrections` are
    Adam's 1 - beta^step.
    """
    first, second = [*state, table, table][:2]  # a kind that keeps less state looks at none
    numbers = (c_float(number) for number in (rate, decay, *corrections))
    dim, rows = table.shape[1], len(groups.rows)
    places = groups.rows, rows, groups.starts, groups.places
    _call("step_rows", KINDS[kind], table, first, second, dim, *places, origin, scale, gradient, *numbers)


def add_rows(table: Tensor, groups: Groups, origin: Tensor, scale: Tensor, gradient: Tensor) -> None:
    """Add to the rows of `table` that `groups` names the sums that `step_rows` takes for their gradients."""
    step_rows("sgd", table, (), groups, origin, scale, gradient, rate=-1.0)


def dropout(x: Tensor, p: float, seed: int) -> Tensor:
    """`x` (float32) with a share `p` of it set to 0 and the rest scaled to keep the mean; `seed` decides which."""
    out = torch.empty_like(x)
    threshold = min(int(p * 2**32), 2**32 - 1)
    scale = c_float(1 / (1 - p)) if p < 1 else c_float(0)
    _call("dropout", x, out, x.numel(), c_uint64(seed), c_uint32(threshold), scale)
    return out


def lstm_forward(gates: Tensor, before: Tensor, cell: Tensor, hidden: Tensor) -> None:
    """The point-wise part of an LSTM step of n rows: `gates` (n, 4 U) hold what goes into the gates, then the gates.

    `cell` and `hidden` (n, U) are what comes of it. `before` are the cells before the step of the first rows, as many
    as it has; the other rows begin.
    """
    _call("lstm_forward", len(gates), len(before), cell.shape[1], gates, before, cell, hidden)


def lstm_backward(gates: Tensor, before: Tensor, cell: Tensor, d_hidden: Tensor, d_cell: Tensor) -> None:
    """The gradient of `lstm_forward`: in `gates` of what went into them; `d_cell` becomes that of `before`."""
    _call("lstm_backward", len(gates), len(before), cell.shape[1], gates, before, cell, d_hidden, d_cell)


def segment_maximum(x: Tensor, rows: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum of each column of `x` (m, D) over the rows of N segments, (N, D), and the row that has it, int32.

    Segment s has rows[starts[s]:starts[s + 1]], int64; without rows its maximum is 0 and its row -1.
    """
    count, dim = len(starts) - 1, x.shape[1]
    highest, where = x.new_empty(count, dim), torch.empty(count, dim, dtype=torch.int32)
    _call("segment_maximum", x, dim, rows, starts, count, highest, where)
    return highest, where


def segment_maximum_backward(gradient: Tensor, where: Tensor, rows: int) -> Tensor:
    """The gradient (m, D) of `x`, which has `rows` rows, from that of the maxima (N, D)."""
    d_x = gradient.new_zeros(rows, gradient.shape[1])
    _call("segment_maximum_backward", gradient, gradient.shape[1], where, len(gradient), d_x)
    return d_x


def score_pairs(u: Tensor, v: Tensor, left: Tensor, right: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The scores (P, C) of pairs of objects left[p] of `u` (N, D) and right[p] of `v` (M, D).

    `weight` is (C, 4, D): what stands before u * v, u, v and |u - v|; `bias` is (C,); `left` and `right` are int64.
    """
    classes, _, dim = weight.shape
    out = u.new_empty(len(left), classes)
    _call("score_pairs", u, v, left, right, len(left), weight, bias, classes, dim, out)
    return out


def score_pairs_backward(
    u: Tensor, v: Tensor, left: Tensor, right: Tensor, weight: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `u`, `v` and `weight` from that of the scores, `slope` (P, C)."""
    classes, _, dim = weight.shape
    gradients = []
    for linear, own, other, mine, partner in ((1, u, v, left, right), (2, v, u, right, left)):
        rows, starts, places = group(mine, torch.full((len(own),), -1, dtype=torch.int32))
        d_own = torch.zeros_like(own)
        pairs = rows, len(rows), starts, places, partner
        _call("score_pairs_backward", own, other, *pairs, slope, weight, classes, dim, linear, d_own)
        gradients.append(d_own)
    parts = torch.get_num_threads()
    d_weight = weight.new_zeros(parts, *weight.shape)
    _call("score_pairs_weight", u, v, left, right, len(left), slope, classes, dim, parts, d_weight)
    return gradients[0], gradients[1], d_weight.sum(0)


def distinct(values: Int32, offsets: Int64) -> tuple[Int64, Int64]:
    """Which of N sequences are the same: the first sequence of each different one, and for each the number of its own.

    Sequence i is values[offsets[i]:offsets[i + 1]].
    """
    count = len(offsets) - 1
    slots = np.full(1 << (2 * count).bit_length(), -1, np.int64)
    which, first = np.empty(count, np.int64), np.empty(count, np.int64)
    found = _call("distinct", values, offsets, count, slots, len(slots) - 1, which, first)
    return first[:found].copy(), which


def number(values: Int64, lut: Int32) -> tuple[Int64, Int64]:
    """Number ids as they come: the different ones among `values` (n,), and for each of n the number of its own.

    `lut` is scratch: one int32 an id, all -1 before and after.
    """
    used, place = np.empty_like(values), np.empty_like(values)
    found = _call("number", values, len(values), lut, used, place)
    return used[:found], place


class Lines(NamedTuple):
    """What `read_lines` made of a text: columns of its records, and where it stopped."""

    values: tuple[Int32, Int32]  # the tokens of all records, a side each
    lengths: tuple[Int64, Int64]  # tokens of each record
    labels: Float64
    cut: Int64  # records with more than the most tokens, a side each
    lines: int
    consumed: int


def read_lines(text: bytes, most: tuple[int, int]) -> Lines:
    """Read records in the plain form from whole lines, as far as they are plain; `most` tokens a side are kept.

    Plain is `{"in0": [1, 2], "in1": [3], "label": 1.5}` with its keys in any order and nothing else, spaces anywhere.
    """
    size = len(text)
    values = np.empty(size // 2 + 1, np.int32), np.empty(size // 2 + 1, np.int32)
    rows = size // len('{"in0":[],"in1":[],"label":1}') + 1
    lengths = np.empty(rows, np.int64), np.empty(rows, np.int64)
    labels, cut, stop = np.empty(rows, np.float64), np.zeros(2, np.int64), np.zeros(2, np.int64)
    bounds = np.array(most, np.int64)
    pointers = ((c_void_p * 2)(*(column.ctypes.data for column in columns)) for columns in (values, lengths))
    found = _call("read_lines", text, size, bounds, *pointers, labels, cut, stop[:1], stop[1:])
    kept = tuple(column[:found] for column in lengths)
    tokens = tuple(column[: int(length.sum())] for column, length in zip(values, kept, strict=True))
    return Lines((tokens[0], tokens[1]), (kept[0], kept[1]), labels[:found], cut, int(stop[0]), int(stop[1]))
