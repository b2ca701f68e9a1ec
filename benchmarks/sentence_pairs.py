"""Measure the recipes for sentence pairs, next to well-known ways to train such models from scratch.

The table has the columns s1, s2 and label, with the labels entailment, neutral and contradiction, such as the
development part of SNLI. A split has 8,000 pairs for training, and halves of the rest for tuning and testing. All
pairs with the same s1 are in one part. The task `similarity` predicts 1, .5 and 0 for the three labels.

Our recipes are used as they are. Each other system has the best of `--trials` random settings by the tuning part of
the first split. Networks keep the best epoch by the tuning part. It needs fasttext-wheel, scikit-learn and
sentence-transformers.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
from sentence_networks import train_bilstm, train_sentence_transformer

import object2vec as o2v
from object2vec.schema.text import split_words

Parts = dict[str, pd.DataFrame]
#: What a system predicts for the tuning and the test part: classes from 0, or numbers.
Predictions = tuple[Any, Any]
System = Callable[[Mapping[str, Any], Parts, bool, int], Predictions]
CLASSES = ("entailment", "neutral", "contradiction")
TRAINING_PAIRS = 8000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--tasks", nargs="+", default=["entailment", "similarity"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=[], help="names of systems")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of regressions that do not converge
    table = pd.read_csv(arguments.table)
    splits = [split(table, seed) for seed in range(arguments.seeds)]
    for task in arguments.tasks:
        regression, rows = task == "similarity", []
        for name, (fit, grid) in SYSTEMS.items():
            if (name == "fastText" and regression) or (arguments.only and name not in arguments.only):
                continue
            started = time.perf_counter()
            settings = tune(fit, grid, splits[0], regression, arguments.trials)
            found = [evaluate(fit, settings, parts, regression, seed) for seed, parts in enumerate(splits)]
            print(f"  {task}, {name}: {settings}, {time.perf_counter() - started:.0f} s", flush=True)
            rows.append([name, *(f"{np.mean(one):.4f} ({np.std(one):.4f})" for one in zip(*found, strict=True))])
        print(f"\n| {task}: {'Pearson' if regression else 'accuracy'} | tuning | test |\n|---|---:|---:|")
        print("\n".join(f"| {' | '.join(row)} |" for row in rows))


def split(table: pd.DataFrame, seed: int) -> Parts:
    """Return the parts of a table, with the number of each label as `target`."""
    first = table.s1.unique()
    place = dict(zip(np.random.default_rng(seed).permutation(first), range(len(first)), strict=True))
    ordered = table.iloc[np.argsort(table.s1.map(place), kind="stable")].reset_index(drop=True)
    ordered["number"] = 1 - ordered.label.map(CLASSES.index) / 2
    ends = [TRAINING_PAIRS, (TRAINING_PAIRS + len(table)) // 2]
    names = ("train", "validation", "test")
    return dict(zip(names, (ordered.iloc[rows] for rows in np.split(np.arange(len(table)), ends)), strict=True))


def targets(rows: pd.DataFrame, regression: bool) -> Any:
    """Return what to predict, (N,): classes from 0, or numbers."""
    return (rows.number if regression else rows.label.map(CLASSES.index)).to_numpy()


def measure(predicted: Any, rows: pd.DataFrame, regression: bool) -> float:
    """Return the Pearson correlation or the accuracy."""
    wanted = targets(rows, regression)
    return float(np.corrcoef(predicted, wanted)[0, 1] if regression else (predicted == wanted).mean())


def evaluate(
    fit: System, settings: Mapping[str, Any], parts: Parts, regression: bool, seed: int
) -> tuple[float, float]:
    """Train a system; return its measure on the tuning and the test part."""
    predicted = fit(settings, parts, regression, seed)
    return measure(predicted[0], parts["validation"], regression), measure(predicted[1], parts["test"], regression)


def tune(fit: System, grid: Mapping[str, list[Any]], parts: Parts, regression: bool, trials: int) -> dict[str, Any]:
    """Return the best of random settings by the tuning part."""
    generator = np.random.default_rng(0)
    draws = [{name: values[generator.integers(len(values))] for name, values in grid.items()} for _ in range(trials)]
    return max(draws, key=lambda draw: evaluate(fit, draw, parts, regression, 0)[0]) if grid else {}


def fit_recipe(_: Mapping[str, Any], parts: Parts, regression: bool, seed: int) -> Predictions:
    """Train our recipe as it is."""
    model = o2v.fit(
        parts["train"],
        in0="s1:text",
        in1="s2:text",
        label="number:number" if regression else "label:class",
        recipe="sentence-similarity" if regression else "entailment",
        validation=parts["validation"],
        seed=seed,
        log="quiet",
    )
    scores = (model.score(parts[name]) for name in ("validation", "test"))
    if regression:
        first, second = (score[:, 0] for score in scores)
        return first, second
    assert model.schema
    assert model.schema.label
    order = np.array([CLASSES.index(name) for name in model.schema.label.classes])
    first, second = (order[score.argmax(axis=1)] for score in scores)
    return first, second


def fit_words(settings: Mapping[str, Any], parts: Parts, regression: bool, _: int) -> Predictions:
    """Train logistic or ridge regression on bags of words."""
    from sklearn.linear_model import LogisticRegression, Ridge

    vocabulary: dict[str, int] = {}
    for text in (*parts["train"].s1, *parts["train"].s2):
        for word in split_words(text):
            vocabulary.setdefault(word, len(vocabulary))
    x = {name: features(settings["features"], rows, vocabulary) for name, rows in parts.items()}
    strength = settings["strength"]
    model = Ridge(1 / strength) if regression else LogisticRegression(C=strength, max_iter=200)
    model.fit(x["train"], targets(parts["train"], regression))
    return model.predict(x["validation"]), model.predict(x["test"])


def features(kind: str, rows: pd.DataFrame, vocabulary: Mapping[str, int]) -> Any:
    """Return the features of pairs, as a sparse matrix."""
    first, second = words(rows.s1, vocabulary), words(rows.s2, vocabulary)
    both = first.multiply(second)
    match kind:
        case "words of both texts":
            blocks = [first, second]
        case "abs_diff and hadamard of words":
            blocks = [abs(first - second), both]
        case "common words and other words of each text":
            blocks = [both, first - both, second - both]
        case _:
            blocks = [second]
    return scipy.sparse.hstack(blocks).tocsr()


def words(texts: pd.Series, vocabulary: Mapping[str, int]) -> Any:
    """Return a matrix (texts, words) of which words a text has."""
    unique = [sorted({vocabulary[word] for word in split_words(text) if word in vocabulary}) for text in texts]
    ends = np.append(0, np.cumsum([len(text) for text in unique]))
    values = np.concatenate(unique)
    return scipy.sparse.csr_matrix((np.ones(len(values)), values, ends), (len(unique), len(vocabulary)))


def fit_fasttext(settings: Mapping[str, Any], parts: Parts, _: bool, seed: int) -> Predictions:
    """Train fastText on the words of both texts; those of the first one are other words."""
    import fasttext

    def line(row: Any) -> str:
        return " ".join([*(f"first_{word}" for word in split_words(row.s1)), *split_words(row.s2)])

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"__label__{row.label} {line(row)}\n" for row in parts["train"].itertuples())
        file.flush()
        model = fasttext.train_supervised(file.name, bucket=100_000, thread=1, verbose=0, seed=seed, **settings)

    def predict(rows: pd.DataFrame) -> Any:
        found = [model.f.predict(line(row) + "\n", 1, 0.0, "strict")[0][1] for row in rows.itertuples()]
        return np.array([CLASSES.index(label.removeprefix("__label__")) for label in found])

    return predict(parts["validation"]), predict(parts["test"])


#: The systems, each with the grid that its settings are drawn from.
SYSTEMS: dict[str, tuple[System, dict[str, list[Any]]]] = {
    "regression on words": (
        fit_words,
        {
            "features": [
                "words of the second text",
                "words of both texts",
                "abs_diff and hadamard of words",
                "common words and other words of each text",
            ],
            "strength": [0.01, 0.03, 0.1, 0.3, 1],
        },
    ),
    "fastText": (
        fit_fasttext,
        {
            "dim": [20, 50, 100],
            "lr": [0.1, 0.2, 0.5],
            "epoch": [5, 10, 25],
            "wordNgrams": [1, 2],
            "minCount": [1, 2],
        },
    ),
    "sentence-transformers": (
        train_sentence_transformer,
        {
            "dim": [100, 300],
            "learning_rate": [0.001, 0.003, 0.01],
            "batch": [64, 128],
            "concatenate_product": [True, False],
        },
    ),
    "biLSTM in PyTorch": (
        train_bilstm,
        {
            "dim": [100, 200],
            "hidden": [64, 128],
            "learning_rate": [0.001, 0.002, 0.005],
            "dropout": [0.0, 0.3, 0.5],
            "batch": [64, 128],
        },
    ),
    "object2vec, recipe": (fit_recipe, {}),
}


if __name__ == "__main__":
    main()
