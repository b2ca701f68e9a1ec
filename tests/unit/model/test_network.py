"""The whole network: comparators, head and output layers against the reference, and gradients that reach everything."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

import reference
from object2vec.hyperparameters import Hyperparameters
from object2vec.hyperparameters.table import NETWORKS
from object2vec.model.network import Network
from object2vec.ops.codes import ACTIVATIONS, COMPARATORS
from small import configured, gradients_of, network_of, tokens_of, weights_of

PAIRS = [([1, 2], [3]), ([4], [5, 6, 7]), ([], [1]), ([8, 8, 2], []), ([0, 3], [3, 0])]
SELECTIONS = [
    *(", ".join(names) for count in (1, 2, 3) for names in permutations(COMPARATORS[:3], count)),
    *("cosine", "cosine, concat", "abs_diff, cosine, hadamard", "hadamard, concat, abs_diff, cosine"),
]
OUTPUTS = [{}, {"num_classes": 3}, {"output_layer": "mean_squared_error"}]
#: Encoders of different kinds and widths on the two sides.
UNLIKE = {
    "enc0_network": "hcnn",
    "enc1_network": "bilstm",
    "enc1_max_seq_len": 5,
    "enc1_vocab_size": 8,
    "enc1_token_embedding_dim": 3,
}


def scored(hyperparameters: Hyperparameters, network: Network, pairs: list[tuple[list[int], list[int]]]) -> np.ndarray:
    with torch.inference_mode():
        u = network.encode(0, tokens_of(*(first for first, _ in pairs)))
        v = network.encode(1, tokens_of(*(second for _, second in pairs)))
        return network.scores(network.score_encodings(u, v)).numpy()


def agrees(hyperparameters: Hyperparameters) -> None:
    network = network_of(hyperparameters)
    weights = weights_of(network)
    expected = [reference.score(hyperparameters, weights, *pair) for pair in PAIRS]
    actual = scored(hyperparameters, network, PAIRS)
    np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=0)
    assert actual.shape == (len(PAIRS), hyperparameters.scores)


@pytest.mark.parametrize("output", OUTPUTS, ids=["two", "three", "number"])
@pytest.mark.parametrize("comparators", SELECTIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_scores_equal_the_reference(network: str, comparators: str, output: dict[str, object]) -> None:
    """Each encoder × each selection of comparators in each order × each output layer scores as the reference does."""
    agrees(configured(network=network, comparator_list=comparators, mlp_activation="tanh", **output))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layers", [0, 1, 3, 10])
def test_the_feed_forward_network_equals_the_reference(layers: int, activation: str) -> None:
    """Any number of layers, none included, with each activation, scores as the reference does."""
    agrees(configured(mlp_layers=layers, mlp_activation=activation, mlp_dim=3))


def test_unlike_encoders_equal_the_reference() -> None:
    """Two sides with other networks, vocabularies and embedding lengths score as the reference does."""
    agrees(configured(**UNLIKE))


@pytest.mark.parametrize("network", NETWORKS)
def test_common_tokens_have_embeddings_of_their_own(network: str) -> None:
    """Pairs of any objects of a batch score as in the reference; a side alone has the other embeddings."""
    marked = configured(network=network, tied_token_embedding_weight=True, mark_common_tokens=True)
    trained, pairs = network_of(marked), [*PAIRS, ([1, 2, 2], [2, 3]), ([3], [1, 2])]
    weights = weights_of(trained)
    tokens = tokens_of(*(first for first, _ in pairs)), tokens_of(*(second for _, second in pairs))
    index = torch.tensor([0, 5, 5, 4, 1, 6]), torch.tensor([5, 5, 0, 4, 3, 5])
    expected = [
        reference.score(marked, weights, pairs[i][0], pairs[j][1])
        for i, j in zip(*(side.tolist() for side in index), strict=True)
    ]
    with torch.inference_mode():
        np.testing.assert_allclose(trained.scores(trained(tokens, index)), expected, atol=1e-5, rtol=0)
        alone = trained.encode(1, tokens[1])
    np.testing.assert_allclose(alone[5], reference.encode(marked, weights, 1, [2, 3]), atol=1e-6)
    assert len(weights["enc0.embedding.weight"]) == 2 * marked.encoders[0].vocab_size


def test_kernels_of_single_tokens_decline_common_tokens() -> None:
    """The fused step and the lookup of pairs read one row of a token, so they leave such a network to autograd."""
    network = network_of(configured(tied_token_embedding_weight=True, mark_common_tokens=True, mlp_layers=0)).train()
    assert network.linear_head is None
    assert not network.gives_rows


def test_tied_tables_are_one() -> None:
    """Tied, both sides read one table, which is one parameter; untied, `enc1_network=enc0` shares no weight."""
    tied = configured(tied_token_embedding_weight=True)
    agrees(tied)
    network = network_of(tied)
    assert network.enc0.embedding.weight is network.enc1.embedding.weight
    assert "enc1.embedding.weight" not in dict(network.named_parameters())
    loose = network_of(configured())
    assert not torch.equal(loose.enc0.embedding.weight, loose.enc1.embedding.weight)


@pytest.mark.parametrize(
    "changes",
    [{"network": "pooled_embedding", "pooled_projection": "tanh"}, {"network": "hcnn"}, {"network": "bilstm"}],
)
def test_tied_encoders_are_one(changes: dict[str, object]) -> None:
    """Both sides have all weights in common, with the names of the first."""
    tied = configured(tied_encoder_weight=True, **changes)
    agrees(tied)
    network = network_of(tied)
    assert network.enc1 is network.enc0
    assert not any(name.startswith("enc1.") for name, _ in network.named_parameters())
    tokens = tokens_of([1, 2, 3], [4])
    assert torch.equal(network.encode(0, tokens), network.encode(1, tokens))


def test_a_score_by_hand() -> None:
    """u = (1, 2), v = (3, -1), comparators abs_diff, hadamard, concat, no layers, one output of weights 1 … 8, bias 1.

    abs_diff (2, 3), hadamard (3, -2), concat (1, 2, 3, -1):
    1·2 + 2·3 + 3·3 + 4·(-2) + 5·1 + 6·2 + 7·3 + 8·(-1) + 1 = 2 + 6 + 9 - 8 + 5 + 12 + 21 - 8 + 1 = 40.
    """
    hyperparameters = configured(
        enc0_token_embedding_dim=2,
        comparator_list="abs_diff, hadamard, concat",
        mlp_layers=0,
        output_layer="mean_squared_error",
    )
    network = network_of(hyperparameters)
    network.head.output.weight.data = torch.arange(1.0, 9.0)[None]
    network.head.output.bias.data = torch.tensor([1.0])
    assert network.score_encodings(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])).tolist() == [[40.0]]


@pytest.mark.parametrize("comparators", ["cosine", "concat, cosine, hadamard"])
@pytest.mark.parametrize("layers", [0, 1])
def test_gradients_of_a_cosine_are_those_of_finite_differences(layers: int, comparators: str) -> None:
    """A row of zeros has the cosine 0, and passes no gradient of it to either side."""
    hyperparameters = configured(comparator_list=comparators, mlp_layers=layers, num_classes=3)
    head = network_of(hyperparameters).double().head
    u, v = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    assert torch.autograd.gradcheck(head, (u.requires_grad_(), v.requires_grad_()))
    zeros = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    alone = network_of(configured(comparator_list="cosine", mlp_layers=layers, num_classes=3)).double().head
    output = alone(zeros, v)
    torch.testing.assert_close(output, alone(zeros, -v))
    output.sum().backward()
    assert not zeros.grad.any()
    assert v.grad is None or not v.grad.any()


def test_a_new_regression_by_cosine_predicts_the_cosine() -> None:
    """u = (3, 4) and v = (4, 3) have the cosine 24 / 25. The weight of the output layer is the learned scale."""
    network = Network(configured(comparator_list="cosine", mlp_layers=0, output_layer="mean_squared_error"))
    output = network.score_encodings(torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]]))
    assert (output - network.head.output.bias).item() == pytest.approx(24 / 25)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_pair_scores_the_same_in_any_batch(network: str) -> None:
    """A batch of one keeps its shape, and neither order nor company of pairs changes a score."""
    hyperparameters = configured(network=network, num_classes=3)
    made = network_of(hyperparameters)
    together = scored(hyperparameters, made, PAIRS)
    alone = [scored(hyperparameters, made, [pair]) for pair in PAIRS]
    assert {scores.shape for scores in alone} == {(1, 3)}
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5, rtol=0)
    np.testing.assert_allclose(together, scored(hyperparameters, made, PAIRS[::-1])[::-1], atol=1e-5, rtol=0)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-6)


def test_forward_encodes_objects_once_and_pairs_them_by_index() -> None:
    """Pairs given as indices of objects have the output of the same pairs written out."""
    network = network_of(configured(num_classes=3))
    tokens = tokens_of([1, 2], [3]), tokens_of([4], [5, 6], [7])
    index = torch.tensor([1, 0, 1, 1]), torch.tensor([2, 0, 0, 2])
    actual = network(tokens, index)
    objects = [[1, 2], [3]], [[4], [5, 6], [7]]
    written = [tokens_of(*(objects[side][i] for i in index[side])) for side in (0, 1)]
    expected = network.score_encodings(network.encode(0, written[0]), network.encode(1, written[1]))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("output", OUTPUTS, ids=["two", "three", "number"])
@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
@pytest.mark.parametrize(
    "changes",
    [*({"network": name} for name in NETWORKS), UNLIKE, {"tied_encoder_weight": True, "pooled_projection": "tanh"}],
    ids=[*NETWORKS, "unlike", "tied"],
)
def test_a_gradient_reaches_every_parameter(
    changes: dict[str, object], storage: str, output: dict[str, object]
) -> None:
    """Each parameter moves the scores (weights are positive here, so that no ReLU hides what is before it)."""
    network = network_of(configured(**changes, **output, token_embedding_storage_type=storage))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    tokens = tokens_of([1, 2, 3, 4], [5, 6, 7])
    network.score_encodings(network.encode(0, tokens), network.encode(1, tokens)).pow(2).sum().backward()
    still = [name for name, gradient in gradients_of(network).items() if gradient is None or not gradient.any()]
    assert still == []


def test_a_frozen_table_has_no_gradient() -> None:
    """The side whose pretrained table is frozen leaves it alone, and the other side's moves."""
    network = network_of(
        configured(
            enc0_pretrained_embedding_file="v.txt",
            enc0_vocab_file="v.json",
            **{
                "enc1_network": "pooled_embedding",
                "enc1_max_seq_len": 5,
                "enc1_vocab_size": 9,
                "enc1_token_embedding_dim": 4,
            },
        )
    )
    network.score_encodings(network.encode(0, tokens_of([1])), network.encode(1, tokens_of([2]))).sum().backward()
    gradients = gradients_of(network)
    assert gradients["enc0.embedding.weight"] is None
    assert not network.enc0.embedding.weight.requires_grad
    assert gradients["enc1.embedding.weight"].any()


