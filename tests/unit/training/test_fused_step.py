"""A step in one kernel is the step of autograd and of the optimizers."""

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
from object2vec.training.optimizers import make_optimizers
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


def step_of(network: Network, optimizers: Sequence[Optimizer]) -> Step:
    """The step that a trainer takes."""
    tuner = ThreadTuner(1)
    autograd_step = AutogradStep(network, Objective(regression=not network.softmax), optimizers, tuner)
    return make_step(network, optimizers, autograd_step, tuner)


def matrices(**settings: object) -> Hyperparameters:
    """Two tables and an output layer, of a width that is no whole number of vectors."""
    fixed = {"mlp_layers": 0, "enc0_token_embedding_dim": 19, "token_embedding_storage_type": "row_sparse"}
    return configured(learning_rate=0.05, **fixed | settings)


def batches(count: int = 40, size: int = 16) -> list[Batch]:
    """Pairs of single tokens, some objects in many of them, some in one, labels 0 and 1."""
    tokens = np.random.default_rng(0).integers(1, 9, (count, 2)) ** 2 // 9 + (np.arange(count) % 7 == 0)[:, None]
    rows = [([max(1, a)], [max(1, b)], float((a + b) % 2)) for a, b in tokens.tolist()]
    return list(Batches(pairs_of(rows), size=size).in_order())


@pytest.mark.parametrize("dim", [16, 32, 64, 100, 128])
def test_rows_of_every_width(dim: int) -> None:
    """Of widths that loops are compiled for, and of others; an optimizer that makes no small gradient large."""
    comparators = "hadamard, concat, abs_diff"
    hyperparameters = matrices(enc0_token_embedding_dim=dim, comparator_list=comparators, optimizer="sgd")
    ours, theirs = (trained(hyperparameters, batches(), fused=fused) for fused in (True, False))
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-4)
    for name, weight in theirs[1].named_parameters():
        torch.testing.assert_close(dict(ours[1].named_parameters())[name], weight, atol=1e-5, rtol=1e-4, msg=name)


def test_batches_at_once_are_batches_one_by_one() -> None:
    """What each says, and every weight and all that the optimizer remembers after them, to the last bit."""
    said, networks, remembered = [], [], []
    for at_once in (1, 2, 3):
        network = network_of(matrices()).train()
        (optimizer,) = optimizers = make_optimizers(network, matrices())
        step = step_of(network, optimizers)
        given = batches(70)
        said.append([one for at in range(0, len(given), at_once) for one in step(given[at : at + at_once])])
        networks.append(network.state_dict())
        remembered.append(optimizer.state_dict()["state"])
    assert len(said[0]) == len(given) == 5
    assert said[0] == said[1] == said[2]
    for again, memory in zip(networks[1:], remembered[1:], strict=True):
        torch.testing.assert_close(again, networks[0], rtol=0, atol=0)
        torch.testing.assert_close(memory, remembered[0], rtol=0, atol=0)


def test_few_large_batches_are_given_at_a_time() -> None:
    network = network_of(matrices())
    step = step_of(network, make_optimizers(network, matrices()))
    assert [step.batches_per_call(size) for size in (1, 4096, 10_000, 20_000, 10**6)] == [8, 8, 3, 1, 1]


def trained(hyperparameters: Hyperparameters, given: list[Batch], *, fused: bool) -> tuple[list[Any], Network]:
    """What each step says, and the network after all of them."""
    network, objective = network_of(hyperparameters).train(), Objective(regression=hyperparameters.regression)
    optimizers = make_optimizers(network, hyperparameters)
    step = step_of(network, optimizers)
    assert isinstance(step, FusedStep)
    said = []
    for batch in given:
        if fused:
            ((_, loss, correct),) = step([batch])
        else:
            left, output, labels = backward(network, objective, batch)
            loss, correct = left.item(), objective.correct(output, labels)
            for optimizer in optimizers:
                optimizer.step()
        said.append((loss, correct if not objective.regression else None))
    return said, network


