"""Embeddings of tokens and their means, gradients of a table by rows, and optimizer steps on rows.

Shapes: N sequences, n tokens in all, E numbers an embedding, V ids in the vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from ctypes import byref
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from object2vec.ops.arguments import MAX_DIM, check_offsets, check_range, check_shapes, readable, table_struct, usable
from object2vec.ops.arguments import call as _call
from object2vec.ops.codes import OPTIMIZERS


class RowGradient(NamedTuple):
    """The gradient of a table by rows: row ids[j] gets scale[s] * grad[s], where s is source[j].

    Rows are summed only where they are used, so nothing of the table's size is allocated.
    """

    ids: Tensor  # (n,) int64
    source: Tensor  # (n,) int64
    scale: Tensor  # (m,)
    grad: Tensor  # (m, E)

    @classmethod
    def from_rows(cls, ids: Tensor, grad: Tensor) -> RowGradient:
        """Return the gradient that adds grad[j] to row ids[j]."""
        return cls(ids, torch.arange(len(ids), device=ids.device), grad.new_ones(len(grad)), grad)

    @classmethod
    def concatenate(cls, parts: Sequence[RowGradient], grad: Tensor | None = None) -> RowGradient:
        """Return the sum of several gradients of one table; `grad` is their `grad` concatenated, if it exists."""
        starts = itertools.accumulate((len(part.grad) for part in parts[:-1]), initial=0)
        return cls(
            ids=torch.cat([part.ids for part in parts]),
            source=torch.cat([part.source + start for part, start in zip(parts, starts, strict=True)]),
            scale=torch.cat([part.scale for part in parts]),
            grad=torch.cat([part.grad for part in parts]) if grad is None else grad,
        )

    def to_dense(self, weight: Tensor) -> Tensor:
        """Return the gradient of the whole table, (V, E)."""
        dense = torch.zeros_like(weight)
        if usable(weight):
            add_rows(dense, group_by_id(self.ids, self.source, _lut(weight)), self)
        else:
            dense.index_add_(0, self.ids, self._by_id())
        return dense

    def compact(self, weight: Tensor, *, always: bool = False) -> RowGradient:
        """Return the same gradient in the shorter of two forms: as it is, or summed by id.

        If `always`, or on a GPU, it is summed: it adds in any order, and one rank's sum must serve for all ranks.
        """
        if usable(weight):
            groups = group_by_id(self.ids, self.source, _lut(weight))
            ids = groups.rows
            if len(self.grad) <= len(ids) and not always:
                return self
            summed = weight.new_zeros(len(ids), weight.shape[1])
            add_rows(summed, groups._replace(rows=torch.arange(len(ids))), self)
        else:
            ids, place = torch.unique(self.ids, return_inverse=True)
            summed = weight.new_zeros(len(ids), weight.shape[1]).index_add_(0, place, self._by_id())
        return RowGradient.from_rows(ids, summed)

    @classmethod
    def sum_in_order(cls, weight: Tensor, parts: Sequence[RowGradient], grad: Tensor) -> RowGradient:
        """Return the sum of gradients that `compact` made, added in their order; `grad` is theirs, concatenated."""
        if usable(weight):  # the kernels add an id's rows in their order
            return cls.concatenate(parts, grad)
        ids, row = torch.unique(torch.cat([part.ids for part in parts]), return_inverse=True)
        summed = grad.new_zeros(len(ids), weight.shape[1])
        for rows, part in zip(row.split([len(part.ids) for part in parts]), parts, strict=True):
            summed.index_add_(0, rows, part.grad)  # a GPU adds in any order: one part at a time
        return cls.from_rows(ids, summed)

    def _by_id(self) -> Tensor:
        """Return what each of `ids` adds, (n, E)."""
        return (self.grad * self.scale[:, None])[self.source]


def row_grad(weight: Tensor) -> RowGradient | None:
    """Return `weight.row_grad`, the gradient of a table by rows; None if it has none."""
    found: RowGradient | None = getattr(weight, "row_grad", None)
    return found


def set_row_grad(weight: Tensor, grad: RowGradient | None) -> None:
    """Set `weight.row_grad`."""
    weight.row_grad = grad  # type: ignore[attr-defined]  # as torch has weight.grad


def accumulate_row_grad(weight: Tensor, grad: RowGradient) -> None:
    """Add to `weight.row_grad`, as autograd adds to `weight.grad`."""
    before = row_grad(weight)
    set_row_grad(weight, grad if before is None else RowGradient.concatenate([before, grad]))


def mean_pool(
    weight: Tensor, values: Tensor, offsets: Tensor, counts: Tensor | None = None, power: float = 0.0
) -> Tensor:
    """Return the mean embedding of each sequence, (N, E), times its number of tokens to the `power`.

    `weight` is (V, E). Sequence i is values[offsets[i]:offsets[i + 1]]. Id 0 counts as no token, and no token gives
    zeros. `counts` (N,) are other numbers of tokens to use. The gradient goes to `weight.row_grad`.
    """
    pooled, scale = _mean_pool(weight.detach(), values, offsets)
    used = None
    if torch.is_grad_enabled() and weight.requires_grad:
        used = _used_tokens(values, offsets, scale)
    if power:
        tokens = torch.where(scale > 0, 1 / scale, 0).round() if counts is None else counts.to(scale.dtype)
        factor = tokens**power
        pooled, scale = pooled * factor[:, None], scale * factor
    return pooled if used is None else _attach(weight, pooled, *used, scale)


def gather_rows(weight: Tensor, values: Tensor) -> Tensor:
    """Return the embedding of each token, (n, E); the gradient goes to `weight.row_grad`."""
    rows = _float_rows(weight.detach(), values)
    return _attach(weight, rows, values, torch.arange(len(values), device=values.device), rows.new_ones(len(rows)))


def gather_line(weight: Tensor, values: Tensor, place: Tensor, inside: Tensor) -> Tensor:
    """Return the embeddings of n tokens at their places (n,) of a line (L, E), where `inside` (L, 1) is 1, else 0."""
    ids = values.new_zeros(len(inside)).index_copy_(0, place, values)
    line = _float_rows(weight.detach(), ids).mul_(inside)
    return _attach(weight, line, values, place, line.new_ones(len(line)))


def _attach(weight: Tensor, rows: Tensor, ids: Tensor, source: Tensor, scale: Tensor) -> Tensor:
    """Return `rows` with a gradient that goes to `weight.row_grad`; see `RowGradient`."""
    attached: Tensor = _Attach.apply(weight, rows, ids, source, scale)  # type: ignore[no-untyped-call]
    return attached


class _Attach(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor, *tokens: Tensor) -> Tensor:
        ctx.weight, ctx.tokens = weight, tokens
        return rows

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
        accumulate_row_grad(ctx.weight, RowGradient(*ctx.tokens, *grads))
        return (None,) * 5


def _mean_pool(weight: Tensor, values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean embedding of each sequence, (N, E), and the weight of each of its tokens, (N,)."""
    if readable(weight):
        return mean_pool_kernel(weight, values, offsets)
    sequence = _sequence(values, offsets)
    count = torch.zeros_like(offsets[1:]).index_add_(0, sequence, (values != 0).long())
    if weight.dtype == torch.float16:  # means are float32
        scale = torch.where(count > 0, 1 / count, 0)
        rows = _float_rows(weight, values).mul_((scale[sequence] * (values != 0))[:, None])
        return rows.new_zeros(len(scale), weight.shape[1]).index_add_(0, sequence, rows), scale
    scale = torch.where(count > 0, 1 / count, 0).to(weight.dtype)
    return nn.functional.embedding_bag(values, weight, offsets[:-1], mode="mean", padding_idx=0), scale


