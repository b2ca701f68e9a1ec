"""Pairs with several labels, from a channel to served probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import reference
from object2vec.errors import HyperparameterError
from object2vec.hyperparameters import parse
from object2vec.serving.predictor import Predictor
from object2vec.training.job import Job, run
from object2vec.training.objective import objective_of
from object2vec.training.optimizers import make_optimizers
from object2vec.training.step import AutogradStep, FusedStep, make_step
from object2vec.training.thread_tuner import ThreadTuner
from small import SMALL, configured, network_of, weights_of, write_pairs

#: All pairs have class 0, those of odd users class 2, and those of items from 5 on class 3.
ROWS = [([a], [b], [0, *[2] * (a % 2), *[3] * (b > 4)]) for a in range(1, 9) for b in range(1, 9)]
SETTINGS = SMALL | {"output_layer": "sigmoid", "num_classes": 4, "learning_rate": 0.05, "mini_batch_size": 16}


def trained(folder: Path, **changes: object) -> Predictor:
    channels = {name: write_pairs(folder / name, ROWS) for name in ("train", "validation")}
    run(Job(configuration=parse(SETTINGS | changes), channels=channels, model_dir=folder / "model"), style="quiet")
    return Predictor.load(folder / "model")


@pytest.mark.parametrize("changes", [{}, {"mlp_layers": 0}], ids=["layers", "linear"])
def test_probabilities_of_classes_are_learned_and_served(tmp_path: Path, changes: dict[str, object]) -> None:
    """Each class has a probability of its own, and a served score is that of the reference."""
    model = trained(tmp_path, epochs=60, early_stopping_patience=5, **changes)
    scores = model.score([(in0, in1) for in0, in1, _ in ROWS])
    weights = weights_of(model.network)
    for (in0, in1, _), own in zip(ROWS, scores, strict=True):
        np.testing.assert_allclose(own, reference.score(model.hyperparameters, weights, in0, in1), atol=1e-5)
    has = np.array([[c in own for c in range(4)] for *_, own in ROWS])
    assert (scores[:, 0] > 0.9).all()
    assert (scores[:, 1] < 0.1).all()
    assert ((scores > 0.5) == has).mean() > 0.95


def test_many_classes_need_no_kernel(tmp_path: Path) -> None:
    """A thousand classes are scored by a product of matrices; the scores are those of the reference."""
    model = trained(tmp_path, epochs=1, num_classes=1000, mlp_layers=0)
    assert model.network.linear_head is None
    scores = model.score([(in0, in1) for in0, in1, _ in ROWS[:3]])
    for (in0, in1, _), own in zip(ROWS, scores, strict=False):
        wanted = reference.score(model.hyperparameters, weights_of(model.network), in0, in1)
        np.testing.assert_allclose(own, wanted, atol=1e-5)


@pytest.mark.parametrize("layer", ["softmax", "sigmoid"])
def test_the_fused_step_declines(layer: str) -> None:
    """Its two classes are those of softmax."""
    changes = {"token_embedding_storage_type": "row_sparse", "mlp_layers": 0, "output_layer": layer}
    hyperparameters = configured(**changes)
    network = network_of(hyperparameters)
    optimizers, tuner = make_optimizers(network, hyperparameters), ThreadTuner(1)
    autograd_step = AutogradStep(network, objective_of(hyperparameters), optimizers, tuner)
    step = make_step(network, optimizers, autograd_step, tuner)
    assert isinstance(step, AutogradStep if layer == "sigmoid" else FusedStep)


def test_sampled_negatives_are_refused() -> None:
    """A pair without classes is none that is negative."""
    with pytest.raises(
        HyperparameterError, match="negative_sampling_rate: got '2', wanted 0 with output_layer=sigmoid"
    ):
        parse(SETTINGS | {"negative_sampling_rate": 2})
