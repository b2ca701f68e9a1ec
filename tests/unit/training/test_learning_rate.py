"""Schedules of the learning rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from object2vec.training.checkpoints import Checkpoints
from object2vec.training.console import ConsoleReport
from object2vec.training.distributed import SINGLE_PROCESS
from object2vec.training.evaluation import never
from object2vec.training.learning_rate import LearningRateSchedule
from object2vec.training.step import FusedStep
from object2vec.training.trainer import Trainer, training_batches
from small import StopAfter, configured, network_of, pairs_of, weights_of

ROWS = [([user], [item], float(user % 2 == item % 2)) for user in range(1, 9) for item in range(1, 9)]
SGD = {"optimizer": "sgd", "learning_rate": 0.1, "mini_batch_size": 8, "epochs": 3}
SCHEDULE = {"learning_rate_schedule": "cosine", "learning_rate_warmup": 0.2}
FUSED = {"mlp_layers": 0, "comparator_list": "hadamard", "token_embedding_storage_type": "row_sparse"}


def factors(name: str, warmup: float, *, epochs: int = 2, batches: int = 5) -> list[float]:
    schedule = LearningRateSchedule(name, warmup, epochs, batches)
    return [schedule.factor(epoch, batch) for epoch in range(epochs) for batch in range(batches)]


def test_constant_rate_is_always_the_same() -> None:
    assert factors("constant", 0) == [1.0] * 10


def test_rate_rises_linearly_in_the_warm_up() -> None:
    assert factors("constant", 0.4) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1])
    assert factors("constant", 1) == pytest.approx(np.arange(1, 11) / 10)


def test_linear_rate_falls_to_the_end() -> None:
    assert factors("linear", 0) == pytest.approx(np.arange(10, 0, -1) / 10)
    assert factors("linear", 0.2) == pytest.approx([0.5, 1, *np.arange(8, 0, -1) / 8])


def test_cosine_rate_falls_to_the_end() -> None:
    assert factors("cosine", 0) == pytest.approx((1 + np.cos(np.pi * np.arange(10) / 10)) / 2)
    assert factors("cosine", 0.2) == pytest.approx([0.5, 1, *(1 + np.cos(np.pi * np.arange(8) / 8)) / 2])


def test_batches_past_the_expected_number_have_the_last_factor_of_their_epoch() -> None:
    schedule = LearningRateSchedule("linear", 0, 2, 5)
    assert schedule.factor(0, 7) == schedule.factor(0, 4)
    assert schedule.factor(1, 7) == schedule.factor(1, 4) == pytest.approx(0.1)


def fitted(folder: Path | None = None, stop: StopAfter | None = None, **settings: object) -> Trainer:
    hyperparameters = configured(**SGD | settings)
    checkpoints = Checkpoints(folder, SINGLE_PROCESS) if folder else None
    report = ConsoleReport(epochs=3, model_dir=Path(), quiet=True)
    trainer = Trainer(network_of(hyperparameters), hyperparameters, report, checkpoints=checkpoints)
    if checkpoints and (found := checkpoints.find()):
        trainer.load_state_dict(found)
    trainer.fit(training_batches(pairs_of(ROWS), hyperparameters), None, stop or never)
    return trainer


@pytest.mark.parametrize("settings", [{}, FUSED], ids=["autograd", "fused"])
def test_each_step_has_the_rate_of_the_schedule(settings: dict[str, object]) -> None:
    """The steps of a schedule are those of jobs whose learning rate is that of the step."""
    scheduled = fitted(**settings, epochs=1, learning_rate_schedule="linear")
    assert isinstance(scheduled.step, FusedStep) == bool(settings)
    by_hand = Trainer(
        network_of(configured(**SGD | settings)),
        hyperparameters := configured(**SGD | settings),
        ConsoleReport(epochs=1, model_dir=Path(), quiet=True),
    )
    train = training_batches(pairs_of(ROWS), hyperparameters)
    by_hand.network.output_bias.data.copy_(torch.tensor([0.5, 0.5]).log())
    for i, batch in enumerate(train.epoch(0)):
        for optimizer in by_hand.optimizers:
            for group in optimizer.param_groups:
                group["initial_lr"] = 0.1 * (8 - i) / 8
        by_hand.step([batch], [1.0])
    for name, weight in weights_of(by_hand.network).items():
        np.testing.assert_allclose(weights_of(scheduled.network)[name], weight, rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("settings", [{}, FUSED], ids=["autograd", "fused"])
@pytest.mark.parametrize("batches", [3, 8, 13])
def test_resumed_job_has_the_same_weights(settings: dict[str, object], batches: int, tmp_path: Path) -> None:
    whole = fitted(**settings, **SCHEDULE)
    fitted(tmp_path, StopAfter(batches), **settings, **SCHEDULE)
    resumed = fitted(tmp_path, **settings, **SCHEDULE)
    for name, weight in weights_of(whole.network).items():
        np.testing.assert_array_equal(weights_of(resumed.network)[name], weight, err_msg=name)
