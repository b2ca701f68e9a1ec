"""Ranking metrics of validation, and early stopping by metrics other than the loss."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from object2vec.errors import DataError, HyperparameterError
from object2vec.hyperparameters import Hyperparameters, parse
from object2vec.training import ranking_metrics
from object2vec.training.best_model import BestModel
from object2vec.training.checkpoints import Checkpoints
from object2vec.training.checks import check_channels
from object2vec.training.distributed import SINGLE_PROCESS, Group
from object2vec.training.evaluation import never, scoring_batches
from object2vec.training.job import Job
from object2vec.training.ranking_metrics import RankingMetrics
from object2vec.training.report import SageMakerReport
from object2vec.training.trainer import Trainer, training_batches
from reference import output
from small import SMALL, StopAfter, configured, network_of, pairs_of, weights_of

#: Users 1 to 6 with two films each in training, of 1 to 8, and one or two in validation.
TRAIN = [([user], [1 + (user * k) % 8], 1.0) for user in range(1, 7) for k in (1, 3)] + [([1], [8], 0.0)]
VALIDATION = [([user], [1 + (user * k + 2) % 8], 1.0) for user in range(1, 7) for k in (1, 2)] + [([2], [1], 0.0)]
OUTPUTS = {"number": {"output_layer": "mean_squared_error"}, "classes": {}}


def reference(hyperparameters: Hyperparameters, weights: dict[str, np.ndarray], name: str) -> float:
    """Return a metric, by one score at a time."""
    candidates = sorted({in1[0] for _, in1, _ in TRAIN})
    values = []
    for user in sorted({in0[0] for in0, _, label in VALIDATION if label}):
        wanted = {in1[0] for in0, in1, label in VALIDATION if label and in0 == [user]} & set(candidates)
        seen = {in1[0] for in0, in1, label in TRAIN if label and in0 == [user]} - wanted
        found = {}
        for film in set(candidates) - seen:
            scores = output(hyperparameters, weights, [user], [film])
            found[film] = scores[-1] - (scores[0] if len(scores) > 1 else 0)
        order = sorted(found, key=lambda film: -found[film])
        ranks = [order.index(film) + 1 for film in wanted]
        if not ranks:
            continue
        if name == "mrr":
            values.append(1 / min(ranks))
        elif name == "hit_rate@10":
            values.append(float(min(ranks) <= 10))
        else:
            ideal = sum(1 / np.log2(rank + 1) for rank in range(1, len(ranks) + 1))
            values.append(sum(1 / np.log2(rank + 1) for rank in ranks if rank <= 10) / ideal)
    return float(np.mean(values))


@pytest.mark.parametrize("name", ["ndcg@10", "hit_rate@10", "mrr"])
@pytest.mark.parametrize("of", OUTPUTS)
@pytest.mark.parametrize("layers", [0, 1])
def test_metric_equals_the_reference(name: str, of: str, layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs are scored in any number of parts."""
    monkeypatch.setattr(ranking_metrics, "BLOCK_PAIRS", 5)
    hyperparameters = configured(mlp_layers=layers, **OUTPUTS[of])
    network = network_of(hyperparameters)
    ranking = RankingMetrics(pairs_of(TRAIN), pairs_of(VALIDATION), seed=0)
    wanted = reference(hyperparameters, weights_of(network), name)
    assert ranking.measure(name, network, SINGLE_PROCESS) == pytest.approx(wanted)


def test_ranks_share_the_queries() -> None:
    """The sums of two ranks give the metric of one process."""
    network = network_of(configured())
    summed = []

    class Recorded(Group):
        def sum(self, numbers: list[float]) -> list[float]:
            summed.append(numbers)
            return list(numbers)

    pairs = pairs_of(TRAIN), pairs_of(VALIDATION)
    for rank in range(2):
        RankingMetrics(*pairs, seed=0, share=(rank, 2)).measure("mrr", network, Recorded())
    total, queries = np.sum(summed, axis=0)
    whole = RankingMetrics(*pairs, seed=0).measure("mrr", network, SINGLE_PROCESS)
    assert total / queries == pytest.approx(whole)
    assert all(numbers[1] for numbers in summed)


