"""LSTM layers over sequences of unequal length, without padding.

Rows are ordered by step: all first tokens, then all second ones, the longest sequence first in each. So the first rows
of a step continue those of the step before. Shapes: n tokens, I inputs, U units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from object2vec.ops.arguments import call, check_offsets, check_shapes, usable

#: Up to so many sequences, `lstm_layer` is faster than torch's products.
FEW_ROWS = 16


@dataclass(frozen=True, slots=True)
class Steps:
    """The order of tokens by step: step t has rows starts[t] to starts[t + 1] - 1."""

    starts: Sequence[int]
    token: Tensor  # (n,): the token of each row
    row: Tensor  # (n,): the row of each token
    backward: bool = False

    @classmethod
    def from_offsets(cls, offsets: Tensor) -> Steps:
        """Return the order of sequences with `offsets` (N + 1,)."""
        lengths = offsets.diff()
        numbers = torch.arange(len(lengths), device=lengths.device)
        sequence = numbers.repeat_interleave(lengths)
        rank = torch.empty_like(lengths)
        rank[lengths.argsort(descending=True, stable=True)] = numbers
        time = torch.arange(len(sequence), device=lengths.device) - offsets[:-1][sequence]
        active = torch.bincount(time)
        starts = nn.functional.pad(active.cumsum(0), (1, 0))
        row = starts[time] + rank[sequence]
        token = torch.empty_like(row)
        token[row] = torch.arange(len(row), device=row.device)
        return cls(starts.tolist(), token, row)

    def reversed(self) -> Steps:
        """Return the same rows in the order from the last step to the first."""
        return replace(self, backward=not self.backward)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def max_rows(self) -> int:
        """Return the rows of the first step: the number of sequences with tokens."""
        return self.starts[1] if len(self) else 0

    def rows(self, step: int) -> slice:
        """Return the rows of a step."""
        return slice(self.starts[step], self.starts[step + 1])

    def in_order(self) -> list[tuple[slice, slice]]:
        """Return each step's rows, and the rows of the step before that its first rows continue, in order."""
        numbers = list(range(len(self)))[:: -1 if self.backward else 1]
        pairs = [(self.rows(numbers[0]), slice(0, 0))] if numbers else []
        for last, this in pairwise(numbers):
            before, now = self.rows(last), self.rows(this)
            continuing = min(before.stop - before.start, now.stop - now.start)
            pairs.append((now, slice(before.start, before.start + continuing)))
        return pairs


