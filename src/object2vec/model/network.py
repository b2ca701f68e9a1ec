"""The network: two encoders, a comparator, and a head of a feed-forward network and an output layer.

Shapes: N objects of a side, P pairs, D numbers an encoding, C scores a pair.
"""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from object2vec.hyperparameters import Hyperparameters
from object2vec.model.encoders import ACTIVATE, Encoder, PooledEmbedding, make_encoder
from object2vec.model.tokens import TokenEmbedding, Tokens, mark_common
from object2vec.ops.dropout import dropout
from object2vec.ops.embedding import set_row_grad
from object2vec.ops.scoring import (
    COMPARISON_TERMS,
    COSINE,
    LEFT,
    PRODUCT,
    LinearHead,
    score_factors,
    score_pairs,
    unit_rows,
)

#: Which of `COMPARISON_TERMS` each comparator gives.
TERMS_OF_COMPARATOR: Final = {"hadamard": (0,), "concat": (1, 2), "abs_diff": (3,), "cosine": (COSINE,)}
#: More scores a pair are faster by a matrix product, which needs memory for the comparators' results.
MAX_KERNEL_SCORES: Final = 64
#: The columns of a head that takes the first encoding alone.
ONE_SIDE: Final = [-1, 0, -1, -1]


class Dropout(nn.Dropout):
    """In training, set a random share `p` of the units to 0, and scale the rest up to keep the mean."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with dropout in training, else `x`."""
        return dropout(x, self.p) if self.training and self.p else x


