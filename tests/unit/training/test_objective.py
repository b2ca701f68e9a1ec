"""What training makes small, by hand; metrics over all rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from object2vec.data.sequences import Sequences
from object2vec.training.objective import Metrics, Objective, measure_sets

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
