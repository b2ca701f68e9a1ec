"""The output layer starts at the best constant output for the labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from object2vec.data.sequences import Pairs, Sequences
from object2vec.model.network import Network
from object2vec.training.console import ConsoleReport
from object2vec.training.distributed import SINGLE_PROCESS, Group
from object2vec.training.initial_bias import start_at_labels, subtract_initial_scores
from object2vec.training.objective import forward_batch, objective_of
from object2vec.training.trainer import Trainer, training_batches
from small import configured, network_of, pairs_of

#: Labels of classes 0, 1 and 3 of four.
LABELS = [0, 0, 1, 3, 3, 3, 3, 1]
REGRESSION = {"output_layer": "mean_squared_error"}


class TwoRanks(Group):
    """A group whose other rank has two pairs of class 2."""

    def sum(self, numbers: list[float]) -> list[float]:
        others = [2, 2, 4] if len(numbers) == 3 else [2, 2, 0, 0, 2, 0]
        return [own + other for own, other in zip(numbers, others, strict=True)]


def labelled(labels: list[int], weights: list[float] | None = None) -> Pairs:
    pairs = pairs_of(([1 + n % 4], [n + 1], float(label)) for n, label in enumerate(labels))
    return replace(pairs, weights=None if weights is None else np.array(weights, np.float32))


def initial_bias(
    labels: list[int],
    *,
    weights: list[float] | None = None,
    block: int = 2**20,
    group: Group = SINGLE_PROCESS,
    **values: object,
) -> list[float]:
    hyperparameters = configured(enc0_vocab_size=50, **values)
    bias = torch.full((hyperparameters.scores,), 7.0)
    train = training_batches(labelled(labels, weights), hyperparameters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("object2vec.training.initial_bias.BLOCK_PAIRS", block)
        start_at_labels(bias, train, objective_of(hyperparameters), group)
    return bias.tolist()


@pytest.mark.parametrize("block", [3, 2**20])
def test_softmax_starts_at_the_log_of_class_shares(block: int) -> None:
    """A class without pairs counts as one pair."""
    wanted = np.log(np.array([2, 2, 1, 4]) / 8)
    assert initial_bias(LABELS, block=block, num_classes=4) == pytest.approx(wanted)


def test_regression_starts_at_the_mean_label() -> None:
    assert initial_bias([1, 5, 3, 5], **REGRESSION) == [3.5]


@pytest.mark.parametrize("rate", [1, 4])
def test_sampled_negatives_count_with_label_0(rate: int) -> None:
    """Of three positives and one negative pair, each positive gets `rate` negatives."""
    labels, pairs = [1, 1, 0, 1], 4 + 3 * rate
    assert initial_bias(labels, negative_sampling_rate=rate, **REGRESSION) == pytest.approx([3 / pairs])
    assert initial_bias([1] * 4, negative_sampling_rate=rate, **REGRESSION) == pytest.approx([1 / (1 + rate)])
    wanted = np.log(np.array([1 + 3 * rate, 3]) / pairs)
    assert initial_bias(labels, negative_sampling_rate=rate) == pytest.approx(wanted)


@pytest.mark.parametrize("block", [1, 2**20])
def test_pairs_count_by_their_weights(block: int) -> None:
    """A negative has the weight of its positive."""
    given = {"weights": [0.5, 0, 2, 1.5], "block": block}
    labels, wanted = [0, 1, 1, 2], np.array([0.5, 2, 1.5]) / 4
    assert initial_bias(labels, num_classes=3, **given) == pytest.approx(np.log(wanted))
    assert initial_bias(labels, **given, **REGRESSION) == pytest.approx([5 / 4])
    assert initial_bias(labels, negative_sampling_rate=2, **given, **REGRESSION) == pytest.approx([5 / 11])
    wanted = np.array([7.5, 2, 1.5]) / 11
    assert initial_bias(labels, negative_sampling_rate=2, num_classes=3, **given) == pytest.approx(np.log(wanted))


@pytest.mark.parametrize("block", [2, 2**20])
def test_several_classes_start_at_their_log_odds(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four pairs with weights 1, 1, 2 and 4, class 0 is of the first and the last; class 2 is of none."""
    monkeypatch.setattr("object2vec.training.initial_bias.BLOCK_PAIRS", block)
    hyperparameters = configured(output_layer="sigmoid", num_classes=3)
    sets = Sequences.from_lists([[0, 1], [], [1], [0]])
    train = training_batches(replace(labelled([0] * 4, [1, 1, 2, 4]), classes=sets), hyperparameters)
    bias = torch.empty(3)
    start_at_labels(bias, train, objective_of(hyperparameters), SINGLE_PROCESS)
    shares = np.array([5 / 8, 3 / 8, 1 / 4])
    assert bias.tolist() == pytest.approx(np.log(shares / (1 - shares)).tolist())


def test_ranking_losses_keep_the_bias() -> None:
    values = {"ranking_loss": "in_batch_softmax", "comparator_list": "hadamard", "mlp_layers": 0, **REGRESSION}
    assert initial_bias([1, 1], **values) == [7]


def test_pairs_of_all_ranks_count() -> None:
    group = TwoRanks()
    wanted = np.log(np.array([2, 2, 2, 4]) / 10)
    assert initial_bias(LABELS, group=group, num_classes=4) == pytest.approx(wanted)
    assert initial_bias(LABELS, group=group, **REGRESSION) == pytest.approx([18 / 10])


class OneMore(Group):
    """A group whose other rank has one pair with the score 3."""

    def sum(self, numbers: list[float]) -> list[float]:
        return [numbers[0] + 3, numbers[1] + 1]


def test_scores_by_a_cosine_start_at_the_labels_on_average() -> None:
    """The mean cosine of a first batch is not 0, and the bias leaves it out; other ranks count."""
    values = {"comparator_list": "cosine, hadamard", "mlp_layers": 0, "dropout": 0.5, "matryoshka_dims": "2"}
    hyperparameters = configured(enc0_vocab_size=50, **values, **REGRESSION)
    torch.manual_seed(0)
    trainer = Trainer(Network(hyperparameters), hyperparameters, ConsoleReport(epochs=1, model_dir=Path(), quiet=True))
    train = training_batches(labelled([5, 3, 4, 4]), hyperparameters)
    trainer.fit(train, None, lambda: True)
    network = trainer.network.eval()
    (batch,) = train.epoch(0)
    scores, bias = forward_batch(network, batch)[0].detach(), network.output_bias.item()
    assert scores.mean().item() == pytest.approx(4, abs=1e-5)
    assert bias != pytest.approx(4, abs=1e-3)
    with torch.no_grad():
        network.output_bias.zero_()
    subtract_initial_scores(network, train, OneMore())
    assert network.output_bias.item() == pytest.approx(-((scores - bias).sum().item() + 3) / 5, abs=1e-5)


@pytest.mark.parametrize(("epochs_before", "batch", "started"), [(0, 0, True), (1, 0, False), (0, 3, False)])
def test_only_a_new_network_starts_at_the_labels(epochs_before: int, batch: int, started: bool) -> None:
    """A network that was trained before, or that continues from a checkpoint, keeps its bias."""
    hyperparameters = configured(**REGRESSION)
    report = ConsoleReport(epochs=1, model_dir=Path(), quiet=True)
    trainer = Trainer(network_of(hyperparameters), hyperparameters, report, epochs_before=epochs_before)
    trainer.batch, before = batch, trainer.network.output_bias.item()
    trainer.fit(training_batches(labelled([5, 3]), hyperparameters), None, lambda: True)
    assert trainer.network.output_bias.item() == (4 if started else before)
