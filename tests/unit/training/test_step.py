"""Gradients that come straight from the kernels are those of autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from object2vec.data.batches import Batch, Batches
from object2vec.model.network import Network
from object2vec.ops import library
from object2vec.ops.embedding import row_grad
from object2vec.training.objective import Objective, forward_batch
from object2vec.training.step import backward
from small import configured, gradients_of, network_of, pairs_of

ROWS = [
    ([3], [1, 2], 1.0),
    ([1, 2, 3, 4, 5, 6], [8], 0.0),
    ([], [3], 1.0),
    ([0], [8], 1.0),
    ([8, 0, 8], [], 0.0),
    ([3], [8], 0.0),
    ([3], [7, 7, 7], 1.0),
]
OUTPUTS = {
    "two": {},
    "three": {"num_classes": 3},
    "number": {"output_layer": "mean_squared_error"},
}
TABLES = {
    "dense": {},
    "row_sparse": {"token_embedding_storage_type": "row_sparse"},
    "tied": {"tied_token_embedding_weight": "true", "enc1_network": "enc0"},
    "tied, row_sparse": {"tied_token_embedding_weight": "true", "token_embedding_storage_type": "row_sparse"},
    "common tokens": {"tied_token_embedding_weight": "true", "mark_common_tokens": "true"},
    "one encoder": {"tied_encoder_weight": "true", "pooled_projection": "tanh", "enc_dim": 19},
}


def batch() -> Batch:
    """All rows; objects that are the same stand there once."""
    (whole,) = Batches(pairs_of(ROWS), size=len(ROWS)).in_order()
    assert len(whole.objects[0]) < len(ROWS) > len(whole.objects[1])
    return whole


def direct(**settings: object) -> Network:
    """A network without a layer between look-ups and output layer, of a width that is no whole number of vectors."""
    return network_of(configured(mlp_layers=0, enc0_token_embedding_dim=19, **settings)).train()


@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    "comparators",
    [
        *("hadamard", "concat", "abs_diff, hadamard", "hadamard, concat, abs_diff"),
        *("cosine", "concat, cosine", "cosine, abs_diff, hadamard"),
    ],
)
def test_they_are_those_of_autograd(
    comparators: str, output: str, tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss, output and the gradient of every weight are the same with and without the kernels."""
    settings = {"comparator_list": comparators} | OUTPUTS[output] | TABLES[tables]
    objective = Objective(regression=output == "number")
    found = []
    for usable in (True, False):
        monkeypatch.setattr(library, "available", lambda usable=usable: usable)
        network = direct(**settings)
        scores = forward_batch(network, batch())[0].detach()
        loss, _ = backward(network, objective, batch(), share=0.75)
        found.append(({"loss": loss, "scores": scores}, gradients_of(network)))
    for ours, theirs in zip(*found, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=1e-5, msg=name)


def test_gradients_do_not_pile_up() -> None:
    """A second batch leaves its own gradients, not the sum of both."""
    network, objective = direct(), Objective(regression=False)
    once, twice = (backward(network, objective, batch()) and gradients_of(network) for _ in range(2))
    for name, gradient in once.items():
        assert torch.equal(twice[name], gradient), name


@pytest.mark.parametrize(
    "settings",
    [
        {"mlp_layers": 1},
        {"mlp_layers": 0, "dropout": 0.1},
        {"mlp_layers": 0, "token_dropout": 0.1},
        {"mlp_layers": 0, "network": "hcnn"},
        {"mlp_layers": 0, "comparator_list": "cosine"},
    ],
    ids=["a layer", "dropout", "token dropout", "hcnn", "cosine"],
)
def test_others_go_through_autograd(settings: dict[str, object]) -> None:
    """What has more between look-ups and output layer is not taken for what has nothing."""
    assert network_of(configured(**settings)).train().linear_head is None


def test_frozen_tables_get_none() -> None:
    """A table that is not trained gets no gradient, the other one gets its own."""
    network = direct(enc0_freeze_pretrained_embedding="true", token_embedding_storage_type="row_sparse")
    network.enc0.embedding.weight.requires_grad_(False)
    backward(network, Objective(regression=False), batch())
    assert row_grad(network.enc0.embedding.weight) is None
    assert row_grad(network.enc1.embedding.weight) is not None


@pytest.mark.parametrize("comparators", ["hadamard", "concat", "hadamard, concat, abs_diff", "cosine, concat"])
def test_scoring_is_the_same_with_and_without(comparators: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no gradient is wanted, the output is that of comparators and output layer one by one."""
    network = direct(comparator_list=comparators)
    ours, _ = forward_batch(network, batch())
    with torch.no_grad():
        inference, _ = forward_batch(network, batch())
    monkeypatch.setattr(library, "available", lambda: False)
    plain, _ = forward_batch(network, batch())
    assert torch.equal(ours, inference)
    ours = ours.detach()
    np.testing.assert_allclose(ours.numpy(), plain.detach().numpy(), atol=1e-5)
