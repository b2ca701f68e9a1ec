"""Scores of pairs of encodings, and of pairs of single tokens."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import byref
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from object2vec.array_types import Float32, Int32
from object2vec.ops.arguments import address, addresses, call, check_range, check_shapes, readable, table_struct, usable
from object2vec.ops.codes import ACTIVATIONS, COMPARATORS
from object2vec.ops.library import functions, structs

#: Parts in which `score_pairs_backward` sums the gradient of the weight, for any number of threads.
BACKWARD_PARTS = 16


#: Pairs of tokens for which weights are read once. Their intermediate results fit a core's own cache.
TOGETHER = 16


#: The squared length below which a row is zeros.
TINY_SQUARE: Final = 1e-30


def unit_rows(x: Tensor) -> Tensor:
    """Return the rows of `x` (P, D) divided by their lengths; rows of zeros stay, with a gradient of zeros."""
    square = x.square().sum(dim=1, keepdim=True)
    return x * (square > TINY_SQUARE) * square.clamp(min=TINY_SQUARE).rsqrt()


#: Terms of two encodings (P, D) that comparators are made of. The first four are in the order of `LinearHead.columns`;
#: the last one has one column.
COMPARISON_TERMS: Final[tuple[Callable[[Tensor, Tensor], Tensor], ...]] = (
    lambda u, v: u * v,
    lambda u, _: u,
    lambda _, v: v,
    lambda u, v: (u - v).abs(),
    lambda u, v: (unit_rows(u) * unit_rows(v)).sum(dim=1, keepdim=True),
)
PRODUCT: Final = 0
LEFT: Final = 1
COSINE: Final = 4


class LinearHead(NamedTuple):
    """An output layer directly on comparators: `weight` (C, F) and `bias` (C,).

    `columns` (4,) int64 gives the first column of each of the first `COMPARISON_TERMS`; -1 if a term is missing.
    """

    weight: Tensor
    bias: Tensor
    columns: Tensor


def score_pairs(u: Tensor, v: Tensor, left: Tensor, right: Tensor, head: LinearHead) -> Tensor:
    """Return the scores (P, C) of pairs of objects left[p] of `u` (N, D) and right[p] of `v` (M, D), int64."""
    if not usable(u):
        return _score_pairs_torch(u, v, left, right, head)
    if not torch.is_grad_enabled():
        return _score_pairs(u, v, left, right, head)
    scores: Tensor = _ScorePairs.apply(u, v, left, right, *head)  # type: ignore[no-untyped-call]
    return scores


def score_factors(u: Tensor, v: Tensor, head: LinearHead) -> tuple[Tensor, Tensor, Tensor]:
    """Return factors (N, D) and (M, D) and a bias (M,): a score of u[i] and v[j] is left[i] @ right[j] + bias[j].

    It is the only score of the head, without what depends on u alone. The head has no absolute difference.
    """
    dim = u.shape[1]
    product, _, right, _ = (
        head.weight[0, column : column + dim] if column >= 0 else None for column in head.columns.tolist()
    )
    factors = (torch.zeros_like(u), torch.zeros_like(v)) if product is None else (u * product, v)
    return *factors, v.new_zeros(len(v)) if right is None else v @ right


class _ScorePairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor, left: Tensor, right: Tensor, *head: Tensor) -> Tensor:
        ctx.save_for_backward(u, v, left, right, *head)
        return _score_pairs(u, v, left, right, LinearHead(*head))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        u, v, left, right, *head = ctx.saved_tensors
        grad = grads[0].contiguous()
        d_u, d_v, d_weight = score_pairs_backward(u, v, left, right, LinearHead(*head), grad)
        return d_u, d_v, None, None, d_weight, grad.sum(0), None


def _score_pairs_torch(u: Tensor, v: Tensor, left: Tensor, right: Tensor, head: LinearHead) -> Tensor:
    # Not by [index]: threads sum its gradient in any order, so that a seed would not repeat a job.
    u, v = u.index_select(0, left), v.index_select(0, right)
    terms = sorted((column, term) for term, column in enumerate(head.columns.tolist()) if column >= 0)
    return nn.functional.linear(
        torch.cat([COMPARISON_TERMS[term](u, v) for _, term in terms], 1), head.weight, head.bias
    )


def _score_pairs(u: Tensor, v: Tensor, left: Tensor, right: Tensor, head: LinearHead) -> Tensor:
    (weight, bias, columns), (pairs,) = head, left.shape
    (objects, dim), (partners, _), (classes, width) = u.shape, v.shape, weight.shape
    given = {"v": (v, (partners, dim)), "right": (right, (pairs,)), "bias": (bias, (classes,))}
    check_shapes("score_pairs", **given, term_columns=(columns, (4,)))
    check_range("score_pairs", "term_columns", columns, width - dim + 1, low=-1)
    check_range("score_pairs", "left", left, objects)
    check_range("score_pairs", "right", right, partners)
    out = u.new_empty(pairs, classes)
    call("score_pairs", u, v, left, right, pairs, weight, classes, dim, width, columns, bias, out)
    return out


def score_pairs_backward(
    u: Tensor, v: Tensor, left: Tensor, right: Tensor, head: LinearHead, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `u`, `v` and the weight from that of the scores, `grad` (P, C).

    `score_pairs` has checked the other arguments.
    """
    (weight, _, columns), (pairs,), parts = head, left.shape, BACKWARD_PARTS
    (classes, width), dim = weight.shape, u.shape[1]
    check_shapes("score_pairs_backward", grad=(grad, (pairs, classes)))
    sums, d_weight = u.new_empty(parts, dim), u.new_zeros(parts, classes, width)
    layer, places, grads = (weight, classes, dim, width, columns), left.new_empty(pairs), []
    for is_left, own, others, index, partner in ((1, u, v, left, right), (0, v, u, right, left)):
        starts, d_own = left.new_empty(own.shape[0] + 1), torch.zeros_like(own)
        given = own, own.shape[0], others, index, partner, pairs, grad
        call("score_pairs_backward", is_left, *given, *layer, parts, sums, starts, places, d_own, d_weight)
        grads.append(d_own)
    return grads[0], grads[1], d_weight.sum(0)


