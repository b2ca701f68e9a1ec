"""The fused step equals the step of autograd and of the optimizers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import Optimizer

from object2vec.data.batches import Batch, Batches
from object2vec.hyperparameters import Hyperparameters
from object2vec.model.network import Network
from object2vec.training.objective import Objective
from object2vec.training.optimizers import make_optimizers, scale_learning_rates
from object2vec.training.step import AutogradStep, FusedStep, Step, backward, make_step
from object2vec.training.thread_tuner import ThreadTuner
from small import configured, network_of, pairs_of

OUTPUTS = {"two": {}, "number": {"output_layer": "mean_squared_error"}}


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"], autouse=True)
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    monkeypatch.setattr("object2vec.training.step.PRODUCTS_PER_THREAD", 1)
    yield
    torch.set_num_threads(before)


def step_of(network: Network, optimizers: Sequence[Optimizer], max_norm: float = 0.0) -> Step:
    """Return the step that a trainer takes."""
    tuner = ThreadTuner(1)
    autograd_step = AutogradStep(network, Objective(regression=not network.softmax), optimizers, tuner, max_norm)
    return make_step(network, optimizers, autograd_step, tuner)


def matrices(**settings: object) -> Hyperparameters:
    """Return a configuration of two tables and an output layer; its width is not a multiple of a vector's."""
    fixed = {"mlp_layers": 0, "enc0_token_embedding_dim": 19, "token_embedding_storage_type": "row_sparse"}
    return configured(learning_rate=0.05, **fixed | settings)


def batches(count: int = 40, size: int = 16) -> list[Batch]:
    """Return pairs of single tokens with labels 0 and 1; some objects are in many pairs, some in one."""
    tokens = np.random.default_rng(0).integers(1, 9, (count, 2)) ** 2 // 9 + (np.arange(count) % 7 == 0)[:, None]
    rows = [([max(1, a)], [max(1, b)], float((a + b) % 2)) for a, b in tokens.tolist()]
    return list(Batches(pairs_of(rows), size=size).in_order())


@pytest.mark.parametrize("dim", [16, 32, 64, 100, 128])
def test_step_of_every_row_width_equals_autograd(dim: int) -> None:
    """Widths with compiled loops and others; sgd does not amplify small gradients."""
    comparators = "hadamard, concat, abs_diff"
    hyperparameters = matrices(enc0_token_embedding_dim=dim, comparator_list=comparators, optimizer="sgd")
    ours, theirs = (trained(hyperparameters, batches(), fused=fused) for fused in (True, False))
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-4)
    for name, weight in theirs[1].named_parameters():
        torch.testing.assert_close(dict(ours[1].named_parameters())[name], weight, atol=1e-5, rtol=1e-4, msg=name)


def test_several_batches_in_one_call_equal_single_calls() -> None:
    """Results, weights and the state of the optimizer are equal to the last bit."""
    said, networks, remembered = [], [], []
    for at_once in (1, 2, 3):
        network = network_of(matrices()).train()
        (optimizer,) = optimizers = make_optimizers(network, matrices())
        step = step_of(network, optimizers)
        given = batches(70)
        factors = [0.5 + i / 5 for i in range(len(given))]
        parts = [slice(at, at + at_once) for at in range(0, len(given), at_once)]
        said.append([one for part in parts for one in step(given[part], factors[part])])
        networks.append(network.state_dict())
        remembered.append(optimizer.state_dict()["state"])
    assert len(said[0]) == len(given) == 5
    assert said[0] == said[1] == said[2]
    for again, memory in zip(networks[1:], remembered[1:], strict=True):
        torch.testing.assert_close(again, networks[0], rtol=0, atol=0)
        torch.testing.assert_close(memory, remembered[0], rtol=0, atol=0)


def test_large_batches_are_stepped_in_smaller_calls() -> None:
    network = network_of(matrices())
    step = step_of(network, make_optimizers(network, matrices()))
    assert [step.batches_per_call(size) for size in (1, 4096, 10_000, 20_000, 10**6)] == [8, 8, 3, 1, 1]


def trained(hyperparameters: Hyperparameters, given: list[Batch], *, fused: bool) -> tuple[list[Any], Network]:
    """Return the result of each step, and the network after all of them."""
    network, objective = network_of(hyperparameters).train(), Objective(regression=hyperparameters.regression)
    optimizers = make_optimizers(network, hyperparameters)
    step = step_of(network, optimizers)
    assert isinstance(step, FusedStep)
    said = []
    for i, batch in enumerate(given):
        factor = 1 / (1 + i)
        if fused:
            ((_, loss, correct, _),) = step([batch], [factor])
        else:
            left, correct = backward(network, objective, batch)
            loss = left.item()
            scale_learning_rates(optimizers, factor)
            for optimizer in optimizers:
                optimizer.step()
        said.append((loss, correct if not objective.regression else None))
    return said, network


