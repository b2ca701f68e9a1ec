"""Mean embeddings, and steps of the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref
from typing import NamedTuple

import torch
from torch import Tensor

from object2vec.ops.arguments import (
    MAX_DIM,
    check_offsets,
    check_range,
    check_shapes,
    table_struct,
)
from object2vec.ops.arguments import call as _call
from object2vec.ops.structs import OPTIMIZER_KINDS


def pool(table: Tensor, values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """The mean row of each bag of ids, (N, E), and 1 / tokens of each, (N,); id 0 counts as no token.

    `table` is (V, E) float32 or float16, `values` (n,) and `offsets` (N + 1,) are int64, and bag i is
    values[offsets[i]:offsets[i + 1]].
    """
    rows = table_struct(table)
    count, dim = check_offsets("mean_pool", "offsets", offsets, len(values)), table.shape[1]
    check_range("mean_pool", "values", values, len(table))
    out, scale = torch.empty(count, dim), torch.empty(count)
    _call("mean_pool", byref(rows), values, offsets, count, out, scale)
    return out, scale


def spread(values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """The ids other than 0 of N bags, and which bag each is of; all int64, the bags as in `pool`."""
    count = check_offsets("drop_zero_ids", "offsets", offsets, len(values))
    out, origin = torch.empty_like(values), torch.empty_like(values)
    found = _call("drop_zero_ids", values, offsets, count, out, origin)
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
    check_shapes("group_by_id", origin=(origin, (count,)))
    check_range("group_by_id", "values", values, len(lut))
    rows, starts, origins = values.new_empty(count), values.new_empty(count + 1), values.new_empty(count)
    found = _call("group_by_id", values, origin, count, lut, rows, starts, origins)
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
    name = "update_rows" if lut is None else "update_table"
    check_shapes(name, first=(first, table.shape), second=(second, table.shape), scale=(scale, (len(gradient),)))
    check_shapes(
        name,
        grad=(gradient, (len(scale), table.shape[1])),
        **({} if lut is None else {"lut": (lut, (len(table),))}),
    )
    check_shapes(name, starts=(starts, (len(rows) + 1,)))
    check_range(name, "rows", rows, len(table))
    check_offsets(name, "starts", starts, len(origins))
    check_range(name, "origins", origins, len(scale))
    _check_dim(name, table.shape[1])
    kind_and_tables = OPTIMIZER_KINDS[kind], *given
    _call(name, *kind_and_tables, rows, len(rows), starts, origins, scale, gradient, rate, decay, *corrections)


def add_rows(table: Tensor, groups: Groups, scale: Tensor, gradient: Tensor) -> None:
    """Add to the rows of `table` that `groups` names the sums that `step_rows` takes for their gradients."""
    step_rows("sgd", table, (), groups, scale, gradient, rate=-1.0)


def _check_dim(kernel: str, dim: int) -> None:
    if dim > MAX_DIM:
        raise ValueError(f"{kernel}: a row has {dim} numbers, wanted {MAX_DIM} at most")