class TokenHead(NamedTuple):
    """What `score_tokens` needs of a network: `ScoringHead` of csrc/api.h."""

    struct: ctypes.Structure
    scores: int  # of a pair
    sizes: tuple[int, int]  # of the tables
    owners: tuple[object, ...]  # of the memory that the struct refers to


def token_head(
    tables: Sequence[Tensor],
    comparators: Sequence[str],
    layers: Sequence[tuple[Tensor, Tensor]],
    activation: str,
    *,
    softmax: bool,
    max_bytes: int,
) -> TokenHead | None:
    """Return the head for `score_tokens`; None if no kernel can read the tables, or it needs more than `max_bytes`.

    The two tables are (V, D), float32 or float16. `layers` are as `torch.nn.Linear` has them, the output's last: weight
    (to, from) and bias (to,). The part of `max_bytes` that weights leave is a cache of what depends on one token.
    """
    name, room = "token_head", max_bytes - 4 * sum(weight.numel() for weight, _ in layers)
    if room < 0 or not readable(tables[0]):
        return None
    weights, biases = [weight.t().contiguous() for weight, _ in layers], [bias for _, bias in layers]
    sizes, outputs = (len(tables[0]), len(tables[1])), len(biases[0])
    widths = np.array([len(weights[0]), *map(len, biases)], np.int64)
    for i, shape in enumerate(pairwise(widths.tolist())):
        check_shapes(name, **{f"weights{i}": (weights[i], shape)})
    codes = np.array([COMPARATORS.index(comparator) for comparator in comparators], np.int64)
    dim, before = tables[0].shape[1], comparators[: comparators.index("concat") if "concat" in comparators else 0]
    joined = sum(1 if name == "cosine" else dim for name in before) if "concat" in comparators else -1
    slots = _shares(max(2, room // (4 * outputs)), *sizes)
    tokens = [np.zeros(count, np.int32) for count in slots]
    parts = [np.zeros((count, outputs), np.float32) for count in slots]  # no memory until one is used
    scratch = np.empty((2, TOGETHER, widths.max()), np.float32)
    places = addresses(name, weights), addresses(name, biases)
    struct = structs()["ScoringHead"](
        tuple(map(table_struct, tables)),
        *(codes.ctypes.data, len(codes), *map(ctypes.addressof, places), widths.ctypes.data),
        *(len(layers), ACTIVATIONS.index(activation), joined, slots),
        *(addresses(name, tokens, "int32"), addresses(name, parts), softmax, TOGETHER, addresses(name, scratch)),
    )
    owners = tables, weights, biases, widths, codes, places, tokens, parts, scratch
    return TokenHead(struct, int(widths[-1]), sizes, owners)


def _shares(size: int, left: int, right: int) -> tuple[int, int]:
    """Return shares of `size` for two wanted sizes: half each, and what the other leaves over."""
    first = min(left, max(size // 2, size - right))
    return first, min(right, size - first)


def score_tokens(head: TokenHead, tokens: tuple[Int32, Int32]) -> Float32:
    """Return the outputs (P, C) of pairs of tokens other than 0, (P,) each."""
    left, right = tokens
    check_shapes("score_tokens", tokens1=(right, left.shape))
    at = [check_range("score_tokens", f"tokens{i}", ids, head.sizes[i]) for i, ids in enumerate(tokens)]
    out = np.empty((len(left), head.scores), np.float32)
    functions(ctypes.PyDLL)["score_tokens"](byref(head.struct), *at, len(left), address(out))
    return out
