"""Kernels in C for what torch and numpy are slow at on a CPU.

`available()` says whether they were built and can be loaded. Each caller has an equal form without kernels, for GPUs
and for machines without a compiler. Arguments must be contiguous, on the CPU, and of the types that a function names.
Another type is a TypeError; another layout or shape, or an id out of range, is a ValueError.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_double, c_float, c_int64, c_void_p
from functools import cache
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from object2vec import native
from object2vec.arrays import Float32, Int32, Int64
from object2vec.kernels.calls import (
    MAX_DIM,
    Table,
    address,
    addresses,
    check_classes,
    check_library,
    check_offsets,
    check_range,
    check_shapes,
    functions,
)
from object2vec.kernels.calls import call as _call
from object2vec.kernels.text import Lines as Lines  # all kernels are found here
from object2vec.kernels.text import Sides as Sides
from object2vec.kernels.text import read_instances as read_instances
from object2vec.kernels.text import read_lines as read_lines

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:

    class _Torch:
        """Import torch at the first use of a name: importing this module must not take seconds."""

        def __getattr__(self, name: str) -> Any:
            value = getattr(import_module("torch"), name)
            setattr(self, name, value)
            return value

    torch = _Torch()

KINDS = {"sgd": 0, "adagrad": 1, "adam": 2}
#: Pairs of tokens for which weights are read once: what is computed of so many fits a core's own cache.
TOGETHER = 16
#: At so many rows, or sequences, and below, `linear` and `lstm_run` are faster than torch's products.
FEW = 16
#: Parts in which `score_pairs_backward` sums the gradient of the weight, whatever the number of threads.
BACKWARD_PARTS = 16
#: In the order in which head.c numbers them.
COMPARATORS = ("hadamard", "concat", "abs_diff")
ACTIVATIONS = ("tanh", "relu", "linear")


@cache
def status() -> native.Native:
    """Return the loaded library, or the reason why there is none."""
    return check_library(native.load(), (Table, Moved, PairBatch, Way, Head))


def available() -> bool:
    """Whether the kernels can be called."""
    return status().library is not None


def stay_alone() -> None:
    """Make kernels that this thread calls use one thread."""
    library = status().library
    if library and status().threads:
        library.omp_set_num_threads(1)  # OpenMP's own, which the library is linked with


def usable(tensor: Tensor) -> bool:
    """Whether the kernels can work on tensors like this one."""
    return tensor.dtype == torch.float32 and readable(tensor)


def readable(table: Tensor) -> bool:
    """Whether `pool` and `Head` can read a table like this one, float32 or float16."""
    return table.device.type == "cpu" and table.dtype in (torch.float32, torch.float16) and available()


def pool(table: Tensor, values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """The mean row of each bag of ids, (N, E), and 1 / tokens of each, (N,); id 0 counts as no token.

    `table` is (V, E) float32 or float16, `values` (n,) and `offsets` (N + 1,) are int64, and bag i is
    values[offsets[i]:offsets[i + 1]].
    """
    rows = Table(table)
    count, dim = check_offsets("pool", "offsets", offsets, len(values)), table.shape[1]
    check_range("pool", "values", values, len(table))
    out, scale = torch.empty(count, dim), torch.empty(count)
    _call("pool", byref(rows), values, offsets, count, out, scale)
    return out, scale


def spread(values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """The ids other than 0 of N bags, and which bag each is of; all int64, the bags as in `pool`."""
    count = check_offsets("spread", "offsets", offsets, len(values))
    out, origin = torch.empty_like(values), torch.empty_like(values)
    found = _call("spread", values, offsets, count, out, origin)
    return out[:found], origin[:found]


class Groups(NamedTuple):
    """The different ids among n, and what each comes from: id rows[r] from origins[starts[r]:starts[r + 1]]; int64."""

    rows: Tensor
    starts: Tensor
    origins: Tensor


def group(values: Tensor, origin: Tensor, lut: Tensor) -> Groups:
    """Group n ids by value, with the origin of each; all int64.

    `lut` is scratch: one int32 an id of the vocabulary, all -1 before and after.
    """
    count = len(values)
    check_shapes("group", origin=(origin, (count,)))
    check_range("group", "values", values, len(lut))
    rows, starts, origins = values.new_empty(count), values.new_empty(count + 1), values.new_empty(count)
    found = _call("group", values, origin, count, lut, rows, starts, origins)
    return Groups(rows[:found], starts[: found + 1], origins)


def step_rows(
    kind: str,
    table: Tensor,
    state: Sequence[Tensor],
    groups: Groups,
    scale: Tensor,
    gradient: Tensor,
    *,
    rate: float,
    decay: float = 0.0,
    corrections: tuple[float, float] = (1.0, 1.0),
    lut: Tensor | None = None,
) -> None:
    """One step of sgd, adagrad or adam on the rows of `table` (V, E) that `groups` names, in place.

    The gradient of a row is the sum of scale[o] * gradient[o] over its origins o. `scale` (m,) and `gradient` (m, E)
    are float32; `state` is the optimizer's, tables like `table`; `corrections` are Adam's 1 - beta^step. With scratch
    as in `group`, all other rows move too, as if their gradient were zeros.
    """
    first, second = [*state, table, table][:2]  # a kind that keeps less state looks at none
    rows, starts, origins = groups
    given = table, first, second, table.shape[1], *(() if lut is None else (len(table), lut))
    name = "step_rows" if lut is None else "step_table"
    check_shapes(name, first=(first, table.shape), second=(second, table.shape), scale=(scale, (len(gradient),)))
    check_shapes(
        name,
        gradient=(gradient, (len(scale), table.shape[1])),
        **({} if lut is None else {"lut": (lut, (len(table),))}),
    )
    check_shapes(name, starts=(starts, (len(rows) + 1,)))
    check_range(name, "rows", rows, len(table))
    check_offsets(name, "starts", starts, len(origins))
    check_range(name, "origins", origins, len(scale))
    _check_dim(name, table.shape[1])
    _call(name, KINDS[kind], *given, rows, len(rows), starts, origins, scale, gradient, rate, decay, *corrections)


def add_rows(table: Tensor, groups: Groups, scale: Tensor, gradient: Tensor) -> None:
    """Add to the rows of `table` that `groups` names the sums that `step_rows` takes for their gradients."""
    step_rows("sgd", table, (), groups, scale, gradient, rate=-1.0)


def _check_dim(kernel: str, dim: int) -> None:
    if dim > MAX_DIM:
        raise ValueError(f"{kernel}: a row has {dim} numbers, wanted {MAX_DIM} at most")


def dropout(x: Tensor, p: float, seed: int) -> Tensor:
    """`x` (float32) with a share `p` of it set to 0 and the rest scaled to keep the mean; `seed` decides which."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is {p}, wanted a number from 0 to 1")
    out = torch.empty_like(x)
    threshold = min(int(p * 2**32), 2**32 - 1)
    _call("dropout", x, out, x.numel(), seed, threshold, 1 / (1 - p) if p < 1 else 0.0)
    return out


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer of `weight` (O, I) and `bias` (O,) over `x` (n, I), (n, O); at most `FEW` rows, to be fast."""
    check_shapes("linear", x=(x, (len(x), weight.shape[1])), bias=(bias, (len(weight),)))
    y = x.new_empty(len(x), len(weight))
    _call("linear", len(x), *weight.shape[::-1], weight, bias, x.contiguous(), y)
    return y


def _check_step(kernel: str, gates: Tensor, before: Tensor, **others: Tensor) -> None:
    units = before.shape[-1]
    wanted = len(gates), units
    check_shapes(kernel, gates=(gates, (len(gates), 4 * units)), before=(before, (min(len(before), len(gates)), units)))
    check_shapes(kernel, **{name: (value, wanted) for name, value in others.items()})


def lstm_forward(gates: Tensor, before: Tensor, cell: Tensor, hidden: Tensor) -> None:
    """The point-wise part of an LSTM step of n rows: `gates` (n, 4 U) hold what goes into the gates, then the gates.

    `cell` and `hidden` (n, U) are what comes of it. `before` are the cells before the step of the first rows, as many
    as it has; the other rows begin.
    """
    _check_step("lstm_forward", gates, before, cell=cell, hidden=hidden)
    _call("lstm_forward", len(gates), len(before), cell.shape[1], gates, before, cell, hidden)


def lstm_backward(gates: Tensor, before: Tensor, cell: Tensor, d_hidden: Tensor, d_cell: Tensor) -> None:
    """The gradient of `lstm_forward`: in `gates` of what went into them; `d_cell` becomes that of `before`."""
    _check_step("lstm_backward", gates, before, cell=cell, d_hidden=d_hidden, d_cell=d_cell)
    _call("lstm_backward", len(gates), len(before), cell.shape[1], gates, before, cell, d_hidden, d_cell)


def lstm_run(starts: npt.NDArray[np.int64], backward: bool, gates: Tensor, weight: Tensor) -> Tensor:
    """A layer over n rows that are ordered by step, one way: its output (n, U).

    Step t has the rows from starts[t] up to starts[t + 1], of which the first are those of its neighbours. `gates`
    (n, 4 U) hold what the inputs add, then the gates; `weight` (4 U, U) is that of the output of the step before.
    At most `FEW` sequences, to be fast.
    """
    units = weight.shape[1]
    check_offsets("lstm_run", "starts", starts, len(gates))
    check_shapes("lstm_run", w=(weight, (4 * units, units)), gates=(gates, (len(gates), 4 * units)))
    cell, hidden = gates.new_empty(len(gates), units), gates.new_empty(len(gates), units)
    _call("lstm_run", len(starts) - 1, starts, int(backward), units, gates, weight, cell, hidden)
    return hidden


def encode_convolved(table: Tensor, values: Tensor, offsets: Tensor, levels: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The maxima over N sequences of each of stacked convolutions with ReLU, side by side: (N, D).

    Table and sequences are as in `pool`, but that id 0 is a token. A level is its weights (w, O, I), of each place that
    a filter sees, and its bias (O,).
    """
    name = "encode_convolved"
    rows, taps, count = Table(table), len(levels[0][0]), check_offsets(name, "offsets", offsets, len(values))
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