@pytest.mark.parametrize(("output", "decay"), [("two", 0.0), ("number", 0.1)])
@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "sgd"])
@pytest.mark.parametrize("comparators", ["hadamard", "concat", "abs_diff, hadamard", "hadamard, concat, abs_diff"])
def test_fused_step_equals_autograd_and_optimizer(comparators: str, optimizer: str, output: str, decay: float) -> None:
    """Losses, correct pairs, and every weight after three steps of unequal learning rates are equal."""
    settings = {"comparator_list": comparators, "optimizer": optimizer, "weight_decay": decay} | OUTPUTS[output]
    hyperparameters = matrices(**settings)
    ours, theirs = (trained(hyperparameters, batches(), fused=fused) for fused in (True, False))
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-4)
    for name, weight in theirs[1].named_parameters():
        torch.testing.assert_close(dict(ours[1].named_parameters())[name], weight, atol=1e-5, rtol=1e-4, msg=name)
        assert not torch.equal(weight, dict(network_of(hyperparameters).named_parameters())[name]), name


@pytest.mark.parametrize("scale", [0.0, 30.0])
def test_loss_of_many_pairs_does_not_overflow(scale: float) -> None:
    """The loss of 3,000 pairs does not overflow, neither for undecided nor for certain predictions."""
    (batch,) = Batches(pairs_of([([1], [n % 8 + 1], float(n % 2)) for n in range(3000)]), size=3000).in_order()
    losses = []
    for fused in (True, False):
        network = network_of(matrices())
        with torch.no_grad():
            network.head.output.weight.mul_(scale)
        step = step_of(network, make_optimizers(network, matrices()))
        losses.append(
            step([batch], [1.0])[0].loss if fused else float(backward(network, Objective(regression=False), batch)[0])
        )
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1.3e-6)


def test_nan_in_weights_propagates_to_the_loss() -> None:
    hyperparameters = matrices()
    network = network_of(hyperparameters)
    with torch.no_grad():
        network.enc1.embedding.weight.fill_(np.nan)
    step = step_of(network, make_optimizers(network, hyperparameters))
    assert math.isnan(step(batches()[:1], [1.0])[0].loss)


def test_number_of_threads_grows_with_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one thread for each PRODUCTS_PER_THREAD, at least one, and at most all."""
    monkeypatch.setattr(
        "object2vec.training.step.PRODUCTS_PER_THREAD", 100 * matrices().encoders[0].token_embedding_dim
    )
    network = network_of(matrices())
    step = step_of(network, make_optimizers(network, matrices()))
    assert [step.threads(pairs) for pairs in (1, 199, 200, 1000)] == [1, 1, *[torch.get_num_threads()] * 2]


@pytest.mark.parametrize("pooling", ["mean", "sum"])
@pytest.mark.parametrize("row", [([0], [1]), ([], [1]), ([1], [2, 3])], ids=["token 0", "no token", "two tokens"])
def test_batches_of_other_lengths_take_the_autograd_step(row: tuple[list[int], list[int]], pooling: str) -> None:
    """The result and every weight are those of the autograd step, bit for bit."""
    hyperparameters = matrices(token_pooling=pooling)
    (batch,) = Batches(pairs_of([([1], [2], 1.0), (*row, 0.0)]), size=9).in_order()
    results, weights = [], []
    for fused in (True, False):
        network = network_of(hyperparameters)
        step = step_of(network, make_optimizers(network, hyperparameters))
        assert isinstance(step, FusedStep)
        results.append((step if fused else step._fallback)([batch], [1.0]))
        weights.append(network.state_dict())
    assert results[0] == results[1]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"mlp_layers": 1},
        {"dropout": 0.1},
        {"gradient_clip_norm": 1},
        {"network": "hcnn"},
        {"num_classes": 3},
        {"matryoshka_dims": "3"},
        {"pooled_projection": "linear"},
        {"comparator_list": "hadamard, cosine"},
        {"token_embedding_storage_type": "dense"},
        {"tied_token_embedding_weight": "true"},
        {
            "pretrained_learning_rate_factor": 0.5,
            "enc0_pretrained_embedding_file": "g.npy",
            "enc0_freeze_pretrained_embedding": "False",
        },
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_other_networks_have_no_fused_step(settings: dict[str, object]) -> None:
    hyperparameters = matrices(**settings)
    network = network_of(hyperparameters)
    optimizers = make_optimizers(network, hyperparameters)
    assert not isinstance(step_of(network, optimizers, hyperparameters.gradient_clip_norm), FusedStep)


def test_frozen_table_has_no_fused_step() -> None:
    """The fused step needs two trainable tables."""
    hyperparameters = matrices()
    network = network_of(hyperparameters)
    network.enc0.embedding.weight.requires_grad_(False)
    assert not isinstance(step_of(network, make_optimizers(network, hyperparameters)), FusedStep)
