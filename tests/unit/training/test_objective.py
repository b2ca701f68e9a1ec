"""What training makes small, by hand; metrics over all rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from object2vec.data.batches import Batches
from object2vec.data.records import MAX_WEIGHT
from object2vec.data.sequences import Sequences
from object2vec.training.objective import Metrics, Objective, measure_sets, objective_of
from object2vec.training.step import backward
from reference import in_batch_cross_entropy, output
from small import configured, gradients_of, network_of, pairs_of, weights_of

CLASSES = Objective(regression=False)
NUMBER = Objective(regression=True)


def test_cross_entropy_by_hand() -> None:
    """Logits (0, 0) and (0, ln 3) have probabilities (1/2, 1/2) and (1/4, 3/4); for the classes 0 and 1 the loss is
    (-ln 1/2 - ln 3/4) / 2 = (ln 2 + ln 4/3) / 2.
    """
    output = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    loss = CLASSES.loss(output, torch.tensor([0.0, 1.0])).item()
    assert loss == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


def test_nan_score_gives_nan_loss() -> None:
    """A score that is NaN gives a loss that is NaN."""
    assert math.isnan(CLASSES.loss(torch.tensor([[0.0, math.nan], [1.0, 0.0]]), torch.zeros(2)).item())


def test_mean_squared_error_by_hand() -> None:
    """Outputs 1, 2 and 5 for the labels 1, 4 and 4 are off by 0, 2 and 1: (0 + 4 + 1) / 3."""
    loss = NUMBER.loss(torch.tensor([[1.0], [2.0], [5.0]]), torch.tensor([1.0, 4.0, 4.0])).item()
    assert loss == pytest.approx(5 / 3)


def test_weighted_means_by_hand() -> None:
    """Errors 0, 2 and 1 with the weights 5, 1 and 2 have the mean square (0 + 4 + 2) / 8."""
    output, labels, weights = (
        torch.tensor([[1.0], [2.0], [5.0]]),
        torch.tensor([1.0, 4.0, 4.0]),
        torch.tensor([5.0, 1, 2]),
    )
    assert NUMBER.loss(output, labels, weights).item() == pytest.approx(6 / 8)
    assert NUMBER.loss(output, labels, torch.zeros(3)).item() == 0
    for factor in (MAX_WEIGHT / 5, 1e-30):
        assert NUMBER.loss(output * 1e4, labels * 1e4, factor * weights).item() == pytest.approx(1e8 * 6 / 8)


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_weight_is_as_many_copies_of_a_pair(classes: int) -> None:
    """Weights 0, 1 and 3 give the loss, its gradient and the accuracy of no, one and three copies of a pair."""
    output = torch.randn(3, classes, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels, weights, copies = torch.tensor([0.0, 1, 1]), torch.tensor([0.0, 1, 3]), torch.tensor([1, 2, 2, 2])
    weighted, copied = CLASSES.loss(output, labels, weights), CLASSES.loss(output[copies], labels[copies])
    torch.testing.assert_close(weighted, copied)
    torch.testing.assert_close(*(torch.autograd.grad(loss, output)[0] for loss in (weighted, copied)))
    assert CLASSES.correct(output, labels, weights) == CLASSES.correct(output[copies], labels[copies])
    metrics = Metrics(CLASSES)
    metrics.add(weighted.item(), 3, CLASSES.correct(output, labels, weights), 4)
    metrics.add(1.0, 1, 0, 0)
    assert (metrics.rows, metrics.loss) == (4, pytest.approx(copied.item()))
    assert metrics.values()["accuracy"] == CLASSES.correct(output[copies], labels[copies]) / 4
    assert Metrics(CLASSES, metrics.numbers).values() == metrics.values()
    assert Metrics(CLASSES, [4, 2, 8.0, 3]).values()["accuracy"] == 0.75  # of an older checkpoint


SETS = [[0, 2], [], [1, 2, 3]]


def measured_sets(output: torch.Tensor, weights: torch.Tensor | None = None) -> tuple[torch.Tensor, float]:
    return measure_sets(output, Sequences.from_lists(SETS), weights)


def test_loss_of_several_classes_is_the_sum_over_all() -> None:
    """It is minus the logarithm of the probability of exactly these classes; its gradient is checked numerically."""
    output = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    has = np.array([[c in own for c in range(4)] for own in SETS])
    probabilities = 1 / (1 + np.exp(-output.detach().numpy()))
    losses = -np.log(np.where(has, probabilities, 1 - probabilities)).sum(axis=1)
    weights = torch.tensor([1.0, 2, 5], dtype=torch.float64)
    assert measured_sets(output)[0].item() == pytest.approx(losses.mean())
    assert measured_sets(output, weights)[0].item() == pytest.approx(losses @ weights.numpy() / 8)
    assert torch.autograd.gradcheck(lambda x: measured_sets(x, weights)[0], output)


def test_a_pair_is_correct_if_its_best_class_is_one_of_its_own() -> None:
    output = torch.tensor([[0.0, 0, 3, 0], [1, 0, 0, 0], [2, 1, 1, 1]])
    assert measured_sets(output)[1] == 1
    assert measured_sets(output, torch.tensor([2.0, 1, 1]))[1] == 2


@pytest.mark.parametrize("objective", [CLASSES, NUMBER])
def test_a_batch_of_one_has_a_loss(objective: Objective) -> None:
    """One pair has the loss that it has among copies of itself."""
    width = 1 if objective.regression else 2
    one = objective.loss(torch.ones(1, width) * 3, torch.tensor([1.0]))
    many = objective.loss(torch.ones(4, width) * 3, torch.ones(4))
    assert one.shape == ()
    torch.testing.assert_close(one, many)


def test_metrics_count_each_row_once() -> None:
    """Batches of unequal size count by their rows: three rows of loss 1 and one of loss 5 have the mean 2."""
    metrics = Metrics(CLASSES)
    metrics.add(1.0, 3, CLASSES.correct(torch.tensor([[1.0, 0.0]] * 3), torch.tensor([0.0, 0.0, 1.0])))
    metrics.add(5.0, 1, CLASSES.correct(torch.tensor([[0.0, 1.0]]), torch.tensor([1.0])))
    assert (metrics.rows, metrics.batches) == (4, 2)
    assert metrics.loss == 2.0
    assert metrics.values() == {"perplexity": pytest.approx(math.exp(2)), "cross_entropy": 2.0, "accuracy": 0.75}
    assert list(metrics.values()) == ["perplexity", "cross_entropy", "accuracy"]


def test_a_regression_has_one_metric() -> None:
    """Real labels have the mean squared error alone, which is the monitored loss."""
    metrics = Metrics(NUMBER)
    metrics.add(0.25, 2, NUMBER.correct(torch.ones(2, 1), torch.ones(2)))
    assert metrics.values() == {"mean_squared_error": 0.25}
    assert (NUMBER.monitor, CLASSES.monitor) == ("mean_squared_error", "cross_entropy")


def test_a_huge_loss_has_a_perplexity() -> None:
    """A cross-entropy past what exp can give has an infinite perplexity and no error."""
    metrics = Metrics(CLASSES)
    metrics.add(1e6, 1, 0)
    assert metrics.values()["perplexity"] == math.inf


def test_many_rows_lose_no_precision() -> None:
    """A thousand small losses beside a huge one still count: sums are in float64."""
    metrics = Metrics(NUMBER)
    metrics.add(1e8, 1, 0)
    for _ in range(1000):
        metrics.add(1.0, 1, 0)
    assert metrics.loss == (1e8 + 1000) / 1001


ROWS = [([1], [5, 2], 1.0), ([2], [6], 1.0), ([2, 0, 4], [7], 1.0), ([], [3], 1.0)]
NUMBERS = {"output_layer": "mean_squared_error"}
PREFIX_HEADS = {
    "products": {"mlp_layers": 0},
    "cosine": {"mlp_layers": 0, "comparator_list": "cosine, concat", **NUMBERS},
    "layers": {"mlp_layers": 2, "mlp_activation": "tanh", "comparator_list": "hadamard, cosine", **NUMBERS},
    "in batch": {"mlp_layers": 0, "comparator_list": "hadamard, concat", "ranking_loss": "in_batch_softmax", **NUMBERS},
}


@pytest.mark.parametrize("head", PREFIX_HEADS)
def test_loss_of_prefixes_equals_the_slow_reference(head: str) -> None:
    """It is the mean of the losses of encodings that are 0 after 2, 3 and all 4 numbers; validation has the last."""
    hyperparameters = configured(matryoshka_dims="4, 2, 3", **PREFIX_HEADS[head])
    network, (batch,) = network_of(hyperparameters), Batches(pairs_of(ROWS), size=9, sampled_candidates=0).in_order()
    losses = []
    for dim in (2, 3, 4):
        weights = weights_of(network)
        for name in ("enc0.embedding.weight", "enc1.embedding.weight"):
            weights[name] = weights[name] * (np.arange(4) < dim)
        if hyperparameters.ranks:
            losses.append(np.mean(in_batch_cross_entropy(hyperparameters, weights, [row[:2] for row in ROWS])[0]))
            continue
        outputs = np.array([output(hyperparameters, weights, *row[:2]) for row in ROWS])
        if hyperparameters.squared_error:
            losses.append(np.mean((outputs[:, 0] - 1) ** 2))
        else:
            losses.append(np.mean(np.log(np.exp(outputs).sum(1)) - outputs[:, 1]))
    objective = objective_of(hyperparameters)
    with torch.no_grad():
        assert objective.measure(network, batch)[0].item() == pytest.approx(losses[-1], abs=1e-5)
        assert objective.measure(network.train(), batch)[0].item() == pytest.approx(np.mean(losses), abs=1e-5)


@pytest.mark.parametrize("head", PREFIX_HEADS)
def test_gradients_of_prefixes_are_those_of_finite_differences(head: str) -> None:
    hyperparameters = configured(matryoshka_dims="2", **PREFIX_HEADS[head])
    network, objective = network_of(hyperparameters).double().train(), objective_of(hyperparameters)
    (batch,) = Batches(pairs_of(ROWS), size=9, sampled_candidates=0).in_order()
    batch = replace(batch, labels=np.ones(len(batch)), weights=np.ones(len(batch)))
    backward(network, objective, batch)
    found = gradients_of(network)
    for name, parameter in network.named_parameters():
        values, place = parameter.detach().view(-1), parameter.numel() // 2
        value, losses = values[place].item(), []
        for change in (1e-6, -1e-6):
            values[place] = value + change
            losses.append(objective.measure(network, batch)[0].item())
        values[place] = value
        gradient = 0 if found[name] is None else found[name].view(-1)[place].item()
        assert gradient == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-5), name