def segment_maximum(x: Tensor, rows: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum of each column of `x` (m, D) over the rows of N segments, (N, D), and the row that has it, int32.

    Segment s has rows[starts[s]:starts[s + 1]], int64; without rows its maximum is 0 and its row -1.
    """
    count, dim = check_offsets("segment_maximum", "starts", starts, len(rows)), x.shape[1]
    check_range("segment_maximum", "rows", rows, len(x))
    highest, where = x.new_empty(count, dim), torch.empty(count, dim, dtype=torch.int32)
    _call("segment_maximum", x, dim, rows, starts, count, highest, where)
    return highest, where


def segment_maximum_backward(gradient: Tensor, where: Tensor, rows: int) -> Tensor:
    """The gradient (m, D) of `x`, which has `rows` rows, from that of the maxima (N, D)."""
    check_shapes("segment_maximum_backward", where=(where, tuple(gradient.shape)))
    check_range("segment_maximum_backward", "where", where, rows, low=-1)
    d_x = gradient.new_zeros(rows, gradient.shape[1])
    _call("segment_maximum_backward", gradient, gradient.shape[1], where, len(gradient), d_x)
    return d_x


class Output(NamedTuple):
    """An output layer on comparators: `weight` (C, F) and `bias` (C,).

    `at` (4,) int64 says in which column stands what goes before u * v, u, v and |u - v|: -1 where there is none.
    """

    weight: Tensor
    bias: Tensor
    at: Tensor


def _check_pairs(kernel: str, u: Tensor, v: Tensor, output: Output) -> None:
    weight, bias, at = output
    dim = u.shape[1]
    check_shapes(kernel, v=(v, (len(v), dim)), bias=(bias, (len(weight),)), at=(at, (4,)))
    check_range(kernel, "at", at, weight.shape[1] - dim + 1, low=-1)


def score_pairs(u: Tensor, v: Tensor, left: Tensor, right: Tensor, output: Output) -> Tensor:
    """The scores (P, C) of pairs of objects left[p] of `u` (N, D) and right[p] of `v` (M, D), int64."""
    weight, bias, at = output
    _check_pairs("score_pairs", u, v, output)
    check_shapes("score_pairs", right=(right, tuple(left.shape)))
    check_range("score_pairs", "left", left, len(u))
    check_range("score_pairs", "right", right, len(v))
    out = u.new_empty(len(left), len(bias))
    sizes = len(bias), u.shape[1], weight.shape[1]
    _call("score_pairs", u, v, left, right, len(left), weight, *sizes, at, bias, out)
    return out


def score_pairs_backward(
    u: Tensor, v: Tensor, left: Tensor, right: Tensor, output: Output, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `u`, `v` and the weight from that of the scores, `slope` (P, C)."""
    weight, _, at = output
    _check_pairs("score_pairs_backward", u, v, output)
    check_shapes("score_pairs_backward", slope=(slope, (len(left), len(weight))), right=(right, tuple(left.shape)))
    check_range("score_pairs_backward", "mine", left, len(u))
    check_range("score_pairs_backward", "partner", right, len(v))
    parts, pairs = BACKWARD_PARTS, len(left)
    sums, d_weight = u.new_empty(parts, u.shape[1]), u.new_zeros(parts, *weight.shape)
    layer = weight, len(weight), u.shape[1], weight.shape[1], at
    places, gradients = left.new_empty(pairs), []
    for is_left, own, other, mine, partner in ((1, u, v, left, right), (0, v, u, right, left)):
        starts, d_own = left.new_empty(len(own) + 1), torch.zeros_like(own)
        given = own, len(own), other, mine, partner, pairs, slope
        _call("score_pairs_backward", is_left, *given, *layer, parts, sums, starts, places, d_own, d_weight)
        gradients.append(d_own)
    return gradients[0], gradients[1], d_weight.sum(0)


class Moved(ctypes.Structure):
    """What an optimizer moves: `Moved` of step.c."""

    _fields_: ClassVar = [("weight", c_void_p), ("first", c_void_p), ("second", c_void_p), ("steps", c_int64)]

    def __init__(self, weight: Tensor, state: Sequence[Tensor], steps: int) -> None:
        """A weight, the optimizer's state, tensors like it, and how many steps it took before."""
        check_shapes("step_pairs", **{f"state{i}": (part, tuple(weight.shape)) for i, part in enumerate(state)})
        at, first, second = [*addresses("step_pairs", (weight, *state)), None, None][:3]
        super().__init__(at, first, second, steps)
        self.shape = tuple(weight.shape)


class PairBatch(ctypes.Structure):
    """A batch of P pairs, and what a step on them comes to: `PairBatch` of step.c."""

    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("tokens0", "tokens1", "index0", "index1")),
        ("n0", c_int64),
        ("n1", c_int64),
        ("labels", c_void_p),
        ("pairs", c_int64),
        ("loss", c_double),
        ("correct", c_int64),
    ]

    def __init__(self, tokens: Sequence[Int32], index: Sequence[Int64], labels: Float32) -> None:
        """Of the different `tokens` of each side, none of them 0, pair p has number `index[side][p]`; `labels` is (P,).

        Tokens are numbered as they come: the first pair has number 0 of a side, and one that no pair before it has is
        one above all that they have.
        """
        (left, right), (own, partner) = tokens, index
        self.tokens = tokens
        check_shapes("step_pairs", index0=(own, labels.shape), index1=(partner, labels.shape))
        places = *addresses("step_pairs", tokens, "I"), *addresses("step_pairs", index, "L")
        super().__init__(*places, len(left), len(right), *addresses("step_pairs", [labels]), len(labels))


