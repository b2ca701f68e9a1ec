"""Measure the recipe for sentence pairs and some of its settings, next to logistic regression on words.

The table has the columns s1, s2 and label, such as the development part of SNLI. Each of the seeds splits it at random
with `object2vec prepare`. Models keep the best epoch by validation loss. The strength of the regularization of logistic
regression is tuned on the validation part. It needs scikit-learn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

SETTINGS = (
    ("epochs=8",),
    ("epochs=12", "dropout=0.5"),
    ("epochs=8", "comparator_list=hadamard,concat,abs_diff"),
    ("epochs=8", "comparator_list=hadamard,concat,abs_diff", "ema_decay=0.99"),
)
#: The words of logistic regression: of the first and the second text, of both, and of one alone.
FEATURES: dict[str, Callable[[Any, Any], list[Any]]] = {
    "words of the second text": lambda _, second: [second],
    "words of both texts": lambda first, second: [first, second],
    "abs_diff and hadamard of words": lambda first, second: [abs(first - second), first.multiply(second)],
    "common words and other words of each text": lambda first, second: [
        both := first.multiply(second),
        first - both,
        second - both,
    ],
}
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1)
FULL = ("early_stopping_patience=5", "early_stopping_tolerance=1e-6")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data"
            columns = ["--in0", "s1:text", "--in1", "s2:text", "--label", "label:class"]
            run("prepare", str(arguments.table), *columns, "--seed", str(seed), "--out", str(data))
            for settings in SETTINGS:
                found.setdefault(" ".join(settings), []).append(train(data, Path(folder), settings))
            for name in FEATURES:
                found.setdefault(name, []).append(logistic_regression(data, name))
    print("| model | tuning | test |\n|---|---:|---:|")
    for name, values in found.items():
        print(f"| {name} | {' | '.join(f'{mean:.4f}' for mean in np.mean(values, axis=0))} |")


def run(*arguments: str) -> None:
    subprocess.run(["object2vec", *arguments], check=True, capture_output=True)


def train(data: Path, folder: Path, settings: tuple[str, ...]) -> tuple[float, float]:
    """Return the accuracy of the recipe with other settings on the validation and the test part."""
    model = str(folder / "model")
    run("train", "--data", str(data), "--out", model, "--log", "quiet", "--hyperparameters", *FULL, *settings)
    accuracies = []
    for part in ("validation", "test"):
        report = folder / f"{part}.json"
        run("evaluate", "--model", model, "--data", str(data / f"{part}.jsonl"), "--json", str(report))
        accuracies.append(float(json.loads(report.read_text())["metrics"]["model"]["accuracy"]))
    return accuracies[0], accuracies[1]


def logistic_regression(data: Path, name: str) -> tuple[float, float]:
    """Return the accuracy of logistic regression on the validation and the test part."""
    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore")  # some strengths do not converge
    parts = []
    for part in ("train", "validation", "test"):
        rows = [json.loads(line) for line in (data / f"{part}.jsonl").open()]
        features = FEATURES[name](*(words([row[side] for row in rows]) for side in ("in0", "in1")))
        parts.append((scipy.sparse.hstack(features).tocsr(), [row["label"] for row in rows]))
    models = [LogisticRegression(C=strength, max_iter=200).fit(*parts[0]) for strength in STRENGTHS]
    return max((float(model.score(*parts[1])), float(model.score(*parts[2]))) for model in models)


def words(texts: list[list[int]]) -> Any:
    """Return a matrix (texts, words) of which words a text has."""
    unique = [sorted(set(text)) for text in texts]
    ends = np.append(0, np.cumsum([len(text) for text in unique]))
    values = np.concatenate(unique)
    return scipy.sparse.csr_matrix((np.ones(len(values)), values, ends), (len(texts), 2**16))


if __name__ == "__main__":
    main()
