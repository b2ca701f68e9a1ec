"""Write a large CSV to measure `prepare` on: users, items, a text of 4 to 24 words, and stars, which are learnable.

python benchmarks/large_table.py /tmp/large.csv --gigabytes 2
time object2vec prepare /tmp/large.csv --in0 user_id --in1 item_id review:text --label stars --out /tmp/large
"""

from __future__ import annotations

import argparse
import string
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute, csv

USERS, ITEMS, WORDS = 200_000, 50_000, 100_000
MIN_WORDS, MAX_WORDS = 4, 24
BLOCK_ROWS = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    letters = np.array(list(string.ascii_lowercase))
    words = pa.array(["".join(random.choice(letters, length)) for length in random.integers(2, 10, WORDS)])
    bias = random.normal(size=(2, max(USERS, ITEMS)))
    schema = pa.schema({"user_id": pa.int64(), "item_id": pa.int64(), "review": pa.string(), "stars": pa.float64()})
    with arguments.path.open("wb") as file, csv.CSVWriter(file, schema) as writer:
        while file.tell() < arguments.gigabytes * 1e9:
            writer.write_table(block(random, words, bias).cast(schema))


def block(random: np.random.Generator, words: pa.Array, bias: np.ndarray) -> pa.Table:
    """Return rows of frequent and rare users, items and words."""
    users, items = (skewed(random, count, BLOCK_ROWS) for count in (USERS, ITEMS))
    lengths = random.integers(MIN_WORDS, MAX_WORDS + 1, BLOCK_ROWS)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    texts = pa.ListArray.from_arrays(offsets, words.take(pa.array(skewed(random, WORDS, lengths.sum()))))
    stars = 3 + bias[0, users] + bias[1, items] + random.normal(size=BLOCK_ROWS) / 2
    columns = {"user_id": users, "item_id": items, "review": compute.binary_join(texts, " ")}
    return pa.table(columns | {"stars": np.clip(np.round(stars * 2) / 2, 0.5, 5)})


def skewed(random: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Return numbers below `count`; small ones are frequent."""
    return (count ** random.random(size) - 1).astype(np.int64)


if __name__ == "__main__":
    main()