def test_dropout_acts_on_encodings_and_after_each_layer_in_training_alone() -> None:
    """With everything dropped only the output layer's bias is left; scoring drops nothing."""
    hyperparameters = configured(dropout=1.0, output_layer="mean_squared_error")
    network = network_of(hyperparameters)
    u = v = torch.ones(2, 4)
    bias = network.head.output.bias.detach()
    assert not torch.allclose(network.score_encodings(u, v), bias.expand(2, 1))
    network.train()
    torch.testing.assert_close(network.score_encodings(u, v), bias.expand(2, 1))
    # Without layers, what is left to drop is the encodings.
    bare = network_of(configured(dropout=1.0, mlp_layers=0, output_layer="mean_squared_error")).train()
    torch.testing.assert_close(bare.score_encodings(u, v), bare.head.output.bias.expand(2, 1))


def test_token_dropout_acts_in_training_alone() -> None:
    network = network_of(configured(token_dropout=0.5, enc0_vocab_size=100))
    tokens = tokens_of([*range(1, 100)])
    scoring = network.encode(0, tokens)
    torch.testing.assert_close(network.encode(0, tokens), scoring)
    assert not torch.allclose(network.train().encode(0, tokens), scoring)


def test_scoring_without_a_head_is_refused() -> None:
    """A network made for embeddings alone encodes, and says that it cannot compare."""
    network = Network(configured(), with_head=False)
    assert network.encode(0, tokens_of([1])).shape == (1, 4)
    with pytest.raises(RuntimeError, match="without its head"):
        network.score_encodings(torch.ones(1, 4), torch.ones(1, 4))