def _used_tokens(values: Tensor, offsets: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ids other than 0 and the sequence of each, for the `scale` of `_mean_pool`."""
    if values.shape == scale.shape and bool((scale == 1).all()):  # one token each: the usual case is fast
        return values, offsets[:-1]
    used = values.nonzero()[:, 0]
    return values.index_select(0, used), _sequence(values, offsets).index_select(0, used)


def _sequence(values: Tensor, offsets: Tensor) -> Tensor:
    """Return the sequence that each of `values` belongs to, (n,)."""
    numbers = torch.arange(offsets.shape[0] - 1, device=offsets.device)
    return numbers.repeat_interleave(offsets.diff(), output_size=values.shape[0])


def _float_rows(weight: Tensor, values: Tensor) -> Tensor:
    """Return the embeddings of n tokens, (n, E); those of a table in half precision as float32."""
    rows = weight[values]
    return rows.float() if rows.dtype == torch.float16 else rows


def has_row_kernels(weight: Tensor, kind: str) -> bool:
    """Return whether `step_rows` is faster than a dense step of torch, also if every row is to be stepped."""
    return kind in OPTIMIZERS and usable(weight)


class OptimizerStep(NamedTuple):
    """Step number `step`, counted from 1, of sgd, adagrad or adam."""

    kind: str
    learning_rate: float
    weight_decay: float = 0.0
    step: int = 1


def step_rows(
    step: OptimizerStep, weight: Tensor, state: Sequence[Tensor], grad: RowGradient, *, all_rows: bool = False
) -> None:
    """Step the rows of `weight` in `grad`, in place.

    `state` holds the optimizer's tables, (V, E) each. With `all_rows`, the kernels step the other rows as well, with a
    gradient of zeros.
    """
    if not usable(weight):
        _step_rows_torch(step, weight, state, grad)
        return
    lut = _lut(weight)
    groups = group_by_id(grad.ids, grad.source, lut)
    _step_groups(step, weight, state, groups, grad, lut if all_rows else None)


def _step_rows_torch(step: OptimizerStep, weight: Tensor, state: Sequence[Tensor], grad: RowGradient) -> None:
    rows, place = torch.unique(grad.ids, return_inverse=True)
    values = weight[rows]
    summed = (step.weight_decay * values).index_add_(0, place, grad._by_id())
    columns = [column[rows] for column in state]
    weight[rows] = values - step.learning_rate * step_direction(summed, columns, step.step)
    for column, new in zip(state, columns, strict=True):
        column[rows] = new


def step_direction(grad: Tensor, state: Sequence[Tensor], step: int) -> Tensor:
    """Return the factor of the learning rate in a step of sgd, adagrad or adam; `state` is updated in place."""
    match state:
        case []:
            return grad
        case [total]:
            total.addcmul_(grad, grad)
            return grad / (total.sqrt() + 1e-7)
        case _:
            mean, square = state
            mean.lerp_(grad, 0.1)
            square.mul_(0.999).addcmul_(grad, grad, value=0.001)
            return mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)


def _lut(weight: Tensor) -> Tensor:
    """Return the scratch of `group_by_id` for a table, (V,) int32 of -1, which is kept on the table."""
    lut: Tensor | None = getattr(weight, "row_lut", None)
    if lut is None:
        lut = torch.full((len(weight),), -1, dtype=torch.int32)
        weight.row_lut = lut  # type: ignore[attr-defined]
    return lut


# ----------------------------------------------------------------------------------------------------------------------
# Kernel calls
# ----------------------------------------------------------------------------------------------------------------------


def mean_pool_kernel(table: Tensor, values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean row of each bag of ids, (N, E), and 1 / tokens of each, (N,); id 0 counts as no token.

    `table` is (V, E) float32 or float16, `values` (n,) and `offsets` (N + 1,) are int64, and bag i is
    values[offsets[i]:offsets[i + 1]].
    """
    rows = table_struct(table)
    size, dim = table.shape
    check_range("mean_pool", "values", values, size)
    count = check_offsets("mean_pool", "offsets", offsets, values.shape[0])
    out, scale = torch.empty(count, dim), torch.empty(count)
    _call("mean_pool", byref(rows), values, offsets, count, out, scale)
    return out, scale


class Groups(NamedTuple):
    """The unique ids among n with their origins: id rows[r] has origins[starts[r]:starts[r + 1]]; int64."""

    rows: Tensor
    starts: Tensor
    origins: Tensor


def group_by_id(values: Tensor, origin: Tensor, lut: Tensor) -> Groups:
    """Group n ids by value, with the origin of each; all int64.

    `lut` is scratch: one int32 an id of the vocabulary, all -1 before and after.
    """
    count = values.shape[0]
    check_shapes("group_by_id", origin=(origin, (count,)))
    check_range("group_by_id", "values", values, lut.shape[0])
    rows, starts, origins = values.new_empty(count), values.new_empty(count + 1), values.new_empty(count)
    found = _call("group_by_id", values, origin, count, lut, rows, starts, origins)
    return Groups(rows[:found], starts[: found + 1], origins)


def _step_groups(
    step: OptimizerStep, table: Tensor, state: Sequence[Tensor], groups: Groups, grad: RowGradient, lut: Tensor | None
) -> None:
    """Step the rows of `table` (V, E) that `groups` names, in place.

    `groups` come from `group_by_id`, which has checked the ids; their origins are sources of `grad`. The gradient of a
    row is the sum over its origins. `state` holds the optimizer's tables, shaped like `table`. With the scratch of
    `group_by_id` as `lut`, all other rows are stepped with a gradient of zeros.
    """
    first, second = [*state, table, table][:2]  # unused pointers
    (rows, starts, origins), scale, values = groups, grad.scale, grad.grad.contiguous()
    (size, dim), sources = table.shape, scale.shape[0]
    check_shapes("update_rows", first=(first, table.shape), second=(second, table.shape), grad=(values, (sources, dim)))
    check_range("update_rows", "origins", origins, sources)
    if not 0 < dim <= MAX_DIM:
        raise ValueError(f"update_rows: a row has {dim} numbers, wanted 1 to {MAX_DIM}")
    given = table, first, second, dim, size, lut, rows, rows.shape[0], starts, origins, scale, values
    _call("update_rows", OPTIMIZERS.index(step.kind), *given, *step[1:])


def add_rows(table: Tensor, groups: Groups, grad: RowGradient) -> None:
    """Add the summed gradient of each row that `groups` names to that row of `table`."""
    rows, starts, origins = groups
    check_shapes("update_rows", starts=(starts, (len(rows) + 1,)))
    check_range("update_rows", "rows", rows, len(table))
    check_offsets("update_rows", "starts", starts, len(origins))
    _step_groups(OptimizerStep("sgd", -1.0), table, (), groups, grad, None)