def run_lstm(lstm: nn.LSTM, x: Tensor, steps: Steps) -> Tensor:
    """Return the output (n, U) of one layer over rows `x` (n, I), in one direction."""
    if not usable(x):
        return _run_lstm_torch(lstm, x, steps)
    weights = (getattr(lstm, name) for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"))
    if torch.is_inference_mode_enabled() and steps.max_rows <= FEW_ROWS:
        return _run_few(x, *weights, steps=steps)
    hidden: Tensor = _LSTM.apply(x, *weights, steps)  # type: ignore[no-untyped-call]
    return hidden


def _run_few(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, *, steps: Steps) -> Tensor:
    """Use one product for the inputs of all steps, and a kernel for the rest; keep nothing for a gradient."""
    gates = torch.addmm(b_ih + b_hh, x, w_ih.t())
    return lstm_layer(np.array(steps.starts, np.int64), steps.backward, gates, w_hh)


def _run_lstm_torch(lstm: nn.LSTM, x: Tensor, steps: Steps) -> Tensor:
    """Use torch's LSTM, which runs forward: backward is forward over each reversed sequence."""
    if not len(steps):
        return x.new_empty(0, lstm.hidden_size)
    sizes = torch.tensor(steps.starts).diff()
    reversed_rows = _reversed(steps, sizes).to(x.device) if steps.backward else None
    packed = PackedSequence(x if reversed_rows is None else x[reversed_rows], sizes)
    hidden: Tensor = lstm(packed)[0].data
    return hidden if reversed_rows is None else hidden[reversed_rows]


def _reversed(steps: Steps, sizes: Tensor) -> Tensor:
    """Return for each row the row at the same distance from the end of its sequence, (n,)."""
    starts = torch.tensor(steps.starts)
    time = torch.arange(len(sizes)).repeat_interleave(sizes)
    rank = torch.arange(len(time)) - starts[time]
    lengths = torch.bincount(rank)
    return starts[lengths[rank] - 1 - time] + rank


class _LSTM(torch.autograd.Function):
    """One product for the inputs of all steps, one a step for the hidden state, and a kernel for the rest."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, steps: Steps) -> Tensor:
        units = w_hh.shape[1]
        gates = torch.addmm(b_ih + b_hh, x, w_ih.t())
        cell, hidden = x.new_empty(len(x), units), x.new_empty(len(x), units)
        for now, before in steps.in_order():
            continuing = slice(now.start, now.start + before.stop - before.start)
            gates[continuing].addmm_(hidden[before], w_hh.t())
            lstm_forward(gates[now], cell[before], cell[now], hidden[now])
        ctx.save_for_backward(x, w_ih, w_hh, gates, cell, hidden)
        ctx.steps = steps
        return hidden

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, saved_gates, cell, hidden = ctx.saved_tensors
        gates = saved_gates.clone()  # becomes the gradient of the pre-activations
        order = ctx.steps.in_order()
        d_hidden = grads[0].contiguous().clone()
        max_rows = max((now.stop - now.start for now, _ in order), default=0)
        d_cell = x.new_zeros(max_rows, hidden.shape[1])
        d_w_hh = torch.zeros_like(w_hh)
        for now, before in reversed(order):
            rows, continuing = now.stop - now.start, before.stop - before.start
            lstm_backward(gates[now], cell[before], cell[now], d_hidden[now], d_cell[:rows])
            step = gates[now.start : now.start + continuing]
            d_hidden[before].addmm_(step, w_hh)
            d_w_hh.addmm_(step.t(), hidden[before])
            d_cell[continuing:rows] = 0
        d_bias = gates.sum(0)
        d_x = gates @ w_ih if ctx.needs_input_grad[0] else None
        return d_x, gates.t() @ x, d_w_hh, d_bias, d_bias, None


def _check_step(kernel: str, gates: Tensor, before: Tensor, **others: Tensor) -> None:
    units = before.shape[-1]
    wanted = len(gates), units
    check_shapes(kernel, gates=(gates, (len(gates), 4 * units)), before=(before, (min(len(before), len(gates)), units)))
    check_shapes(kernel, **{name: (value, wanted) for name, value in others.items()})


def lstm_forward(gates: Tensor, before: Tensor, cell: Tensor, hidden: Tensor) -> None:
    """Make the point-wise part of an LSTM step of n rows; `gates` (n, 4 U) hold pre-activations, then the gates.

    Writes `cell` and `hidden` (n, U). `before` holds the cells before the step of the first rows; the others start
    with zeros.
    """
    _check_step("lstm_forward", gates, before, cell=cell, hidden=hidden)
    call("lstm_forward", len(gates), len(before), cell.shape[1], gates, before, cell, hidden)


def lstm_backward(gates: Tensor, before: Tensor, cell: Tensor, d_hidden: Tensor, d_cell: Tensor) -> None:
    """Make the backward pass: `gates` become the gradient of the pre-activations, `d_cell` that of `before`."""
    _check_step("lstm_backward", gates, before, cell=cell, d_hidden=d_hidden, d_cell=d_cell)
    call("lstm_backward", len(gates), len(before), cell.shape[1], gates, before, cell, d_hidden, d_cell)


def lstm_layer(starts: npt.NDArray[np.int64], backward: bool, gates: Tensor, weight: Tensor) -> Tensor:
    """Return the output (n, U) of a layer over n rows that are ordered by step, in one direction.

    `gates` (n, 4 U) hold the products of the inputs plus biases, and then the gates; `weight` (4 U, U) is that of the
    hidden state. It is fast for at most `FEW_ROWS` sequences.
    """
    units = weight.shape[1]
    check_offsets("lstm_layer", "starts", starts, len(gates))
    check_shapes("lstm_layer", w=(weight, (4 * units, units)), gates=(gates, (len(gates), 4 * units)))
    cell, hidden = gates.new_empty(len(gates), units), gates.new_empty(len(gates), units)
    call("lstm_layer", len(starts) - 1, starts, int(backward), units, gates, weight, cell, hidden)
    return hidden
