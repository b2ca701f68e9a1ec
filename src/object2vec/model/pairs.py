"""Scores of pairs straight from the encodings of their objects, where no feed-forward layer stands between.

Shapes: N and M objects of either side, P pairs, D numbers an encoding, C scores a pair, F of comparators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from object2vec import kernels


def score_pairs(
    u: Tensor, v: Tensor, index: tuple[Tensor, Tensor], comparators: Sequence[str], weight: Tensor, bias: Tensor
) -> Tensor:
    """The output (P, C) of an output layer, weight (C, F) and bias (C,), on what the comparators give.

    Pair p is object index[0][p] of `u` (N, D) with index[1][p] of `v` (M, D).
    """
    terms = _by_term(weight, comparators, u.shape[1])
    kinds = "concat" in comparators, "abs_diff" in comparators
    scores: Tensor = _ScorePairs.apply(u, v, *index, terms, kinds, bias)  # type: ignore[no-untyped-call]
    return scores


def _by_term(weight: Tensor, comparators: Sequence[str], dim: int) -> Tensor:
    """The weight as what stands before u * v, u, v and |u - v|, (C, 4, D); 0 where no comparator gives it."""
    terms = {}
    start = 0
    for name in comparators:
        for term in {"hadamard": (0,), "concat": (1, 2), "abs_diff": (3,)}[name]:
            terms[term] = weight[:, start : start + dim]
            start += dim
    nothing = weight.new_zeros(len(weight), dim)
    return torch.stack([terms.get(term, nothing) for term in range(4)], dim=1)


class _ScorePairs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        v: Tensor,
        left: Tensor,
        right: Tensor,
        weight: Tensor,
        kinds: tuple[bool, bool],
        bias: Tensor,
    ) -> Tensor:
        u, v, weight = u.contiguous(), v.contiguous(), weight.contiguous()
        ctx.save_for_backward(u, v, left, right, weight)
        ctx.kinds = kinds
        return kernels.score_pairs(u, v, left, right, kernels.Output(weight, *kinds), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        u, v, left, right, weight = ctx.saved_tensors
        slope = gradients[0].contiguous()
        output = kernels.Output(weight, *ctx.kinds)
        d_u, d_v, d_weight = kernels.score_pairs_backward(u, v, left, right, output, slope)
        return d_u, d_v, None, None, d_weight, None, slope.sum(0)