def test_threads_do_not_change_a_gradient() -> None:
    """Two threads give the same gradient each time, to the last bit, also where many pairs share their objects."""
    network = network_of(configured(enc0_token_embedding_dim=32, mlp_layers=0))
    tokens = tokens_of(*([token] for token in range(9))), tokens_of(*([token] for token in range(9)))
    generator = torch.Generator().manual_seed(0)
    index = tuple(torch.randint(9, (10_240,), generator=generator) for _ in range(2))
    gradients = []
    torch.set_num_threads(2)
    try:
        for _ in range(5):
            network.zero_grad()
            network(tokens, index).pow(2).sum().backward()
            gradients.append(gradients_of(network)["enc0.embedding.weight"])
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 16, 17])
@pytest.mark.parametrize("layers", [0, 2])
def test_few_pairs_are_scored_like_many(count: int, layers: int) -> None:
    """Without gradients, their way through the head is another one; widths are no whole numbers of what it takes."""
    head = network_of(configured(mlp_layers=layers, mlp_dim=37, num_classes=3)).head
    u, v = torch.randn(2, 20, 4, generator=torch.Generator().manual_seed(0))
    wanted = head(u, v)[:count]
    with torch.inference_mode():
        found = head(u[:count], v[:count])
    torch.testing.assert_close(found, wanted.detach(), atol=1e-5, rtol=1e-5)
