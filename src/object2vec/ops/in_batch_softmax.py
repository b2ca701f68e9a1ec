"""Softmax cross-entropy of each pair among the candidates of its batch.

Shapes: N objects of in0, M candidates, P pairs, Q given negatives, D numbers a factor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from object2vec.ops.arguments import check_shapes

#: Scores that are computed at a time: they stay in a core's cache, and the memory does not depend on the batch.
BLOCK_SCORES: Final = 2**19


class GivenNegatives(NamedTuple):
    """Candidates of single objects of in0: i = `left`[q] has the candidate j = `right`[q], (Q,) int64 each.

    All pairs differ, and `left` ascends. The last `row_only` of the M objects of in1 are candidates only so.
    """

    left: Tensor
    right: Tensor
    row_only: int


def in_batch_softmax(
    factors: tuple[Tensor, Tensor],
    bias: Tensor,
    index: tuple[Tensor, Tensor],
    weight: Tensor,
    negatives: GivenNegatives | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of the losses of P positive pairs, and whether each has the best score, (P,).

    The score of i and j is factors[0][i] @ factors[1][j] + bias[j], of factors (N, D) and (M, D). Pair p is
    (index[0][p], index[1][p]), int64, and has `weight` (P,). The candidates of a pair are itself, every j that is no
    positive of its i, and the given negatives of its i.
    """
    (left, right), (rows, columns) = factors, index
    dim, (pairs,) = left.shape[1], rows.shape
    shapes = {"columns": (columns, (pairs,)), "weight": (weight, (pairs,))}
    check_shapes("in_batch_softmax", right=(right, (len(right), dim)), bias=(bias, (len(right),)), **shapes)
    given = left, right, bias, rows, columns, weight, negatives or GivenNegatives(rows[:0], rows[:0], 0)
    if not torch.is_grad_enabled():
        return _loss_and_grads(*given, with_grads=False)[:2]
    loss, is_best = _InBatchSoftmax.apply(*given)  # type: ignore[no-untyped-call]
    return loss, is_best


class _InBatchSoftmax(torch.autograd.Function):
    """Computes the gradients in the forward pass, a block of scores at a time, so that no pass needs all scores."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor]:
        loss, is_best, grads = _loss_and_grads(*given, with_grads=True)
        ctx.save_for_backward(*grads)
        ctx.mark_non_differentiable(is_best)
        return loss, is_best

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(grads[0] * grad for grad in ctx.saved_tensors), None, None, None, None


def _loss_and_grads(
    left: Tensor,
    right: Tensor,
    bias: Tensor,
    rows: Tensor,
    columns: Tensor,
    weight: Tensor,
    negatives: GivenNegatives,
    *,
    with_grads: bool,
) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
    """Return the loss, whether each pair has the best score, and the gradients of `left`, `right` and `bias`."""
    shared = len(right) - negatives.row_only
    size = max(1, BLOCK_SCORES // max(1, shared))
    rows, order = torch.sort(rows, stable=True)
    columns, weight = columns[order], weight[order]
    starts = range(0, len(left), size)
    of_blocks = zip(starts, _parts(rows, starts), _parts(negatives.left, starts), strict=True)
    grads = torch.empty_like(left), torch.zeros_like(right), torch.zeros_like(bias)
    loss, is_best = left.new_zeros(()), torch.empty_like(rows, dtype=torch.bool)
    scores = left.new_empty(min(size, len(left)), shared)
    for start, own, other in of_blocks:
        block, row, own_weight = left[start : start + size], rows[own] - start, weight[own]
        score = torch.addmm(bias[:shared], block, right[:shared].t(), out=scores[: len(block)])
        position = row * shared + columns[own]
        positive = score.view(-1)[position]
        score.view(-1)[position] = -torch.inf
        given_row, given_column = negatives.left[other] - start, negatives.right[other]
        given = (block[given_row] * right[given_column]).sum(1) + bias[given_column]
        best = score.amax(1).clamp_(min=torch.finfo(score.dtype).min).scatter_reduce_(0, given_row, given, "amax")
        given = (given - best[given_row]).exp_()
        total = score.sub_(best[:, None]).exp_().sum(1).index_add_(0, given_row, given)
        margin = (total.log() + best)[row] - positive
        loss += own_weight @ softplus(margin)
        is_best[order[own]] = positive > best[row]
        if not with_grads:
            continue
        margin_grad = own_weight * margin.sigmoid()
        share = torch.zeros_like(total).index_add_(0, row, margin_grad) / total.clamp_(
            min=torch.finfo(total.dtype).tiny
        )
        score.mul_(share[:, None]).view(-1).index_add_(0, position, -margin_grad)
        grad = torch.mm(score, right[:shared], out=grads[0][start : start + size])
        grads[1][:shared].addmm_(score.t(), block)
        grads[2][:shared].add_(score.sum(0))
        given *= share[given_row]
        grad.index_add_(0, given_row, given[:, None] * right[given_column])
        grads[1].index_add_(0, given_column, given[:, None] * block[given_row])
        grads[2].index_add_(0, given_column, given)
    return loss, is_best, grads if with_grads else ()


def _parts(rows: Tensor, starts: range) -> Iterator[slice]:
    """Return which of ascending `rows` are in each block of rows."""
    ends = torch.searchsorted(rows, torch.tensor([*starts, starts.stop], device=rows.device)).tolist()
    return (slice(first, last) for first, last in pairwise(ends))
