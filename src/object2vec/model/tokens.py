"""Token ids on the way into an encoder, and their embeddings.

Shapes: N sequences, n tokens in all, E numbers an embedding, V ids in the vocabulary.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from object2vec import allocator
from object2vec.data.sequences import Sequences
from object2vec.ops import arguments
from object2vec.ops import embedding as embedding_ops

#: Standard deviation of new embeddings, chosen by measurement on 100,000 film ratings. `make demo` with its weight
#: decay set to 0: from .001 to .03 the held-out RMSE is .876 to .878, with .1 it is .881, with .3 it is .888. The
#: same pairs against sampled ones, hadamard, and else the default network and step: cross-entropy of the third
#: epoch is .08 with .01, and .39 with .1.
INITIAL_STD = 0.01


class Tokens(NamedTuple):
    """N sequences without padding: sequence i is values[offsets[i]:offsets[i + 1]]."""

    values: Tensor  # (n,) int64
    offsets: Tensor  # (N + 1,) int64

    @classmethod
    def of(cls, sequences: Sequences, device: torch.device | None = None) -> Tokens:
        """The same sequences as tensors on `device`."""
        values = torch.from_numpy(sequences.values.astype("int64", copy=False))
        offsets = torch.from_numpy(sequences.offsets)
        return cls(values, offsets) if device is None else cls(values.to(device), offsets.to(device))

    @property
    def lengths(self) -> Tensor:
        """Tokens of each sequence, (N,)."""
        return self.offsets.diff()

    @property
    def sequence(self) -> Tensor:
        """Which sequence each of `values` belongs to, (n,)."""
        numbers = torch.arange(len(self.offsets) - 1, device=self.offsets.device)
        return numbers.repeat_interleave(self.lengths, output_size=len(self.values))


class Touched(NamedTuple):
    """What one look-up adds to the gradient of a table: to row values[j], scale[o] * gradient[o] where o is origin[j].

    It is summed only where it is used, so that nothing of the table's size need be made for it.
    """

    values: Tensor  # (n,) int64
    origin: Tensor  # (n,) int64
    scale: Tensor  # (m,)
    gradient: Tensor  # (m, E)

    @classmethod
    def by_mean(cls, tokens: Tokens, scale: Tensor, gradient: Tensor) -> Touched:
        """What the means of N sequences add, of which `mean_of` gave the `scale` (N,), from their gradient (N, E)."""
        values, offsets = tokens
        if arguments.usable(gradient):
            values, origin = embedding_ops.spread(values, offsets)
        else:
            used = values != 0
            values, origin = values[used], tokens.sequence[used]
        return cls(values, origin, scale, gradient)


class TokenEmbedding(nn.Module):
    """The table of token embeddings, (V, E).

    While it `collects`, its weight gets no gradient: look-ups leave in `touched` what they add to one, for an optimizer
    that goes by rows, or for whoever makes a gradient of it. With `row_sparse` it always does.
    """

    def __init__(self, vocab_size: int, dim: int, *, row_sparse: bool, frozen: bool) -> None:
        super().__init__()
        self.row_sparse = self.collects = row_sparse
        self.touched: list[Touched] = []
        self.weight = nn.Parameter(allocator.zeros(vocab_size, dim).normal_(std=INITIAL_STD), requires_grad=not frozen)

    @property
    def dim(self) -> int:
        return self.weight.shape[1]

    @cached_property
    def lut(self) -> Tensor:
        """Scratch of the kernels: -1 for each id, (V,) int32."""
        return torch.full((self.weight.shape[0],), -1, dtype=torch.int32)

    def mean(self, tokens: Tokens) -> Tensor:
        """The mean embedding of each sequence, (N, E). Id 0 counts as no token; no token at all gives zeros."""
        if torch.is_inference_mode_enabled():  # nothing to keep for a gradient
            return mean_of(self.weight, tokens)[0]
        mean: Tensor = _Mean.apply(self.weight, self, tokens)  # type: ignore[no-untyped-call]
        return mean

    def rows(self, values: Tensor) -> Tensor:
        """The embedding of each token, (n, E)."""
        rows: Tensor = _Rows.apply(self.weight, self, values)  # type: ignore[no-untyped-call]
        return rows

    def line(self, values: Tensor, place: Tensor, inside: Tensor) -> Tensor:
        """The embeddings of n tokens at their places (n,) of a line (L, E), where `inside` (L, 1) is 1, and else 0."""
        line: Tensor = _Line.apply(self.weight, self, values, place, inside)  # type: ignore[no-untyped-call]
        return line

    def take_back(self, touched: Touched) -> Tensor | None:
        """What autograd gets for the weight: the gradient of the whole table, or none where `touched` collects it."""
        if self.collects:
            self.touched.append(touched)
            return None
        return self.gradient_of(touched)

    def add_gradient(self, touched: Touched) -> None:
        """Do what autograd does with what `take_back` gives it."""
        gradient = self.take_back(touched)
        if gradient is not None:
            self.weight.grad = gradient if self.weight.grad is None else self.weight.grad + gradient

    def gradient_of(self, touched: Touched) -> Tensor:
        """The gradient of the whole table, (V, E)."""
        gradient = torch.zeros_like(self.weight)
        if arguments.usable(self.weight):
            groups = embedding_ops.group(touched.values, touched.origin, self.lut)
            embedding_ops.add_rows(gradient, groups, touched.scale, touched.gradient.contiguous())
        else:
            each = (touched.gradient * touched.scale[:, None])[touched.origin]
            gradient.index_add_(0, touched.values, each)
        return gradient


def mean_of(weight: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """The mean embedding of each sequence, (N, E), and what each of its tokens counts in it, (N,)."""
    if arguments.readable(weight):
        return embedding_ops.pool(weight, tokens.values, tokens.offsets)
    values, starts = tokens.values, tokens.offsets[:-1]
    count = torch.zeros_like(tokens.lengths).index_add_(0, tokens.sequence, (values != 0).long())
    if weight.dtype == torch.float16:  # means are of floats
        scale = torch.where(count > 0, 1 / count, 0)
        rows = _rows_of(weight, values).mul_((scale[tokens.sequence] * (values != 0))[:, None])
        return rows.new_zeros(len(scale), weight.shape[1]).index_add_(0, tokens.sequence, rows), scale
    scale = torch.where(count > 0, 1 / count, 0).to(weight.dtype)
    return nn.functional.embedding_bag(values, weight, starts, mode="mean", padding_idx=0), scale


def _rows_of(weight: Tensor, values: Tensor) -> Tensor:
    """The embeddings of n tokens, (n, E), of a table in half precision as float32."""
    rows = weight[values]
    return rows.float() if rows.dtype == torch.float16 else rows


class _Mean(torch.autograd.Function):
    """`TokenEmbedding.mean`, whose gradient is a row a sequence and is never spread over its tokens."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, embedding: TokenEmbedding, tokens: Tokens) -> Tensor:
        ctx.embedding, ctx.tokens = embedding, tokens
        mean, ctx.scale = mean_of(weight, tokens)
        return mean

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        return ctx.embedding.take_back(Touched.by_mean(ctx.tokens, ctx.scale, gradients[0])), None, None


class _Rows(torch.autograd.Function):
    """The rows of a table that ids name, (n, E)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, embedding: TokenEmbedding, values: Tensor) -> Tensor:
        ctx.embedding, ctx.values = embedding, values
        return _rows_of(weight, values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient,) = gradients
        touched = Touched(
            ctx.values, torch.arange(len(gradient), device=gradient.device), gradient.new_ones(len(gradient)), gradient
        )
        return ctx.embedding.take_back(touched), None, None


class _Line(torch.autograd.Function):
    """Rows of a table in a line, as `TokenEmbedding.line` has them."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, embedding: TokenEmbedding, values: Tensor, place: Tensor, inside: Tensor
    ) -> Tensor:
        ctx.embedding, ctx.values, ctx.place = embedding, values, place
        return _rows_of(weight, values.new_zeros(len(inside)).index_copy_(0, place, values)).mul_(inside)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        (gradient,) = gradients
        touched = Touched(ctx.values, ctx.place, gradient.new_ones(len(gradient)), gradient)
        return ctx.embedding.take_back(touched), None, None, None, None
