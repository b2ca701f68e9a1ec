"""LSTM layers over sequences of unequal length, without padding.

Rows are ordered by step: all first tokens, then all second ones, the longest sequence first in each, so that a step's
rows are the first of the step before. Shapes: n tokens in all, I numbers in, U units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from object2vec.model.tokens import Tokens
from object2vec.ops import arguments
from object2vec.ops import recurrent as recurrent_ops


@dataclass(frozen=True, slots=True)
class Steps:
    """How tokens are ordered by step: step t has the rows from starts[t] up to starts[t + 1]."""

    starts: Sequence[int]
    token: Tensor  # (n,): which token each row is
    row: Tensor  # (n,): which row each token is
    backward: bool = False

    @classmethod
    def of(cls, tokens: Tokens) -> Steps:
        offsets, lengths = tokens.offsets, tokens.lengths
        rank = torch.empty_like(lengths)
        rank[lengths.argsort(descending=True, stable=True)] = torch.arange(len(lengths), device=lengths.device)
        time = torch.arange(len(tokens.values), device=lengths.device) - offsets[:-1][tokens.sequence]
        active = torch.bincount(time)
        starts = nn.functional.pad(active.cumsum(0), (1, 0))
        row = starts[time] + rank[tokens.sequence]
        token = torch.empty_like(row)
        token[row] = torch.arange(len(row), device=row.device)
        return cls(starts.tolist(), token, row)

    def reversed(self) -> Steps:
        """The same rows, gone through from the last step to the first."""
        return replace(self, backward=not self.backward)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def most(self) -> int:
        """The rows of the first step, which has the most: as many as there are sequences with tokens."""
        return self.starts[1] if len(self) else 0

    def rows(self, step: int) -> slice:
        return slice(self.starts[step], self.starts[step + 1])

    def in_order(self) -> list[tuple[slice, slice]]:
        """Each step's rows, and those of the step before that go on in its first ones, in the order of going."""
        numbers = list(range(len(self)))[:: -1 if self.backward else 1]
        pairs = [(self.rows(numbers[0]), slice(0, 0))] if numbers else []
        for last, this in pairwise(numbers):
            before, now = self.rows(last), self.rows(this)
            going_on = min(before.stop - before.start, now.stop - now.start)
            pairs.append((now, slice(before.start, before.start + going_on)))
        return pairs


def run_lstm(lstm: nn.LSTM, x: Tensor, steps: Steps) -> Tensor:
    """The output (n, U) of one layer over rows `x` (n, I), one way."""
    if arguments.usable(x):
        weights = (getattr(lstm, name) for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"))
        if torch.is_inference_mode_enabled() and steps.most <= arguments.FEW_ROWS:
            return _run_few(x, *weights, steps=steps)
        hidden: Tensor = _LSTM.apply(x, *weights, steps)  # type: ignore[no-untyped-call]
        return hidden
    return _run_plainly(lstm, x, steps)


def _run_few(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, *, steps: Steps) -> Tensor:
    """One product for the inputs of all steps, and a kernel for the rest of it; nothing is kept for a gradient."""
    gates = torch.addmm(b_ih + b_hh, x, w_ih.t())
    return recurrent_ops.lstm_run(np.array(steps.starts, np.int64), steps.backward, gates, w_hh)


def _run_plainly(lstm: nn.LSTM, x: Tensor, steps: Steps) -> Tensor:
    """By torch's own LSTM, which goes forward: backward is forward over each sequence turned round."""
    if not len(steps):
        return x.new_empty(0, lstm.hidden_size)
    sizes = torch.tensor(steps.starts).diff()
    turned = _turned(steps, sizes).to(x.device) if steps.backward else None
    packed = PackedSequence(x if turned is None else x[turned], sizes)
    hidden: Tensor = lstm(packed)[0].data
    return hidden if turned is None else hidden[turned]


def _turned(steps: Steps, sizes: Tensor) -> Tensor:
    """For each row the one that is as far from the end of its sequence as it is from the beginning, (n,)."""
    starts = torch.tensor(steps.starts)
    time = torch.arange(len(sizes)).repeat_interleave(sizes)
    rank = torch.arange(len(time)) - starts[time]
    lengths = torch.bincount(rank)
    return starts[lengths[rank] - 1 - time] + rank


class _LSTM(torch.autograd.Function):
    """One product for the inputs of all steps, one a step for what goes on, and a kernel for the rest."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, steps: Steps) -> Tensor:
        units = w_hh.shape[1]
        gates = torch.addmm(b_ih + b_hh, x, w_ih.t())
        cell, hidden = x.new_empty(len(x), units), x.new_empty(len(x), units)
        for now, before in steps.in_order():
            going_on = slice(now.start, now.start + before.stop - before.start)
            gates[going_on].addmm_(hidden[before], w_hh.t())
            recurrent_ops.lstm_forward(gates[now], cell[before], cell[now], hidden[now])
        ctx.save_for_backward(x, w_ih, w_hh, gates, cell, hidden)
        ctx.steps = steps
        return hidden

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, kept, cell, hidden = ctx.saved_tensors
        gates = kept.clone()  # becomes the gradient of what went into the gates
        order = ctx.steps.in_order()
        d_hidden = gradients[0].contiguous().clone()
        most = max((now.stop - now.start for now, _ in order), default=0)
        d_cell = x.new_zeros(most, hidden.shape[1])
        d_w_hh = torch.zeros_like(w_hh)
        for now, before in reversed(order):
            rows, going_on = now.stop - now.start, before.stop - before.start
            recurrent_ops.lstm_backward(gates[now], cell[before], cell[now], d_hidden[now], d_cell[:rows])
            step = gates[now.start : now.start + going_on]
            d_hidden[before].addmm_(step, w_hh)
            d_w_hh.addmm_(step.t(), hidden[before])
            d_cell[going_on:rows] = 0
        d_bias = gates.sum(0)
        d_x = gates @ w_ih if ctx.needs_input_grad[0] else None
        return d_x, gates.t() @ x, d_w_hh, d_bias, d_bias, None