class Way(ctypes.Structure):
    """How steps on pairs are made: `Way` of step.c."""

    _fields_: ClassVar = [
        ("kind", c_int64),
        ("rate", c_float),
        ("decay", c_float),
        *((name, c_int64) for name in ("classes", "width", "dim")),
        ("at", c_void_p),
        ("parts", c_int64),
        *((name, c_void_p) for name in ("slope", "sums", "slopes")),
    ]


def step_pairs(
    kind: str,
    moved: Sequence[Moved],
    shape: tuple[int, int, int],
    at: Tensor,
    batches: Sequence[PairBatch],
    *,
    rate: float,
    decay: float,
    threads: int,
) -> list[tuple[float, int]]:
    """A step of sgd, adagrad or adam for each batch of pairs on what it touches: rows of two tables, an output layer.

    `moved` are the tables, the layer's weight and its bias. That layer is as in `Output`, of one score, which is to be
    the label, or of two, for the classes 0 and 1; `shape` is that of its weight, and how many numbers a row has. Gives
    for each batch the mean loss, and how many pairs get their class.
    """
    _, width, dim = shape
    tokens, pairs = max(batch.n0 + batch.n1 for batch in batches), max(batch.pairs for batch in batches)
    scratch = torch.empty(pairs), torch.empty(threads, width + 1), torch.empty(tokens, dim)
    way = Way(KINDS[kind], rate, decay, *shape, at.data_ptr(), threads, *map(torch.Tensor.data_ptr, scratch))
    given = (PairBatch * len(batches))(*batches)
    _call("step_pairs", byref(way), (Moved * 4)(*moved), given, len(batches))
    return [(batch.loss, batch.correct) for batch in given]