class Head(nn.Module):
    """From two encodings to the output: dropout on each, comparators in their order, layers, output layer."""

    def __init__(self, hyperparameters: Hyperparameters) -> None:
        super().__init__()
        self.comparators = hyperparameters.comparator_list
        self.dropout = Dropout(hyperparameters.dropout)
        self.dim = hyperparameters.encoding_dim(0)
        terms = [term for name in self.comparators for term in TERMS_OF_COMPARATOR[name]]
        terms = [LEFT] if hyperparameters.one_sided else terms
        self._terms = [COMPARISON_TERMS[term] for term in terms]
        *starts, width = accumulate((1 if term == COSINE else self.dim for term in terms), initial=0)
        columns = [starts[terms.index(i)] if i in terms else -1 for i in range(len(COMPARISON_TERMS))]
        self._cosine = columns.pop(COSINE)
        self._columns = torch.tensor(columns, device="cpu")  # values, also in a network of shapes
        self.layers = nn.ModuleList()
        for _ in range(hyperparameters.mlp_layers):
            self.layers.append(nn.Linear(width, hyperparameters.mlp_dim))
            width = hyperparameters.mlp_dim
        self.activate = ACTIVATE[hyperparameters.mlp_activation]
        self.output = nn.Linear(width, hyperparameters.scores)
        if hyperparameters.ranks:  # start as a plain product: with random signs, weight decay takes scores to 0
            self.output.weight.data.zero_()
            self.output.bias.data.zero_()
            if "hadamard" in self.comparators:
                self.output.weight.data[:, starts[terms.index(PRODUCT)] :][:, : self.dim].fill_(1.0)
            # Weights of a product that grow would undo the weight decay of the embeddings.
            self.output.weight.requires_grad_(self.comparators != ("hadamard",))
        self.starts_as_cosine = self.has_cosine and not self.layers and hyperparameters.regression
        if self.starts_as_cosine:
            self.output.weight.data[:, self._cosine].fill_(1.0)

    @property
    def has_cosine(self) -> bool:
        """Whether `cosine` is a comparator."""
        return self._cosine >= 0

    @property
    def _fits_kernels(self) -> bool:
        """Whether kernels score pairs: they are for two sides, and few scores."""
        return self._columns.tolist() != ONE_SIDE and self.output.out_features <= MAX_KERNEL_SCORES

    @property
    def linear_head(self) -> LinearHead | None:
        """The output layer on `linear_input`, if it is directly on the comparators; else None."""
        if self.layers or (self.training and self.dropout.p) or not self._fits_kernels:
            return None
        return self._linear(self.output.weight, self.output.bias)

    def factors(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the factors of the scores of all pairs of the encodings u (N, D) and v (M, D); see `score_factors`."""
        head = self._linear(self.output.weight, self.output.bias)
        return score_factors(self.linear_input(self.dropout(u)), self.linear_input(self.dropout(v)), head)

    def folded(self) -> LinearHead | None:
        """Return all layers as one linear layer on `linear_input`, for scoring; None if there are activations."""
        if not self._fits_kernels or (self.layers and self.activate is not ACTIVATE["linear"]):
            return None
        weight, bias = self.output.weight.double(), self.output.bias.double()
        for layer in cast(list[nn.Linear], [*reversed(self.layers)]):
            weight, bias = weight @ layer.weight.double(), bias + weight @ layer.bias.double()
        return self._linear(weight.float(), bias.float())

    def linear_input(self, encodings: Tensor) -> Tensor:
        """Return what a linear head takes for encodings (N, D): for a cosine their unit vectors too, or alone."""
        if not self.has_cosine:
            return encodings
        units = unit_rows(encodings)
        return units if len(self._terms) == 1 else torch.cat([encodings, units], dim=1)

    def _linear(self, weight: Tensor, bias: Tensor) -> LinearHead:
        """Return a layer on the comparators as one on `linear_input`, where a cosine is a sum of products."""
        if not self.has_cosine:
            return LinearHead(weight, bias, self._columns)
        cosine = weight[:, self._cosine, None].expand(-1, self.dim)
        if len(self._terms) == 1:
            return LinearHead(cosine.contiguous(), bias, torch.tensor([0, -1, -1, -1]))
        zeros, columns = torch.zeros_like(cosine), []
        blocks: list[Tensor] = []
        for term, column in enumerate(self._columns.tolist()):
            used = column >= 0 or term == PRODUCT
            columns.append(len(blocks) * self.dim if used else -1)
            own = weight[:, column : column + self.dim] if column >= 0 else zeros
            blocks += [own, cosine if term == PRODUCT else zeros] if used else []
        return LinearHead(torch.cat(blocks, dim=1), bias, torch.tensor(columns))

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the output (P, C), before any softmax, of the encodings u and v, (P, D) each."""
        u, v = self.dropout(u), self.dropout(v)
        hidden = torch.cat([term(u, v) for term in self._terms], dim=1)
        for layer in self.layers:
            hidden = self.dropout(self.activate(layer(hidden)))
        output: Tensor = self.output(hidden)
        return output


class Network(nn.Module):
    """Encodes objects of either side and scores pairs of encodings.

    `with_head=False` leaves out what only scoring needs.
    """

    head: Head | None

    def __init__(self, hyperparameters: Hyperparameters, *, with_head: bool = True) -> None:
        super().__init__()
        self.softmax = not hyperparameters.regression and not hyperparameters.sigmoid
        self.sigmoid = hyperparameters.sigmoid
        self.token_dropout = hyperparameters.token_dropout
        dim = hyperparameters.encoding_dim(0)
        #: Lengths of prefixes of encodings that training scores too, in addition to whole encodings.
        self.prefix_dims = tuple(prefix for prefix in hyperparameters.matryoshka_dims if prefix < dim)
        #: Rows before those of tokens that both sides of a pair have; 0 if there are none.
        self.first_common = hyperparameters.encoders[0].vocab_size if hyperparameters.mark_common_tokens else 0
        tables = [
            TokenEmbedding(
                hyperparameters.rows_per_token * e.vocab_size,
                e.token_embedding_dim,
                row_sparse=hyperparameters.row_sparse,
                frozen=e.frozen,
            )
            for e in hyperparameters.encoders[: hyperparameters.tables]
        ]
        self.enc0 = make_encoder(hyperparameters, 0, tables[0])
        tied = hyperparameters.tied_encoder_weight
        self.enc1 = self.enc0 if tied else make_encoder(hyperparameters, 1, tables[-1])
        # As a registered module, the head can be added while other threads read it.
        self.register_module("head", Head(hyperparameters) if with_head else None)

    @property
    def device(self) -> torch.device:
        return self.enc0.embedding.weight.device

    @property
    def tables(self) -> list[TokenEmbedding]:
        """The tables of token embeddings: one a side, or one that both sides share."""
        return list(dict.fromkeys((self.enc0.embedding, self.enc1.embedding)))

    @property
    def trainable_weights(self) -> dict[str, Tensor]:
        """The weights that training changes, by name."""
        return {name: parameter.detach() for name, parameter in self.named_parameters() if parameter.requires_grad}

    @property
    def starts_as_cosine(self) -> bool:
        """Whether the predicted number of a new network is a cosine, and not close to the bias."""
        return self._head.starts_as_cosine

    @property
    def output_bias(self) -> Tensor:
        """The bias of the output layer (C,)."""
        return self._head.output.bias

    @property
    def linear_head(self) -> LinearHead | None:
        """The output layer, if nothing is between mean embeddings, comparators and it; else None."""
        plain = self.gives_rows and not self._head.has_cosine
        more = self.training and (self.token_dropout or self.prefix_dims)
        return self._head.linear_head if plain and not more else None

    @property
    def gives_rows(self) -> bool:
        """Whether the encoding of a single token in a pair is its row of the table, on both sides."""
        return not self.first_common and all(
            isinstance(encoder, PooledEmbedding) and encoder.gives_rows for encoder in (self.enc0, self.enc1)
        )

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: ARG002 -- torch's signature
        """Clear all gradients, those of tables by rows included."""
        for weight in self._weights:
            weight.grad = None
            set_row_grad(weight, None)

    @cached_property
    def _weights(self) -> list[nn.Parameter]:
        """All weights: to find them takes longer than to clear their gradients."""
        return list(self.parameters())

    def forward(self, tokens: tuple[Tokens, Tokens], index: tuple[Tensor, Tensor]) -> Tensor:
        """Return the output (P, C) of P pairs: pair p is object `index[0][p]` of in0 with object `index[1][p]` of in1.

        An object that is in several pairs is encoded once.
        """
        tokens, index = self.mark_pairs(tokens, index)
        return self.score_objects(self.encode_sides(tokens), index)

    def mark_pairs(
        self, tokens: tuple[Tokens, Tokens], index: tuple[Tensor, Tensor]
    ) -> tuple[tuple[Tokens, Tokens], tuple[Tensor, Tensor]]:
        """Return what to encode for pairs, and its index.

        With `mark_common_tokens`, each pair has objects of its own, because their tokens depend on both sides.
        """
        if not self.first_common:
            return tokens, index
        left, right = (side.take(rows) for side, rows in zip(tokens, index, strict=True))
        pairs = torch.arange(len(index[0]), device=index[0].device)
        return mark_common(left, right, self.first_common), (pairs, pairs)

    def encode_sides(self, tokens: tuple[Tokens, Tokens]) -> tuple[Tensor, Tensor]:
        """Return the encodings (N, D) and (M, D) of N objects of in0 and M of in1."""
        return self.encode(0, tokens[0]), self.encode(1, tokens[1])

    def score_objects(self, encodings: tuple[Tensor, Tensor], index: tuple[Tensor, Tensor]) -> Tensor:
        """Return the output (P, C) of P pairs, as `forward` does, of objects with these encodings."""
        u, v = encodings
        if head := self._head.linear_head:
            return score_pairs(self._head.linear_input(u), self._head.linear_input(v), *index, head)
        # Not by [index]: threads sum its gradient in any order, so that a seed would not repeat a job.
        return self.score_encodings(u.index_select(0, index[0]), v.index_select(0, index[1]))

    def score_factors(self, encodings: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return factors (N, D), (M, D) and a bias (M,) of the scores of all pairs of N objects of in0 and M of in1.

        `encodings` are (N, D) and (M, D). A score is left[i] @ right[j] + bias[j], but for what is the same for all j.
        The head must be linear.
        """
        return self._head.factors(*encodings)

    def encode(self, side: int, tokens: Tokens) -> Tensor:
        """Return the encodings (N, D) of objects of `side`, 0 or 1."""
        if self.training and self.token_dropout:
            tokens = tokens.drop(self.token_dropout)
        encoding: Tensor = self.encoder(side)(tokens)
        return encoding

    def encoder(self, side: int) -> Encoder:
        """Return the encoder of `side`, 0 or 1."""
        return self.enc1 if side else self.enc0

    def score_encodings(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the output (P, C) of pairs of encodings, (P, D) each: logits, or the predicted numbers."""
        output: Tensor = self._head(u, v)
        return output

    @property
    def _head(self) -> Head:
        if self.head is None:
            raise RuntimeError("this network was made without its head")
        return self.head

    def scores(self, output: Tensor) -> Tensor:
        """Return the scores (P, C) for an output of `score_encodings`: probabilities in class order, or the number."""
        if self.sigmoid:
            return output.sigmoid()
        return output.softmax(dim=1) if self.softmax else output


def network_of_shapes(hyperparameters: Hyperparameters, *, with_head: bool = True) -> Network:
    """Return a network whose parameters have shapes but no values, for loading a file."""
    with torch.device("meta"), _WithoutInitialValues():
        return Network(hyperparameters, with_head=with_head)


class _WithoutInitialValues(TorchFunctionMode):
    """Skip drawing initial values: it has no effect on shapes, and on them costs a second of imports."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_):
            return args[0]
        return function(*args, **(kwargs or {}))
