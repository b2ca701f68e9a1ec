"""Token ids on the way into an encoder."""

from __future__ import annotations

import pytest
import torch

from object2vec.data.sequences import Sequences
from object2vec.model.tokens import INITIAL_STD, TokenEmbedding, Tokens
from small import tokens_of


def embedding(*, row_sparse: bool = False, frozen: bool = False) -> TokenEmbedding:
    made = TokenEmbedding(4, 2, row_sparse=row_sparse, frozen=frozen)
    made.weight.data = torch.tensor([[9.0, 9.0], [1.0, 2.0], [3.0, 6.0], [5.0, 0.0]])
    return made


def test_sequences_become_tensors() -> None:
    """Columns become int64 tensors with the same tokens and lengths, and know where each sequence starts."""
    tokens = Tokens.of(Sequences.of([[1, 2], [], [3]]))
    assert tokens.values.tolist() == [1, 2, 3]
    assert tokens.lengths.tolist() == [2, 0, 1]
    assert tokens.starts.tolist() == [0, 2, 2]
    assert {tokens.values.dtype, tokens.lengths.dtype} == {torch.int64}


def test_the_mask_has_a_place_for_every_token() -> None:
    """The mask is as wide as the longest sequence, and one wide where there is none."""
    assert tokens_of([1, 2], [], [3]).mask().tolist() == [[True, True], [False, False], [True, False]]
    assert tokens_of([], []).mask().tolist() == [[False], [False]]
    assert tokens_of().mask().shape == (0, 1)


@pytest.mark.parametrize("row_sparse", [False, True])
def test_padding_puts_each_token_in_its_place(row_sparse: bool) -> None:
    """Padded, each token's row stands at its place, the row of 0 too, and zeros where there is no token."""
    tokens = tokens_of([2, 0], [], [1])
    padded = embedding(row_sparse=row_sparse).padded(tokens, tokens.mask())
    assert padded.tolist() == [[[3, 6], [9, 9]], [[0, 0], [0, 0]], [[1, 2], [0, 0]]]


@pytest.mark.parametrize("row_sparse", [False, True])
def test_the_mean_leaves_0_out(row_sparse: bool) -> None:
    """The mean is over the tokens other than 0; none of them gives zeros, and so does a batch without any."""
    made = embedding(row_sparse=row_sparse)
    assert made.mean(tokens_of([1, 0, 2], [], [0], [3, 3])).tolist() == [[2, 4], [0, 0], [0, 0], [5, 0]]
    assert made.mean(tokens_of([], [])).tolist() == [[0, 0], [0, 0]]


def test_new_embeddings_are_small() -> None:
    """A new table has the standard deviation that the module names, and moves unless it is frozen."""
    torch.manual_seed(0)
    weight = TokenEmbedding(500, 40, row_sparse=False, frozen=False).weight
    assert weight.std().item() == pytest.approx(INITIAL_STD, rel=0.05)
    assert abs(weight.mean().item()) < INITIAL_STD / 20
    assert weight.requires_grad
    assert not embedding(frozen=True).weight.requires_grad