@pytest.mark.parametrize(("output", "decay"), [("two", 0.0), ("number", 0.1)])
@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "sgd"])
@pytest.mark.parametrize("comparators", ["hadamard", "concat", "abs_diff, hadamard", "hadamard, concat, abs_diff"])
def test_it_is_the_step_of_gradients_and_optimizers(
    comparators: str, optimizer: str, output: str, decay: float
) -> None:
    """Losses, how many pairs get their class, and every weight after three steps."""
    settings = {"comparator_list": comparators, "optimizer": optimizer, "weight_decay": decay} | OUTPUTS[output]
    hyperparameters = matrices(**settings)
    ours, theirs = (trained(hyperparameters, batches(), fused=fused) for fused in (True, False))
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-4)
    for name, weight in theirs[1].named_parameters():
        torch.testing.assert_close(dict(ours[1].named_parameters())[name], weight, atol=1e-5, rtol=1e-4, msg=name)
        assert not torch.equal(weight, dict(network_of(hyperparameters).named_parameters())[name]), name


@pytest.mark.parametrize("scale", [0.0, 30.0])
def test_the_loss_of_many_pairs_of_one_token(scale: float) -> None:
    """Three thousand of them, undecided or decided beyond doubt: the product of what their losses are the logarithms of
    is taken apart before it is too large.
    """
    (batch,) = Batches(pairs_of([([1], [n % 8 + 1], float(n % 2)) for n in range(3000)]), size=3000).in_order()
    losses = []
    for fused in (True, False):
        network = network_of(matrices())
        with torch.no_grad():
            network.head.output.weight.mul_(scale)
        step = step_of(network, make_optimizers(network, matrices()))
        losses.append(
            step([batch])[0].loss if fused else float(backward(network, Objective(regression=False), batch)[0])
        )
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1.3e-6)


def test_a_number_that_is_none_shows_in_the_loss() -> None:
    hyperparameters = matrices()
    network = network_of(hyperparameters)
    with torch.no_grad():
        network.enc1.embedding.weight.fill_(np.nan)
    step = step_of(network, make_optimizers(network, hyperparameters))
    assert math.isnan(step(batches()[:1])[0].loss)


def test_little_is_not_worth_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread for each so many numbers of pairs, one at least, and no more than there are."""
    monkeypatch.setattr(
        "object2vec.training.step.PRODUCTS_PER_THREAD", 100 * matrices().encoders[0].token_embedding_dim
    )
    network = network_of(matrices())
    step = step_of(network, make_optimizers(network, matrices()))
    assert [step.threads(pairs) for pairs in (1, 199, 200, 1000)] == [1, 1, *[torch.get_num_threads()] * 2]


@pytest.mark.parametrize("row", [([0], [1]), ([], [1]), ([1], [2, 3])], ids=["token 0", "no token", "two tokens"])
def test_other_objects_are_stepped_by_autograd(row: tuple[list[int], list[int]]) -> None:
    """The result and every weight are those of the autograd step, bit for bit."""
    hyperparameters = matrices()
    (batch,) = Batches(pairs_of([([1], [2], 1.0), (*row, 0.0)]), size=9).in_order()
    results, weights = [], []
    for fused in (True, False):
        network = network_of(hyperparameters)
        step = step_of(network, make_optimizers(network, hyperparameters))
        assert isinstance(step, FusedStep)
        results.append((step if fused else step._fallback)([batch]))
        weights.append(network.state_dict())
    assert results[0] == results[1]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"mlp_layers": 1},
        {"dropout": 0.1},
        {"network": "hcnn"},
        {"num_classes": 3},
        {"token_embedding_storage_type": "dense"},
        {"tied_token_embedding_weight": "true"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_networks_of_other_forms_have_none(settings: dict[str, object]) -> None:
    hyperparameters = matrices(**settings)
    network = network_of(hyperparameters)
    assert not isinstance(step_of(network, make_optimizers(network, hyperparameters)), FusedStep)


def test_a_frozen_table_stays() -> None:
    """With one table to move there is no such step."""
    hyperparameters = matrices()
    network = network_of(hyperparameters)
    network.enc0.embedding.weight.requires_grad_(False)
    assert not isinstance(step_of(network, make_optimizers(network, hyperparameters)), FusedStep)
