"""LSTM layers over sequences without padding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from object2vec.ops.arguments import call as _call
from object2vec.ops.arguments import (
    check_offsets,
    check_shapes,
)


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
    check_offsets("lstm_layer", "starts", starts, len(gates))
    check_shapes("lstm_layer", w=(weight, (4 * units, units)), gates=(gates, (len(gates), 4 * units)))
    cell, hidden = gates.new_empty(len(gates), units), gates.new_empty(len(gates), units)
    _call("lstm_layer", len(starts) - 1, starts, int(backward), units, gates, weight, cell, hidden)
    return hidden
