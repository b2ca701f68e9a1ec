"""Compare token embeddings in float32 and float16: one trained model of film ratings, saved and served in both.

Scores are stars, from .5 to 5.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from quality import OUR_RATINGS, RATING, Array, Ratings, hyperparameters_of, split, train_ours
from workloads import movielens

from object2vec import artifact
from object2vec.serving.predictor import Predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, _, test = split(Ratings(*movielens()))
    settings = {**OUR_RATINGS, **next(system.chosen for system in RATING if system.name == "object2vec, ema_decay")}
    network, hyperparameters = train_ours(train, train.stars, settings, 0), hyperparameters_of(settings, 0)
    pairs = [([user], [film]) for user, film in zip(test.user.tolist(), test.film.tolist(), strict=True)]
    print("| token embeddings | weights, MB | RMSE | largest change of a score | mean | pairs/s |")
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        made: dict[str, tuple[Path, Predictor]] = {}
        for dtype in ("float32", "float16"):
            directory = Path(folder) / dtype
            kept = replace(hyperparameters, token_embedding_dtype=dtype)
            artifact.save(directory, network, kept, training={}, vocabularies={})
            made[dtype] = directory, Predictor.load(directory)
        seconds: dict[str, list[float]] = {dtype: [] for dtype in made}
        scores: dict[str, Array] = {}
        for _ in range(arguments.rounds):
            for dtype, (_, predictor) in made.items():
                started = time.perf_counter()
                scores[dtype] = predictor.score(pairs)[:, 0].astype(np.float64)
                seconds[dtype].append(time.perf_counter() - started)
        for dtype, (directory, _) in made.items():
            size = (directory / artifact.WEIGHTS).stat().st_size / 1e6
            error = np.sqrt(np.mean((scores[dtype] - test.stars) ** 2))
            change = np.abs(scores[dtype] - scores["float32"])
            rate = len(pairs) / statistics.median(seconds[dtype])
            print(f"| {dtype} | {size:.1f} | {error:.5f} | {change.max():.5f} | {change.mean():.5f} | {rate:,.0f} |")


if __name__ == "__main__":
    main()
