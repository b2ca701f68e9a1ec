"""A sweep over all networks, optimizers and output layers, as a tuning job runs it. No job fails."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import object2vec
from object2vec.hyperparameters import parse
from object2vec.hyperparameters.table import NETWORKS, OPTIMIZERS, POOLINGS, ROW_SPARSE_OPTIMIZERS
from object2vec.ops.codes import ACTIVATIONS, COMPARATORS
from object2vec.training.job import Job, run
from small import write_pairs

pytestmark = pytest.mark.slow

VOCABULARY = 40


def configuration(number: int) -> dict[str, Any]:
    """Return one configuration; 20 of them cover all pairs of network, optimizer and output layer."""
    draw = random.Random(number)
    optimizer = OPTIMIZERS[number % len(OPTIMIZERS)]
    sparse = optimizer in ROW_SPARSE_OPTIMIZERS and draw.random() < 0.5
    values: dict[str, Any] = {
        "enc0_network": NETWORKS[number % len(NETWORKS)],
        "output_layer": ("softmax", "mean_squared_error")[number % 2],
        "optimizer": optimizer,
        "enc0_max_seq_len": draw.randint(1, 8),
        "enc0_vocab_size": VOCABULARY,
        "enc0_token_embedding_dim": draw.choice([2, 5, 16]),
        "enc0_layers": draw.choice(["auto", 1, 2, 4]),
        "enc0_cnn_filter_width": draw.randint(1, 9),
        "enc_dim": draw.choice([4, 7, 33]),
        "comparator_list": ",".join(draw.sample(COMPARATORS, draw.randint(1, 3))),
        "tied_token_embedding_weight": draw.random() < 0.5,
        "token_embedding_storage_type": "row_sparse" if sparse else "dense",
        "negative_sampling_rate": draw.choice([0, 0, 1, 3]),
        "negative_sampling_distribution": draw.choice(["frequency", "uniform"]),
        "mlp_layers": draw.choice([0, 1, 2, 10]),
        "mlp_dim": draw.choice([2, 16]),
        "mlp_activation": draw.choice(ACTIVATIONS),
        "dropout": draw.choice([0, 0.3, 1]),
        "learning_rate": 10 ** draw.uniform(-6, -1),
        "weight_decay": draw.choice([0, 0.01]),
        "mini_batch_size": draw.choice([1, 7, 64, 10_000]),
        "bucket_width": draw.choice([0, 1, 5]),
        "ema_decay": 0 if sparse else draw.choice([0, 0.9]),
        "epochs": 2,
        "seed": number,
        "token_pooling": draw.choice([*POOLINGS]),
        "pooled_projection": draw.choice([*ACTIVATIONS, "none"]),
        "tied_encoder_weight": number % 4 == 2,
    }
    if number % 4 == 3:  # its own second network, with the length of the first
        values |= {
            "enc1_network": values["enc0_network"] if values["enc0_network"] == "pooled_embedding" else "bilstm",
            "enc1_max_seq_len": 3,
            "enc1_vocab_size": VOCABULARY,
            "enc1_token_embedding_dim": values["enc0_token_embedding_dim"],
        }
    return values


def test_sweep_covers_all_pairs() -> None:
    """All pairs of networks, optimizers and output layers occur."""
    sweep = [configuration(number) for number in range(20)]
    for one, other, count in [("enc0_network", "optimizer", 15), ("enc0_network", "output_layer", 6)]:
        assert len({(values[one], values[other]) for values in sweep}) == count
    assert len({(values["optimizer"], values["output_layer"]) for values in sweep}) == 10


@pytest.mark.parametrize("number", range(20))
def test_valid_configuration_trains_saves_and_loads(tmp_path: Path, number: int) -> None:
    """The job trains, validates, scores, saves, loads, scores and encodes, with finite numbers."""
    draw = random.Random(number)
    sequences = [[draw.randrange(VOCABULARY) for _ in range(draw.randint(0, 10))] for _ in range(100)]
    rows = [(a, b, draw.randint(0, 1)) for a, b in zip(sequences[:50], sequences[50:], strict=True)]
    parts = {"train": rows, "validation": rows[:20], "test": rows[20:]}
    channels = {name: write_pairs(tmp_path / name, part) for name, part in parts.items()}
    values = configuration(number)
    run(Job(configuration=parse(values), channels=channels, model_dir=tmp_path / "model"))
    model = object2vec.load(tmp_path / "model")
    scores = model.score([(in0, in1) for in0, in1, _ in rows])
    assert scores.shape == (50, 2 if values["output_layer"] == "softmax" else 1)
    assert np.isfinite(scores).all()
    for side, inputs in (("in0", sequences[:50]), ("in1", sequences[50:])):
        assert np.isfinite(model.encode(inputs, side=side)).all()
