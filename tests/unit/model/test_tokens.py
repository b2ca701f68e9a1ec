"""Token ids on the way into an encoder."""

from __future__ import annotations

import pytest
import torch

from object2vec.data.sequences import Sequences
from object2vec.model.tokens import INITIAL_STD, TokenEmbedding, Tokens
from object2vec.ops import library
from object2vec.ops.embedding import gather_line, gather_rows, mean_pool
from small import tokens_of


def embedding(*, row_sparse: bool = False, frozen: bool = False) -> TokenEmbedding:
    made = TokenEmbedding(4, 2, row_sparse=row_sparse, frozen=frozen)
    made.weight.data = torch.tensor([[9.0, 9.0], [1.0, 2.0], [3.0, 6.0], [5.0, 0.0]])
    return made


def test_sequences_become_tensors() -> None:
    """Columns become int64 tensors with the same tokens and lengths, and know where each sequence starts and ends."""
    tokens = Tokens.of(Sequences.from_lists([[1, 2], [], [3]]))
    assert tokens.values.tolist() == [1, 2, 3]
    assert tokens.lengths.tolist() == [2, 0, 1]
    assert tokens.offsets.tolist() == [0, 2, 2, 3]
    assert {tokens.values.dtype, tokens.offsets.dtype} == {torch.int64}


def test_dropped_tokens_are_0_and_only_tokens_stay() -> None:
    dropped = tokens_of([7] * 1000, [5], [], *[[6]] * 100).drop(0.3)
    assert dropped.lengths.tolist() == [1000, 1, 0, *[1] * 100]
    assert set(dropped.values[:1000].tolist()) == {0, 7}
    assert 0.2 < (dropped.values[:1000] == 0).float().mean() < 0.4
    assert dropped.values[1000:].tolist() == [5, *[6] * 100]


@pytest.mark.parametrize("row_sparse", [False, True])
def test_rows_are_those_of_the_table(row_sparse: bool) -> None:
    """Each token has its row, the token 0 too; no token has none."""
    made = embedding(row_sparse=row_sparse)
    assert gather_rows(made.weight, torch.tensor([2, 0, 1])).tolist() == [[3, 6], [9, 9], [1, 2]]
    assert gather_rows(made.weight, torch.tensor([], dtype=torch.int64)).shape == (0, 2)


@pytest.mark.parametrize("row_sparse", [False, True])
def test_the_mean_leaves_0_out(row_sparse: bool) -> None:
    """The mean is over the tokens other than 0; none of them gives zeros, and so does a batch without any."""
    made = embedding(row_sparse=row_sparse)
    assert mean_pool(made.weight, *tokens_of([1, 0, 2], [], [0], [3, 3])).tolist() == [[2, 4], [0, 0], [0, 0], [5, 0]]
    assert mean_pool(made.weight, *tokens_of([], [])).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("with_kernels", [True, False])
def test_a_table_in_half_precision_gives_floats(with_kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, lines and means are those of the same numbers in single precision, and means are rounded to no half."""
    monkeypatch.setattr(library, "available", lambda: with_kernels)
    made = embedding()
    made.weight.data[1:] += torch.tensor(1 / 1024)  # 3 + 1/1024 is no half
    half, single = embedding(), embedding()
    half.weight.data = made.weight.data.half()
    single.weight.data = half.weight.data.float()
    tokens, values = tokens_of([1, 0, 2], [], [0], [3, 3, 1]), torch.tensor([2, 0, 1])
    line = torch.tensor([1, 3, 4]), torch.tensor([0.0, 1, 0, 1, 1])[:, None]
    with torch.inference_mode():
        for give, given in ((gather_rows, (values,)), (gather_line, (values, *line)), (mean_pool, tokens)):
            assert give(half.weight, *given).dtype == torch.float32
            torch.testing.assert_close(give(half.weight, *given), give(single.weight, *given), atol=0, rtol=1e-6)


def test_new_embeddings_are_small() -> None:
    """A new table has the standard deviation that the module names, and moves unless it is frozen."""
    torch.manual_seed(0)
    weight = TokenEmbedding(500, 40, row_sparse=False, frozen=False).weight
    assert weight.std().item() == pytest.approx(INITIAL_STD, rel=0.05)
    assert abs(weight.mean().item()) < INITIAL_STD / 20
    assert weight.requires_grad
    assert not embedding(frozen=True).weight.requires_grad
