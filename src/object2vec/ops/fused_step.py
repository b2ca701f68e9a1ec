"""A whole training step on pairs of single tokens."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref, c_int64

import torch
from torch import Tensor

from object2vec.array_types import Float32, Int32, Int64
from object2vec.ops import structs
from object2vec.ops.arguments import (
    addresses,
    check_shapes,
    usable,
)
from object2vec.ops.arguments import call as _call


class Moved(structs.ParameterState):
    """What an optimizer moves: `ParameterState` of csrc/api.h."""

    def __init__(self, weight: Tensor, state: Sequence[Tensor], steps: int) -> None:
        """A weight, the optimizer's state, tensors like it, and how many steps it took before."""
        check_shapes("step_pairs", **{f"state{i}": (part, tuple(weight.shape)) for i, part in enumerate(state)})
        at, first, second = [*addresses("step_pairs", (weight, *state)), None, None][:3]
        super().__init__(at, first, second, steps)
        self.shape = tuple(weight.shape)


class PairBatch(structs.PairBatch):
    """A batch of P pairs, and what a step on them comes to: `PairBatch` of csrc/api.h."""

    def __init__(self, tokens: Sequence[Int32], index: Sequence[Int64], labels: Float32) -> None:
        """Of the different `tokens` of each side, none of them 0, pair p has number `index[side][p]`; `labels` is (P,).

        Tokens are numbered as they come: the first pair has number 0 of a side, and one that no pair before it has is
        one above all that they have.
        """
        (left, right), (own, partner) = tokens, index
        self._owners = tokens, index, labels
        check_shapes("step_pairs", index0=(own, labels.shape), index1=(partner, labels.shape))
        places = addresses("step_pairs", tokens, "int32"), addresses("step_pairs", index, "int64")
        sizes = (c_int64 * 2)(len(left), len(right))
        super().__init__(*places, sizes, *addresses("step_pairs", [labels]), len(labels))


def is_supported(bias: Tensor) -> bool:
    """Return whether the kernel can step networks whose output layer has this bias (C,)."""
    return len(bias) <= 2 and usable(bias)


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
    tokens, pairs = max(batch.n[0] + batch.n[1] for batch in batches), max(batch.pairs for batch in batches)
    scratch = torch.empty(pairs), torch.empty(threads, width + 1), torch.empty(tokens, dim)
    config = structs.StepConfig(
        structs.OPTIMIZER_KINDS[kind], rate, decay, *shape, at.data_ptr(), threads, *map(torch.Tensor.data_ptr, scratch)
    )
    given = (PairBatch * len(batches))(*batches)
    _call("step_pairs", byref(config), (Moved * 4)(*moved), given, len(batches))
    return [(batch.loss, batch.correct) for batch in given]
