"""Train the rating model of the built-in's notebook on MovieLens, with its settings, next to user and film biases.

Ten ratings of each user are held out, as in the notebook's data. The mean squared error is that of the held-out
ratings. The biases have the regularization that is best on them.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch
from workloads import movielens, ratings

from object2vec.array_types import Float32, Int64
from object2vec.hyperparameters import parse
from object2vec.model.network import Network
from object2vec.training.console import ConsoleReport
from object2vec.training.evaluation import never, scoring_batches
from object2vec.training.trainer import Trainer, training_batches

HELD_OUT_PER_USER = 10
SETTINGS = {
    "enc0_network": "pooled_embedding",
    "enc1_network": "pooled_embedding",
    "enc0_max_seq_len": 1,
    "enc1_max_seq_len": 1,
    "enc0_token_embedding_dim": 300,
    "enc1_token_embedding_dim": 300,
    "enc_dim": 1024,
    "output_layer": "mean_squared_error",
    "mlp_layers": 1,
    "mlp_dim": 256,
    "mlp_activation": "tanh",
    "optimizer": "adam",
    "learning_rate": 0.001,
    "mini_batch_size": 64,
    "epochs": 20,
    "early_stopping_tolerance": 0.01,
    "early_stopping_patience": 3,
}
REGULARIZATIONS = (1, 2, 3, 5, 8, 12)
SWEEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    train, held = split(movielens()[0])
    found = min((biases_mse(train, held, u, f), u, f) for u in REGULARIZATIONS for f in REGULARIZATIONS)
    print(f"user and film biases, regularized with {found[1]} and {found[2]}: {found[0]:.4f}")
    best = []
    for seed in range(seeds):
        by_epoch = notebook_mse(train, held, seed)
        best.append(min(by_epoch))
        print(f"notebook's settings, seed {seed}, by epoch:", *(f"{mse:.4f}" for mse in by_epoch), flush=True)
    print(f"notebook's settings, best epoch, mean of {seeds} seeds: {statistics.mean(best):.4f}")


def split(user: Int64, seed: int = 0) -> tuple[Int64, Int64]:
    """Return the rows for training, and `HELD_OUT_PER_USER` random rows of each user."""
    order = np.random.default_rng(seed).permutation(len(user))
    order = order[np.argsort(user[order], kind="stable")]
    starts = np.searchsorted(user[order], user[order])
    is_held = np.arange(len(user)) - starts < HELD_OUT_PER_USER
    return order[~is_held], order[is_held]


def notebook_mse(train: Int64, held: Int64, seed: int) -> list[float]:
    """Return the mean squared error of the held-out ratings after each epoch."""
    sizes = {f"enc{side}_vocab_size": int(ids.max()) + 1 for side, ids in enumerate(movielens()[:2])}
    hyperparameters = parse(SETTINGS | sizes | {"seed": seed}).hyperparameters
    torch.manual_seed(seed)
    report = ConsoleReport(epochs=hyperparameters.epochs, model_dir=Path(), quiet=True)
    trainer = Trainer(Network(hyperparameters), hyperparameters, report)
    pairs = ratings()
    trainer.fit(
        training_batches(pairs.take(train), hyperparameters),
        scoring_batches(pairs.take(held), hyperparameters),
        never,
    )
    return [epoch["validation"]["mean_squared_error"] for epoch in trainer.history]


def biases_mse(train: Int64, held: Int64, user_regularization: float, film_regularization: float) -> float:
    """Return the mean squared error of the mean rating plus a bias of the user and one of the film.

    The biases are fitted in turn. A bias is a sum of errors, divided by their number plus the regularization.
    """
    user, film, stars = movielens()
    mean = stars[train].mean()
    biases = [np.zeros(int(ids.max()) + 1) for ids in (user, film)]
    for _ in range(SWEEPS):
        for own, (ids, other, regularization) in enumerate(
            ((user, film, user_regularization), (film, user, film_regularization))
        ):
            errors = stars[train] - mean - biases[1 - own][other[train]]
            sums, counts = (np.bincount(ids[train], given, len(biases[own])) for given in (errors, None))
            biases[own] = sums / (counts + regularization)
    return mean_squared_error(mean + biases[0][user[held]] + biases[1][film[held]], stars[held])


def mean_squared_error(predictions: Float32, labels: Float32) -> float:
    return float(np.mean((predictions - labels) ** 2))


if __name__ == "__main__":
    main()