class Head(ctypes.Structure):
    """What `score_tokens` needs of a network: `struct head` of head.c."""

    _fields_: ClassVar = [
        ("tables", Table * 2),
        ("comparators", c_void_p),
        ("n", c_int64),
        ("weights", c_void_p),
        ("biases", c_void_p),
        ("widths", c_void_p),
        ("layers", c_int64),
        ("activation", c_int64),
        ("joined", c_int64),
        ("slots", c_int64 * 2),
        ("whose", c_void_p * 2),
        ("parts", c_void_p * 2),
        ("softmax", c_int64),
        ("together", c_int64),
        ("hidden", c_void_p),
    ]

    def __init__(
        self,
        tables: Sequence[Tensor],
        comparators: Sequence[str],
        layers: Sequence[tuple[Tensor, Tensor]],
        activation: str,
        *,
        softmax: bool,
        room: int,
    ) -> None:
        """That of two tables (V, D) and of layers, the output's last: weights (from, to), biases (to,); all float32.

        Tables may be float16. What it computes of rows alone takes `room` bytes at most.
        """
        weights, biases = zip(*layers, strict=True)
        dim, outputs = tables[0].shape[1], len(biases[0])
        widths = np.array([len(weights[0]), *map(len, biases)], np.int64)
        codes = np.array([COMPARATORS.index(name) for name in comparators], np.int64)
        places = [np.array(list(addresses("Head", parts)), np.uint64) for parts in (weights, biases)]
        for i, shape in enumerate(pairwise(widths.tolist())):
            check_shapes("Head", **{f"weights{i}": (weights[i], shape)})
        joined = dim * comparators.index("concat") if "concat" in comparators else -1
        slots = _shares(max(2, room // (4 * outputs)), len(tables[0]), len(tables[1]))
        whose = [np.zeros(count, np.int32) for count in slots]
        parts = [np.zeros((count, outputs), np.float32) for count in slots]  # no memory until one is used
        hidden = np.empty((2, TOGETHER, widths.max()), np.float32)
        super().__init__(
            (Table * 2)(*map(Table, tables)),
            *(codes.ctypes.data, len(codes)),
            *(part.ctypes.data for part in (*places, widths)),
            *(len(layers), ACTIVATIONS.index(activation), joined, (c_int64 * 2)(*slots)),
            *(addresses("Head", whose, "I"), addresses("Head", parts), int(softmax), TOGETHER, hidden.ctypes.data),
        )
        self.scores = int(widths[-1])
        self.sizes = len(tables[0]), len(tables[1])
        self._kept = (tables, layers, widths, codes, places, whose, parts, hidden)


def _shares(size: int, left: int, right: int) -> tuple[int, int]:
    """What two get of `size` that want so much: half each, and what the other leaves over."""
    first = min(left, max(size // 2, size - right))
    return first, min(right, size - first)


def score_tokens(head: Head, tokens: tuple[Int32, Int32]) -> Float32:
    """The outputs (P, C) of pairs of tokens other than 0, (P,) each."""
    left, right = tokens
    check_shapes("score_tokens", tokens1=(right, left.shape))
    check_range("score_tokens", "tokens0", left, head.sizes[0])
    check_range("score_tokens", "tokens1", right, head.sizes[1])
    out = np.empty((len(left), head.scores), np.float32)
    functions(ctypes.PyDLL)["score_tokens"](byref(head), address(left), address(right), len(left), address(out))
    return out


def cross_entropy(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The mean loss () of P pairs with scores (P, C) for their classes, labels (P,) float32; its gradient (P, C)."""
    check_shapes("cross_entropy", labels=(labels, (len(scores),)))
    check_classes("cross_entropy", labels, scores.shape[1])
    losses, slope = torch.empty_like(labels), torch.empty_like(scores)
    _call("cross_entropy", scores, labels, *scores.shape, losses, slope)
    return losses.mean(), slope


def correct(scores: Tensor, labels: Tensor) -> int:
    """How many of P pairs have the highest of their scores (P, C) for their class, `labels` (P,) float32."""
    check_shapes("correct", labels=(labels, (len(scores),)))
    return _call("correct", scores, labels, *scores.shape)


def distinct(values: Int32, offsets: Int64, which: Int32, first: Int32) -> int:
    """Which of N sequences are the same: into `which` (N,) the number of each one's object, numbered as they come.

    Sequence i is values[offsets[i]:offsets[i + 1]]. Into `first` (N,) goes the first sequence of each object; returns
    how many there are.
    """
    check_offsets("distinct", "offsets", offsets, len(values))
    check_shapes("distinct", which=(which, (len(offsets) - 1,)), first=(first, (len(offsets) - 1,)))
    at, size, found = 0, 1 << 10, np.zeros(1, np.int64)
    while at < len(which):
        slots = np.full(size, -1, np.int64)
        _call("place_objects", values, offsets, first, int(found[0]), slots, size - 1)
        at = _call("distinct", values, offsets, at, len(which), slots, size - 1, which, first, found)
        del slots  # before there is a larger one
        size *= 2
    return int(found[0])


def _check_rows(kernel: str, rows: tuple[Int64, Int64], of: tuple[Int32, Int32]) -> int:
    check_shapes(kernel, rows1=(rows[1], rows[0].shape))
    for side in range(2):
        check_range(kernel, f"rows{side}", rows[side], len(of[side]))
    return len(rows[0])


def number(
    rows: tuple[Int64, Int64], which: tuple[Int32, Int32], luts: tuple[Int32, Int32]
) -> tuple[tuple[Int64, Int64], Int64]:
    """Number the objects which[rows] of n rows a side as they come.

    Returns the first row of each object a side, and the number of each row's object (2, n). `luts` are scratch: one
    int32 an object, all -1 before and after.
    """
    count = _check_rows("number", rows, which)
    first, place, found = np.empty((2, count), np.int64), np.empty((2, count), np.int64), np.empty(2, np.int64)
    _call("number", *rows, count, *which, *luts, first, place, found)
    left, right = found.tolist()
    return (first[0, :left], first[1, :right]), place


def number_tokens(
    rows: tuple[Int64, Int64], tokens: tuple[Int32, Int32], luts: tuple[Int32, Int32]
) -> tuple[tuple[Int32, Int32], Int64]:
    """As `number`, where rows are objects of one of `tokens` each: the different tokens of a side, and the numbers."""
    count = _check_rows("number_tokens", rows, luts)
    _check_rows("number_tokens", rows, tokens)
    first, place, found = np.empty((2, count), np.int64), np.empty((2, count), np.int64), np.empty(2, np.int64)
    out = np.empty((2, count), np.int32)
    _call("number_tokens", *rows, count, *tokens, *luts, first, place, found, out)
    left, right = found.tolist()
    return (out[0, :left], out[1, :right]), place


def starts_of(offsets: Int64, index: Int64) -> Int64:
    """Where the n sequences that `index` names, of those with `offsets`, begin one behind the other, (n + 1,)."""
    check_range("starts_of", "index", index, len(offsets) - 1)
    starts = np.empty(len(index) + 1, np.int64)
    _call("starts_of", offsets, index, len(index), starts)
    return starts


def take(values: Int32, offsets: Int64, index: Int64, starts: Int64) -> Int32:
    """The tokens of the sequences that `index` (n,) names, which are to begin at `starts` (n + 1,)."""
    check_range("take", "index", index, len(offsets) - 1)
    check_shapes("take", out_offsets=(starts, (len(index) + 1,)))
    out = np.empty(int(starts[-1]), np.int32)
    done = _call("take", values, offsets, len(values), index, len(index), starts, out)
    if done < len(index):
        raise ValueError(f"take: sequence {index[done]} is not within the {len(values)} values")
    return out


class Partners(NamedTuple):
    """Which objects are partners: those of object o are partners[starts[o]:starts[o + 1]], ascending.

    `bits` has a bit for each pair of objects, `each` of them for an object of side 0; or, where those would be too
    many, some for each pair of partners, and `each` is 0. One whose bit is 0 is no pair of partners.
    """

    starts: Int64
    partners: Int32
    bits: npt.NDArray[np.uint8]
    each: int


def mark_pairs(objects: tuple[Int32, Int32], bits: npt.NDArray[np.uint8], each: int) -> None:
    """Set the bits of n pairs of objects, (n,) each, as `Partners` has them."""
    check_shapes("mark_pairs", object1=(objects[1], objects[0].shape))
    if each:
        check_range("mark_pairs", "object0", objects[0], 8 * len(bits) // each)
        check_range("mark_pairs", "object1", objects[1], each)
    _call("mark_pairs", *objects, len(objects[0]), bits, each, 8 * len(bits))


def draw_negatives(
    rows: Int64,
    positive: npt.NDArray[np.bool_],
    sources: Int64 | int,
    which: tuple[Int32, Int32],
    known: Partners,
    *,
    rate: int,
    seed: int,
    rounds: int,
    give_objects: bool,
) -> tuple[Int64, int]:
    """For n rows (n, 1 + rate): each, and behind it what is drawn for it where it is `positive`, -1 for none.

    Any of so many rows is drawn, or of `sources`, until object which[1] of it is no partner of object which[0] of the
    row, `rounds` times at most. Returns how many were drawn, too. For rows their objects are given where so told.
    """
    check_range("draw_negatives", "rows", rows, len(which[0]))
    check_shapes("draw_negatives", positive=(positive, which[0].shape), which1=(which[1], which[0].shape))
    if isinstance(sources, int) and sources > len(which[1]):
        raise ValueError(f"draw_negatives: sources is {sources}, wanted {len(which[1])} at most")
    out = np.empty((len(rows), 1 + rate), np.int64)
    among = (None, sources) if isinstance(sources, int) else (sources, len(sources))
    given = rows, len(rows), positive, rate, seed, rounds
    found = _call("draw_negatives", *given, *among, *which, *known, 8 * len(known.bits), give_objects, out)
    return out, found


def beside(rows: Int64, which0: Int32 | None, labels: Float32, drawn: Int64) -> tuple[Int64, Int64, Float32]:
    """Of n rows and what `draw_negatives` gave for them, (n, 1 + rate), the columns of all pairs, without those of -1.

    They are which0[rows], or rows, what was drawn, and the labels: of each row the first has its own, the others 0.
    """
    check_shapes("beside", drawn=(drawn, (len(rows), drawn.shape[-1])))
    check_range("beside", "rows", rows, min(len(labels), len(labels if which0 is None else which0)))
    row0, row1, label = np.empty(drawn.size, np.int64), np.empty(drawn.size, np.int64), np.empty(drawn.size, np.float32)
    given = rows, len(rows), drawn.shape[1] - 1, which0, labels, drawn
    found = _call("beside", *given, row0, row1, label)
    return row0[:found], row1[:found], label[:found]
