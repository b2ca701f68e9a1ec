"""A whole training step on pairs of single tokens."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref

import torch
from torch import Tensor

from object2vec.array_types import Float32, Int32, Int64
from object2vec.ops.arguments import addresses, call, check_shapes, usable
from object2vec.ops.codes import OPTIMIZERS
from object2vec.ops.library import structs
from object2vec.ops.scoring import LinearHead

Structs = Sequence[ctypes.Structure]


def parameter_state(weight: Tensor, state: Sequence[Tensor], steps: int) -> ctypes.Structure:
    """Refer to a weight, the state of its optimizer (shaped alike), and the number of steps before."""
    check_shapes("step_pairs", **{f"state{i}": (part, tuple(weight.shape)) for i, part in enumerate(state)})
    at, first, second = [*addresses("step_pairs", (weight, *state)), None, None][:3]
    return structs()["ParameterState"](at, first, second, steps)


def pair_batch(
    tokens: Sequence[Int32], index: Sequence[Int64], labels: Float32, learning_rate: float
) -> ctypes.Structure:
    """Refer to the unique `tokens` of each side, none of them 0; pair p has token `index[side][p]`.

    Tokens are numbered by first appearance: pair 0 has number 0, and a new token the next number. `labels` is (P,).
    """
    (own, partner), (left, right) = index, tokens
    check_shapes("step_pairs", index0=(own, labels.shape), index1=(partner, labels.shape))
    at = addresses("step_pairs", tokens, "int32"), addresses("step_pairs", index, "int64")
    pairs = *addresses("step_pairs", [labels]), len(labels)
    return structs()["PairBatch"](*at, (len(left), len(right)), *pairs, learning_rate)


def is_supported(head: LinearHead) -> bool:
    """Return whether the kernel can step networks with this output layer."""
    return len(head.bias) <= 2 and usable(head.bias)


def step_pairs(
    kind: str, weight_decay: float, states: Structs, head: LinearHead, batches: Structs, *, dim: int, threads: int
) -> list[tuple[float, int]]:
    """Take a step for each batch of pairs; return its mean loss and number of correct pairs.

    A step of sgd, adagrad or adam (`kind`) updates the rows, (dim,) each, of two tables that the batch has, and an
    output layer. `states` are of the tables, the layer's weight and its bias; they count their steps. One score is to
    be the label; of two, the label is the class, 0 or 1.
    """
    classes, width = head.weight.shape
    tokens, pairs = max(batch.n[0] + batch.n[1] for batch in batches), max(batch.pairs for batch in batches)
    scratch = torch.empty(pairs), torch.empty(threads, width + 1), torch.empty(tokens, dim)
    settings = OPTIMIZERS.index(kind), weight_decay
    layer = classes, width, dim, head.columns.data_ptr()
    config = structs()["StepConfig"](*settings, *layer, threads, *addresses("step_pairs", scratch))
    given = (structs()["PairBatch"] * len(batches))(*batches)
    call("step_pairs", byref(config), (structs()["ParameterState"] * 4)(*states), given, len(batches))
    return [(batch.loss, batch.correct) for batch in given]
