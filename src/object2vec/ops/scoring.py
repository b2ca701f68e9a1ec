"""Scores of pairs of encodings, and of pairs of single tokens."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_int64
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from object2vec.array_types import Float32, Int32
from object2vec.ops import structs
from object2vec.ops.arguments import (
    address,
    addresses,
    check_classes,
    check_range,
    check_shapes,
    table_struct,
)
from object2vec.ops.arguments import call as _call
from object2vec.ops.codes import ACTIVATIONS, COMPARATORS
from object2vec.ops.library import functions

#: Parts in which `score_pairs_backward` sums the gradient of the weight, whatever the number of threads.
BACKWARD_PARTS = 16


#: Pairs of tokens for which weights are read once: what is computed of so many fits a core's own cache.
TOGETHER = 16


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
    check_shapes(kernel, v=(v, (len(v), dim)), bias=(bias, (len(weight),)), term_columns=(at, (4,)))
    check_range(kernel, "term_columns", at, weight.shape[1] - dim + 1, low=-1)


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
    check_shapes("score_pairs_backward", grad=(slope, (len(left), len(weight))), right=(right, tuple(left.shape)))
    check_range("score_pairs_backward", "object_index", left, len(u))
    check_range("score_pairs_backward", "partner_index", right, len(v))
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


class Head(structs.ScoringHead):
    """What `score_tokens` needs of a network: `ScoringHead` of csrc/api.h."""

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
            (structs.Table * 2)(*map(table_struct, tables)),
            *(codes.ctypes.data, len(codes)),
            *(part.ctypes.data for part in (*places, widths)),
            *(len(layers), ACTIVATIONS.index(activation), joined, (c_int64 * 2)(*slots)),
            *(addresses("Head", whose, "int32"), addresses("Head", parts), int(softmax), TOGETHER, hidden.ctypes.data),
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


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer of `weight` (O, I) and `bias` (O,) over `x` (n, I), (n, O); at most `FEW` rows, to be fast."""
    check_shapes("linear", x=(x, (len(x), weight.shape[1])), bias=(bias, (len(weight),)))
    y = x.new_empty(len(x), len(weight))
    _call("linear", len(x), *weight.shape[::-1], weight, bias, x.contiguous(), y)
    return y


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
