"""A whole training step on pairs of single tokens."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_double, c_float, c_int64, c_void_p
from typing import ClassVar

import torch
from torch import Tensor

from object2vec.array_types import Float32, Int32, Int64
from object2vec.ops.kernels import KINDS
from object2vec.ops.library import (
    addresses,
    check_shapes,
)
from object2vec.ops.library import call as _call


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