def test_many_candidates_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed gives the same value."""
    monkeypatch.setattr(ranking_metrics, "MAX_CANDIDATES", 3)
    monkeypatch.setattr(ranking_metrics, "SAMPLED_CANDIDATES", 2)
    network, pairs = network_of(configured()), (pairs_of(TRAIN), pairs_of(VALIDATION))
    values = [RankingMetrics(*pairs, seed=seed).measure("mrr", network, SINGLE_PROCESS) for seed in (1, 1)]
    assert values[0] == values[1]
    assert RankingMetrics(*pairs, seed=1).task.sampled == 2


def test_validation_without_positives_has_the_value_0() -> None:
    negatives = pairs_of([([1], [1], 0.0)])
    ranking = RankingMetrics(pairs_of(TRAIN), negatives, seed=0)
    assert ranking.measure("ndcg@10", network_of(configured()), SINGLE_PROCESS) == 0


def fitted(metric: str, folder: Path | None = None, stop: StopAfter | None = None, **values: object) -> Trainer:
    given = {"learning_rate": 0.1, "epochs": 6, "mini_batch_size": 4, "early_stopping_patience": 5, **values}
    hyperparameters = configured(early_stopping_metric=metric, **given)
    train, validation = pairs_of(TRAIN), pairs_of(VALIDATION)
    ranking = RankingMetrics(train, validation, seed=0) if metric not in ("loss", "accuracy") else None
    checkpoints = Checkpoints(folder, SINGLE_PROCESS) if folder else None
    report = SageMakerReport(host="algo-1", epochs=6)
    made = Trainer(network_of(hyperparameters), hyperparameters, report, checkpoints=checkpoints, ranking=ranking)
    if checkpoints and (found := checkpoints.find()):
        made.load_state_dict(found)
    made.fit(training_batches(train, hyperparameters), scoring_batches(validation, hyperparameters), stop or never)
    return made


@pytest.mark.parametrize("metric", ["accuracy", "ndcg@10", "mrr"])
def test_best_epoch_has_the_highest_value(metric: str, caplog: pytest.LogCaptureFixture) -> None:
    """The first such epoch is kept, and the log names the metric."""
    caplog.set_level(logging.INFO)
    made = fitted(metric)
    values = [epoch["validation"][metric] for epoch in made.history]
    assert len(set(values)) > 1
    assert made.best.epoch == values.index(max(values))
    assert made.best.loss == made.history[made.best.epoch]["validation"]["cross_entropy"]
    assert f"#quality_metric: host=algo-1, epoch=0, validation {metric} <score>={values[0]}" in caplog.messages
    made.report.best(made.best)
    assert caplog.messages[-1] == f"Best model based on epoch {made.best.epoch}. Best {metric}: {max(values):.3f}"


def test_training_stops_when_the_metric_no_longer_rises(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made = fitted("hit_rate@10", early_stopping_patience=1)  # always 1: there are eight films
    assert made.epoch == 3
    assert "patience values of hit_rate@10: [1.0]" in caplog.messages
    assert "Bad epoch: hit_rate@10 has not improved (enough). Bad count:1" in caplog.messages


@pytest.mark.parametrize("batches", [2, 7])
def test_resumed_job_keeps_the_same_epoch(batches: int, tmp_path: Path) -> None:
    whole = fitted("mrr")
    fitted("mrr", tmp_path, StopAfter(batches))
    resumed = fitted("mrr", tmp_path)
    assert resumed.history == whole.history
    assert (resumed.best.epoch, resumed.best.cost) == (whole.best.epoch, whole.best.cost)
    for name, weight in weights_of(whole.network).items():
        np.testing.assert_array_equal(weights_of(resumed.network)[name], weight, err_msg=name)


def test_checkpoint_of_an_older_version_continues_by_its_loss() -> None:
    best = BestModel()
    best.load_state_dict({"best_epoch": 2, "best_loss": 0.5, "best_metrics": {}}, network_of(configured()))
    assert best.cost == 0.5


@pytest.mark.parametrize(
    ("metric", "values", "wanted"),
    [
        ("accuracy", OUTPUTS["number"], "wanted another metric with output_layer=mean_squared_error"),
        ("mrr", {"num_classes": 3}, "wanted loss or accuracy with output_layer=softmax and num_classes=3"),
    ],
)
def test_metric_that_the_output_layer_lacks_is_an_error(metric: str, values: dict[str, object], wanted: str) -> None:
    with pytest.raises(HyperparameterError, match=f"early_stopping_metric: got '{metric}', {wanted}"):
        configured(early_stopping_metric=metric, **values)


def test_ranking_without_validation_is_an_error(tmp_path: Path) -> None:
    job = Job(
        configuration=parse(SMALL | {"early_stopping_metric": "mrr"}),
        channels={"train": tmp_path},
        model_dir=tmp_path / "model",
    )
    with pytest.raises(DataError, match="early_stopping_metric is mrr, wanted a validation channel; the channels are:"):
        check_channels(job)
