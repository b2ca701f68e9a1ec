"""LSTM layers over sequences of unequal length, without padding.

Rows are ordered by step: all first tokens, then all second ones, the longest sequence first in each. So the first rows
of a step continue those of the step before. A backward layer runs forward over reversed sequences. Shapes: n tokens,
I inputs, U units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from object2vec.ops.arguments import call, check_offsets, check_shapes, usable

#: Up to this number of sequences, `lstm_layer` is faster than torch's products.
FEW_ROWS = 16


@dataclass(frozen=True, slots=True)
class Steps:
    """The order of tokens by step: step t has rows starts[t] to starts[t + 1] - 1."""

    starts: Sequence[int]
    token: Tensor  # (n,): the token of each row
    row: Tensor  # (n,): the row of each token
    mirror: Tensor  # (n,): for each row, the one at the same distance from the other end of its sequence

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
        mirror = starts[lengths[sequence] - 1 - time] + rank[sequence]
        return cls(starts.tolist(), token, row, mirror[token])

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def max_rows(self) -> int:
        """Return the rows of the first step: the number of sequences with tokens."""
        return self.starts[1] if len(self) else 0

    def in_order(self) -> list[tuple[slice, slice]]:
        """Return each step's rows, and the rows of the step before that they continue, in order."""
        bounds = zip([0, *self.starts], self.starts, self.starts[1:], strict=False)
        return [
            (slice(start, stop), slice(before, before + stop - start if start else 0)) for before, start, stop in bounds
        ]


def run_lstm(lstm: nn.LSTM, x: Tensor, steps: Steps) -> Tensor:
    """Return the output (n, U) of one layer over rows `x` (n, I)."""
    if not usable(x):
        return _run_lstm_torch(lstm, x, steps)
    weights = (getattr(lstm, name) for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"))
    if torch.is_inference_mode_enabled() and steps.max_rows <= FEW_ROWS:
        w_ih, w_hh, b_ih, b_hh = weights
        return lstm_layer(steps, torch.addmm(b_ih + b_hh, x, w_ih.t()), w_hh)
    hidden: Tensor = _LSTM.apply(x, *weights, steps)  # type: ignore[no-untyped-call]
    return hidden


def _run_lstm_torch(lstm: nn.LSTM, x: Tensor, steps: Steps) -> Tensor:
    if not len(steps):
        return x.new_empty(0, lstm.hidden_size)
    hidden: Tensor = lstm(PackedSequence(x, torch.tensor(steps.starts).diff()))[0].data
    return hidden


class _LSTM(torch.autograd.Function):
    """One product for the inputs of all steps, one a step for the hidden state, and a kernel for the rest."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, steps: Steps) -> Tensor:
        units = w_hh.shape[1]
        gates = torch.addmm(b_ih + b_hh, x, w_ih.t())
        cell, hidden = x.new_empty(len(x), units), x.new_empty(len(x), units)
        for now, before in steps.in_order():
            if now.start:
                gates[now].addmm_(hidden[before], w_hh.t())
            lstm_step("lstm_forward", gates[now], cell[before], cell=cell[now], hidden=hidden[now])
        ctx.save_for_backward(x, w_ih, w_hh, gates, cell, hidden)
        ctx.steps = steps
        return hidden

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, saved_gates, cell, hidden = ctx.saved_tensors
        gates = saved_gates.clone()  # becomes the gradient of the pre-activations
        d_hidden = grads[0].contiguous().clone()
        d_cell = x.new_zeros(ctx.steps.max_rows, hidden.shape[1])
        d_w_hh = torch.zeros_like(w_hh)
        for now, before in reversed(ctx.steps.in_order()):
            states = {"cell": cell[now], "d_hidden": d_hidden[now], "d_cell": d_cell[: now.stop - now.start]}
            lstm_step("lstm_backward", gates[now], cell[before], **states)
            if now.start:
                d_hidden[before].addmm_(gates[now], w_hh)
                d_w_hh.addmm_(gates[now].t(), hidden[before])
        d_bias = gates.sum(0)
        d_x = gates @ w_ih if ctx.needs_input_grad[0] else None
        return d_x, gates.t() @ x, d_w_hh, d_bias, d_bias, None


def lstm_step(kernel: str, gates: Tensor, before: Tensor, **others: Tensor) -> None:
    """Make the point-wise part of an LSTM step of n rows, forward or backward.

    `lstm_forward` writes `cell` and `hidden` (n, U). `gates` (n, 4 U) hold pre-activations, then the gates. `before`
    holds the cells before the step of the first rows; the others start with zeros. `lstm_backward` reads `cell` and
    `d_hidden`. It turns `gates` into the gradient of the pre-activations, and `d_cell` into that of `before`.
    """
    rows, units = len(gates), before.shape[1]
    check_shapes(kernel, gates=(gates, (rows, 4 * units)), before=(before, (min(len(before), rows), units)))
    check_shapes(kernel, **{name: (value, (rows, units)) for name, value in others.items()})
    call(kernel, rows, len(before), units, gates, before, *others.values())


def lstm_layer(steps: Steps, gates: Tensor, weight: Tensor) -> Tensor:
    """Return the output (n, U) of a layer over n rows; no gradient.

    `gates` (n, 4 U) hold the products of the inputs plus biases, and then the gates; `weight` (4 U, U) is that of the
    hidden state. It is fast for at most `FEW_ROWS` sequences.
    """
    units, starts = weight.shape[1], np.array(steps.starts, np.int64)
    check_offsets("lstm_layer", "starts", starts, len(gates))
    check_shapes("lstm_layer", w=(weight, (4 * units, units)), gates=(gates, (len(gates), 4 * units)))
    cell, hidden = gates.new_empty(len(gates), units), gates.new_empty(len(gates), units)
    call("lstm_layer", len(steps), starts, units, gates, weight, cell, hidden)
    return hidden
