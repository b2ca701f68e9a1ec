"""The encoders against the slow reference, by hand, and by what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import reference
from object2vec.hyperparameters import Hyperparameters
from object2vec.hyperparameters.table import NETWORKS, POOLINGS
from object2vec.model.encoders import BiLSTM, HierarchicalCNN, PooledEmbedding
from object2vec.model.tokens import TokenEmbedding, Tokens
from object2vec.ops import library
from object2vec.ops.codes import ACTIVATIONS
from object2vec.ops.embedding import row_grad
from object2vec.ops.segments import segment_max
from small import configured, gradients_of, network_of, tokens_of, weights_of

#: Sequences of every kind: of one token, of all lengths, with 0 inside, at the end, alone, and without a token.
SEQUENCES = [[3], [1, 2, 3, 4, 5, 6], [], [0], [8, 0, 8], [2, 5, 0, 0], [7, 7, 7, 7], [0, 0, 1], [6, 4]]

#: Each encoder with every number of layers, odd and even dimensions and filter widths, filters wider than inputs.
ENCODERS = [
    {"network": "pooled_embedding"},
    *({"network": "pooled_embedding", "token_pooling": pooling} for pooling in POOLINGS),
    *({"network": "pooled_embedding", "pooled_projection": activation} for activation in ACTIVATIONS),
    *({"network": "hcnn", "enc0_layers": n, "enc_dim": d} for n, d in [(1, 4), (2, 7), (3, 8), (4, 9), ("auto", 11)]),
    *({"network": "hcnn", "enc0_layers": 2, "enc0_cnn_filter_width": w} for w in (1, 2, 3, 4, 5, 8, 9)),
    *({"network": "bilstm", "enc0_layers": n, "enc_dim": d} for n, d in [("auto", 4), (1, 5), (2, 7), (3, 6), (4, 9)]),
]


def named(changes: dict[str, object]) -> str:
    return "-".join(str(value) for value in changes.values())


def encoded(hyperparameters: Hyperparameters, tokens: Tokens, side: int = 0) -> np.ndarray:
    with torch.inference_mode():
        return network_of(hyperparameters).encode(side, tokens).numpy()


@pytest.mark.parametrize("changes", ENCODERS, ids=named)
def test_each_encoder_equals_the_reference(changes: dict[str, object]) -> None:
    """Encodings of one batch of all sequences are those of the slow reference, for both sides."""
    hyperparameters = configured(**changes)
    weights = weights_of(network_of(hyperparameters))
    for side in (0, 1):
        expected = [reference.encode(hyperparameters, weights, side, tokens) for tokens in SEQUENCES]
        actual = encoded(hyperparameters, tokens_of(*SEQUENCES), side)
        np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=0)
        assert actual.shape == (len(SEQUENCES), hyperparameters.encoding_dim(side))


@pytest.mark.parametrize("changes", ENCODERS, ids=named)
def test_what_else_is_in_the_batch_changes_nothing(changes: dict[str, object]) -> None:
    """A sequence has one encoding: alone, beside longer ones (which pad it), and in any order."""
    hyperparameters = configured(**changes)
    together = encoded(hyperparameters, tokens_of(*SEQUENCES))
    backwards = encoded(hyperparameters, tokens_of(*SEQUENCES[::-1]))[::-1]
    alone = np.concatenate([encoded(hyperparameters, tokens_of(tokens)) for tokens in SEQUENCES])
    np.testing.assert_allclose(together, alone, atol=1e-5, rtol=0)
    np.testing.assert_allclose(together, backwards, atol=1e-5, rtol=0)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_sequence_without_tokens_is_the_zero_vector(network: str) -> None:
    """Empty sequences give zeros, also where every sequence of the batch is empty."""
    hyperparameters = configured(network=network)
    assert not encoded(hyperparameters, tokens_of([], [])).any()
    assert not encoded(hyperparameters, tokens_of([], [1, 2]))[0].any()


@pytest.mark.parametrize("network", NETWORKS)
def test_only_pooling_passes_over_the_id_0(network: str) -> None:
    """An id 0 anywhere leaves a pooled encoding as it is; for hcnn and bilstm it is a token like any other."""
    with_zero, without = encoded(configured(network=network, enc_dim=40), tokens_of([3, 0, 5], [3, 5]))
    assert np.allclose(with_zero, without) is (network == "pooled_embedding")


def test_the_order_of_tokens_matters_to_all_but_pooling() -> None:
    """Turned round, a sequence has another encoding, except where it is a mean."""
    for network in NETWORKS:
        there, back = encoded(configured(network=network), tokens_of([1, 2, 3], [3, 2, 1]))
        assert np.allclose(there, back) is (network == "pooled_embedding")


def table(rows: list[list[float]]) -> TokenEmbedding:
    embedding = TokenEmbedding(len(rows), len(rows[0]), row_sparse=False, frozen=False)
    embedding.weight.data = torch.tensor(rows)
    return embedding


def test_pooling_by_hand() -> None:
    """Rows 1 = (1, 2), 2 = (3, 6): tokens 1, 0, 2 have the mean ((1 + 3) / 2, (2 + 6) / 2) = (2, 4); row 0 is left out.

    Tokens 2, 2, 1 have ((3 + 3 + 1) / 3, (6 + 6 + 2) / 3) = (7/3, 14/3): a token counts as often as it stands there.
    """
    encoder = PooledEmbedding(table([[100.0, 100.0], [1.0, 2.0], [3.0, 6.0]]))
    actual = encoder(tokens_of([1, 0, 2], [2, 2, 1])).tolist()
    assert actual == [[2.0, 4.0], pytest.approx([7 / 3, 14 / 3])]
    for pooling, factor in (("sqrtn", 2**0.5), ("sum", 2.0)):
        pooled = PooledEmbedding(encoder.embedding, pooling)(tokens_of([1, 0, 2], [0, 2]))
        assert pooled.tolist() == [pytest.approx([2 * factor, 4 * factor]), [3.0, 6.0]]


def test_token_dropout_keeps_the_scale_of_a_sum() -> None:
    """A sum is the mean of the tokens that are left, times the number of all. All tokens are the same here."""
    network = network_of(configured(token_pooling="sum", token_dropout=0.5))
    tokens = tokens_of([3] * 50 + [0], [3], [0], [])
    wanted = network.encode(0, tokens)
    torch.testing.assert_close(network.train().encode(0, tokens), wanted, atol=1e-4, rtol=1e-5)


def test_convolution_by_hand() -> None:
    """Embeddings 1, 2, 4 of tokens 1, 2, 3; two levels of one filter of width 2, which sees its own place and the next.

    Level 1 has the filter (1, -1) and bias 0: 1 - 2 = -1, 2 - 4 = -2, 4 - 0 = 4, after ReLU 0, 0, 4; maximum 4.
    Level 2 has the filter (2, 1) and bias -3: 2·0 + 0 - 3 = -3, 2·0 + 4 - 3 = 1, 2·4 + 0 - 3 = 5, after ReLU 0, 1, 5;
    maximum 5. The encoding is (4, 5).
    """
    encoder = HierarchicalCNN(table([[0.0], [1.0], [2.0], [4.0]]), dim=2, layers=2, filter_width=2)
    for level, kernel, bias in zip(encoder.levels, [[1.0, -1.0], [2.0, 1.0]], [0.0, -3.0], strict=True):
        level.weight.data = torch.tensor([[kernel]])
        level.bias.data = torch.tensor([bias])
    assert encoder(tokens_of([1, 2, 3], [1, 2, 3, 1, 1])).tolist()[0] == [4.0, 5.0]


def test_the_widths_of_levels_add_up() -> None:
    """The first levels are one wider where the dimension does not divide evenly: 11 over 4 is 3, 3, 3, 2."""
    encoder = HierarchicalCNN(table([[0.0]]), dim=11, layers=4, filter_width=3)
    assert [level.out_channels for level in encoder.levels] == [3, 3, 3, 2]


def test_lstm_by_hand() -> None:
    """One unit each way; every weight is 0 but that from the input to the cell, 1, and the forget gate's bias, 100.

    So i = o = sigmoid(0) = 1/2, f = 1, g = tanh(x), and c grows by tanh(x) / 2 a step. With embeddings x = 1, then -1:
    forward c = tanh(1)/2, then 0, so h = tanh(tanh(1)/2)/2 = t, then 0; the maximum is t.
    Backward the -1 comes first: c = -tanh(1)/2, then 0, so h = -t, then 0; the maximum is 0. The encoding is (t, 0).
    """
    encoder = BiLSTM(table([[0.0], [1.0], [-1.0]]), dim=2, layers=1)
    with torch.no_grad():
        for lstm in (*encoder.forwards, *encoder.backwards):
            for parameter in lstm.parameters():
                parameter.zero_()
            lstm.weight_ih_l0[2, 0] = 1
            lstm.bias_ih_l0[1] = 100
    t = np.tanh(np.tanh(1) / 2) / 2
    np.testing.assert_allclose(encoder(tokens_of([1, 2], [2, 1, 1])).detach()[0], [t, 0], atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": "pooled_embedding"},
        {"network": "pooled_embedding", "token_pooling": "sum"},
        {"network": "pooled_embedding", "token_pooling": "sqrtn", "pooled_projection": "tanh"},
        {"network": "hcnn", "enc0_layers": 2, "enc_dim": 5, "enc0_cnn_filter_width": 2},
        {"network": "bilstm", "enc0_layers": 2, "enc_dim": 4, "enc0_token_embedding_dim": 2, "enc0_vocab_size": 6},
    ],
    ids=named,
)
def test_gradients_are_those_of_finite_differences(changes: dict[str, object]) -> None:
    """Autograd's gradient of each encoder, for every weight, is the one that finite differences give."""
    encoder = network_of(configured(**changes)).double().enc0
    table = encoder.embedding.weight
    parameters = {name: parameter for name, parameter in encoder.named_parameters() if parameter is not table}
    tokens = tokens_of([1, 2, 3], [], [4, 0], [5])

    def forward(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(encoder, dict(zip(parameters, values, strict=True)), (tokens,))

    if parameters:
        assert torch.autograd.gradcheck(forward, tuple(parameters.values()), check_undefined_grad=False)
    factor = torch.randn(encoder(tokens).shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table.row_grad = None
    (encoder(tokens) * factor).sum().backward()
    expected = torch.empty_like(table)
    with torch.no_grad():
        for place in np.ndindex(*table.shape):
            sums, value = [], table[place].item()
            for change in (1e-6, -1e-6):
                table[place] = value + change
                sums.append((encoder(tokens) * factor).sum())
            table[place] = value
            expected[place] = (sums[0] - sums[1]) / 2e-6
    torch.testing.assert_close(row_grad(table).to_dense(table), expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_row_sparse_storage_has_the_gradients_of_dense(network: str, tied: bool) -> None:
    """A row-sparse table's gradient is, written out, that of the dense one; only used rows are in it."""
    gradients, used = [], set()
    for storage in ("dense", "row_sparse"):
        hyperparameters = configured(
            network=network, token_embedding_storage_type=storage, tied_token_embedding_weight=tied
        )
        made = network_of(hyperparameters)
        sides = made.encode(0, tokens_of([1, 2, 2], [4])), made.encode(1, tokens_of([2], [3, 0]))
        made.score_encodings(*sides).pow(2).sum().backward()
        gradients.append(gradients_of(made)["enc0.embedding.weight"])
        grad = row_grad(made.enc0.embedding.weight)
        used = set(grad.ids.tolist())
    torch.testing.assert_close(gradients[1], gradients[0])
    assert made.enc0.embedding.weight.grad is None
    assert used == {1, 2, 4} | ({2, 3} | ({0} if network != "pooled_embedding" else set()) if tied else set())


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16, 17])
@pytest.mark.parametrize("dim", [4, 40, 101])
def test_bilstm_without_gradients_is_that_with_them(count: int, dim: int) -> None:
    """A few sequences use the kernel of a layer, for any number of them up to the limit and any width; more do not."""
    draw = np.random.default_rng(count)
    sequences = [draw.integers(0, 9, draw.integers(1, 7)).tolist() for _ in range(count)]
    encoder = network_of(configured(network="bilstm", enc_dim=dim, enc0_layers=2)).enc0
    wanted = encoder(tokens_of(*sequences))
    with torch.inference_mode():
        found = encoder(tokens_of(*sequences))
    torch.testing.assert_close(found, wanted.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize(("embedding", "dim"), [(3, 8), (7, 9), (16, 40), (21, 101)])
@pytest.mark.parametrize("half", [False, True], ids=["floats", "halves"])
def test_hcnn_without_gradients_is_that_with_them(width: int, embedding: int, dim: int, half: bool) -> None:
    """It goes another way, whatever the filters see, the widths and the kind of table; some sequences have no token."""
    draw = np.random.default_rng(width)
    sequences = [draw.integers(0, 9, count).tolist() for count in (3, 0, 1, 80, 0, 12, 7)]
    named = {"enc0_token_embedding_dim": embedding, "enc_dim": dim, "enc0_cnn_filter_width": width, "enc0_layers": 2}
    encoder = network_of(configured(network="hcnn", **named)).enc0
    if half:
        encoder.embedding.weight.data = encoder.embedding.weight.data.half()
    wanted = encoder(tokens_of(*sequences))
    with torch.inference_mode():
        found = encoder(tokens_of(*sequences))
    assert (found > 0).any()
    torch.testing.assert_close(found, wanted.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not library.available(), reason="products of torch are of all sequences at once")
def test_hcnn_encodes_alike_in_any_company() -> None:
    """Bit for bit: a sequence's products are its own."""
    sequences = [[1, 2, 3, 4, 5], [6], [7, 8] * 40]
    encoder = network_of(configured(network="hcnn")).enc0
    with torch.inference_mode():
        together = encoder(tokens_of(*sequences))
        alone = torch.cat([encoder(tokens_of(sequence)) for sequence in sequences])
    assert torch.equal(together, alone)


def test_hcnn_shows_what_is_not_a_number() -> None:
    """Weights that are no numbers give encodings that are none, not zeros."""
    encoder = network_of(configured(network="hcnn", enc0_layers=1)).enc0
    encoder.levels[0].weight.data.fill_(torch.nan)
    with torch.inference_mode():
        assert encoder(tokens_of([1, 2, 3])).isnan().all()


@pytest.mark.parametrize("inference", [True, False], ids=["inference", "training"])
@pytest.mark.parametrize("with_kernels", [True, False], ids=["kernels", "torch"])
@pytest.mark.parametrize("place", [0, 1, 4], ids=["first", "inner", "last"])
@pytest.mark.parametrize(
    "changes",
    [
        {"network": "pooled_embedding"},
        {"network": "hcnn", "enc0_layers": 1},
        {"network": "hcnn", "enc0_layers": 4},
        {"network": "bilstm"},
        {"network": "bilstm", "enc0_layers": 2},
    ],
    ids=named,
)
def test_nan_in_any_token_propagates_to_the_encoding(
    changes: dict[str, object], place: int, with_kernels: bool, inference: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NaN embedding makes the encoding NaN wherever its token is, in each form of an encoder."""
    if not with_kernels:
        monkeypatch.setattr(library, "available", lambda: False)
    encoder = network_of(configured(**changes)).enc0
    encoder.embedding.weight.data[8] = torch.nan
    sequence = [1, 2, 3, 4, 5]
    sequence[place] = 8
    with torch.inference_mode(inference):
        assert encoder(tokens_of([6, 7], sequence))[1].isnan().all()


@pytest.mark.parametrize("inference", [True, False], ids=["inference", "training"])
@pytest.mark.parametrize("with_kernels", [True, False], ids=["kernels", "torch"])
def test_segment_maximum_propagates_nan(with_kernels: bool, inference: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the columns with a NaN are NaN, in any row of a segment, before and after larger numbers and infinity."""
    nan, inf = torch.nan, torch.inf
    if not with_kernels:
        monkeypatch.setattr(library, "available", lambda: False)
    x = torch.tensor([[1.0, nan, -inf, 2.0], [nan, 5.0, nan, 3.0], [inf, 9.0, inf, 1.0], [-1.0, -2.0, -3.0, -4.0]])
    with torch.inference_mode(inference):
        found = segment_max(x, torch.tensor([0, 1, 2, 3]), torch.tensor([0, 3, 3, 4]))
    wanted = torch.tensor([[nan, nan, nan, 3.0], [0.0] * 4, [-1.0, -2.0, -3.0, -4.0]])
    torch.testing.assert_close(found, wanted, equal_nan=True)


@pytest.mark.parametrize("with_kernels", [True, False], ids=["kernels", "torch"])
def test_segment_maximum_has_its_gradient_in_one_row(with_kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row that has the maximum takes the gradient; a segment without rows, and a row in no segment, have none."""
    if not with_kernels:
        monkeypatch.setattr(library, "available", lambda: False)
    x = torch.tensor([[1.0, 7.0], [9.0, 9.0], [3.0, 2.0], [4.0, 5.0]], requires_grad=True)
    segment_max(x, torch.tensor([0, 2, 3]), torch.tensor([0, 2, 2, 3])).backward(
        torch.tensor([[10.0, 20.0], [30.0, 40.0], [50.0, 60.0]])
    )
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, 20.0], [0.0, 0.0], [10.0, 0.0], [50.0, 60.0]]


@pytest.mark.parametrize("with_kernels", [True, False], ids=["kernels", "torch"])
def test_equal_maxima_share_their_gradient(with_kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradients of rows that share a maximum add up to its gradient, also if that is negative."""
    if not with_kernels:
        monkeypatch.setattr(library, "available", lambda: False)
    x = torch.ones(3, 2, requires_grad=True)
    segment_max(x, torch.arange(3), torch.tensor([0, 3])).backward(torch.tensor([[-6.0, 6.0]]))
    assert x.grad is not None
    assert x.grad.sum(0).tolist() == [-6.0, 6.0]
