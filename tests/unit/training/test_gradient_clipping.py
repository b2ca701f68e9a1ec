"""The norm of a step's gradient is limited."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from object2vec.data.batches import Batches
from object2vec.ops import library
from object2vec.training.gradient_clipping import clip_gradients
from object2vec.training.objective import Objective
from object2vec.training.step import backward
from small import configured, gradients_of, network_of, pairs_of

#: Objects with several tokens, of which some are in many objects.
ROWS = [([1, 2], [3], 1.0), ([2, 2, 3], [1, 3], 0.0), ([1], [3, 4], 1.0), ([], [2], 0.0)]


@pytest.fixture(params=[True, False], ids=["kernels", "plain"], autouse=True)
def kernels_or_not(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(library, "available", lambda: False)


def gradients(max_norm: float, **settings: object) -> dict[str, np.ndarray]:
    """Return the gradients of a batch as whole arrays, after clipping."""
    network = network_of(configured(**settings)).train()
    (batch,) = Batches(pairs_of(ROWS), size=9).in_order()
    backward(network, Objective(regression=False), batch)
    if max_norm:
        clip_gradients(network, max_norm)
    return {name: grad.double().numpy() for name, grad in gradients_of(network).items() if grad is not None}


SETTINGS = [
    {},
    {"token_embedding_storage_type": "row_sparse"},
    {"tied_token_embedding_weight": True},
    {"network": "bilstm"},
    {"network": "hcnn", "token_embedding_storage_type": "row_sparse"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_larger_gradients_are_scaled_to_the_norm(settings: dict[str, object]) -> None:
    """The norm is over all weights; a row of a table counts once, with the sum of its gradients."""
    whole = gradients(0, **settings)
    norm = np.sqrt(sum((grad**2).sum() for grad in whole.values()))
    for max_norm in (0.5 * norm, 2 * norm):
        clipped = gradients(max_norm, **settings)
        assert clipped.keys() == whole.keys()
        for name, grad in whole.items():
            np.testing.assert_allclose(
                clipped[name], grad * min(1, max_norm / norm), rtol=1e-4, atol=1e-7, err_msg=name
            )


def test_clipping_equals_torch() -> None:
    """A table without rows of its own would have the same gradient in torch."""
    whole, clipped = gradients(0), gradients(0.1)
    weights = {name: torch.nn.Parameter(torch.zeros(grad.shape)) for name, grad in whole.items()}
    for name, weight in weights.items():
        weight.grad = torch.from_numpy(whole[name]).float()
    torch.nn.utils.clip_grad_norm_(weights.values(), 0.1)
    for name, weight in weights.items():
        np.testing.assert_allclose(clipped[name], weight.grad.numpy(), rtol=1e-5, atol=1e-8, err_msg=name)
