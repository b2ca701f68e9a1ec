"""Measure how fast the server answers top_k: neighbors and recommendations among many objects, in closed loop.

The server and the client are those of `serving.py`. The vectors are random, in clusters as those of trained models are.
The model and its index are made in `--folder` if they are not there yet.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch
from serving import Case, drive, serving

from object2vec import artifact
from object2vec.hyperparameters import parse
from object2vec.model.network import Network
from object2vec.retrieval.object_index import ObjectIndex, indexed_sides
from object2vec.retrieval.objects import Objects
from object2vec.serving.predictor import Predictor

USERS: Final = 100_000
CLUSTERS: Final = 5_000
#: Different requests in measurement.
BODIES: Final = 2_000
#: Hyperparameters of heads: that of the recipe `implicit`, and the built-in's default.
HEADS: Final[Mapping[str, Mapping[str, object]]] = {
    "linear": {"output_layer": "mean_squared_error", "comparator_list": "hadamard", "mlp_layers": 0},
    "default": {},
}
#: What instances ask, besides their object; `film` and `year` are drawn for each.
QUESTIONS: Final[Mapping[str, str]] = {
    "pair, for comparison": '{{"in0": [{user}], "in1": [{film}]}}',
    "neighbors": '{{"in1": [{film}], "top_k": 10, "neighbors": true}}',
    "recommendations": '{{"in0": [{user}], "top_k": 10}}',
    "recommendations, 100 excluded": '{{"in0": [{user}], "top_k": 10, "exclude": {films}}}',
    "recommendations, filter on half": '{{"in0": [{user}], "top_k": 10, "filter": "year > 1970"}}',
    "recommendations, filter on 1 %": '{{"in0": [{user}], "top_k": 10, "filter": "year = {year}"}}',
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--head", choices=HEADS, default="linear")
    parser.add_argument("--folder", type=Path, default=Path("build/bench/top_k"))
    parser.add_argument("--clients", type=int, nargs="*", default=[16])
    parser.add_argument("--seconds", type=float, default=5.0, help="of one question in one round, at least")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(QUESTIONS), choices=QUESTIONS)
    arguments = parser.parse_args()
    model = arguments.folder / f"{arguments.head}-{arguments.objects}x{arguments.dim}"
    if not model.is_dir() or not indexed_sides(model):
        started = time.perf_counter()
        write_model(model, arguments.objects, arguments.dim, HEADS[arguments.head])
        print(f"model and index: {time.perf_counter() - started:.0f} s\n")
    print("| question | clients | requests/s | p50, ms | p99, ms |\n|---|---:|---:|---:|---:|")
    with serving("object2vec", model) as port:
        for question in arguments.only:
            bodies = bodies_of(question, arguments.objects)
            for clients in arguments.clients:
                case = Case(question, 1, clients, ())
                drive(port, case, arguments.seconds / 2, bodies)  # warm up
                found = [drive(port, case, arguments.seconds, bodies) for _ in range(arguments.rounds)]
                rate = statistics.median(each.rate for each in found)
                p50, p99 = (1e3 * statistics.median(each.percentile(p) for each in found) for p in (50, 99))
                print(f"| {question} | {clients} | {rate:,.0f} | {p50:.1f} | {p99:.1f} |", flush=True)


def write_model(model: Path, objects: int, dim: int, head: Mapping[str, object]) -> None:
    """Write a model with vectors in clusters, and the index of its objects."""
    sides: dict[str, object] = {
        f"enc{side}_{key}": value
        for side, size in enumerate((USERS, objects))
        for key, value in {
            "network": "pooled_embedding",
            "vocab_size": size + 1,
            "max_seq_len": 1,
            "token_embedding_dim": dim,
        }.items()
    }
    hyperparameters = parse({**sides, **head}).hyperparameters
    torch.manual_seed(0)
    network = Network(hyperparameters)
    centers = torch.randn(CLUSTERS, dim)
    with torch.no_grad():
        for embedding in network.tables:
            cluster = torch.randint(0, CLUSTERS, (len(embedding.weight),))
            embedding.weight.copy_(centers[cluster] + 0.7 * torch.randn(len(cluster), dim))
        if not hyperparameters.mlp_layers and network.head:
            network.head.output.weight.abs_()  # training makes weighted users similar to the films that they like
    artifact.save(model, network, hyperparameters, training={}, vocabularies={})
    predictor = Predictor.load(model)
    tokens = pa.ListArray.from_arrays(np.arange(objects + 1, dtype=np.int32), np.arange(1, objects + 1, dtype=np.int32))
    years = np.random.default_rng(0).integers(1920, 2020, objects)
    table = Objects.from_table(None, "in1", pa.record_batch({"tokens": tokens, "year": years}))
    index = ObjectIndex.build(table, predictor.encode_sequences, predictor.network)
    index.write(model)
    print(json.dumps(index.description))


def bodies_of(question: str, objects: int) -> str:
    """Return requests, as the JSON list that `load.py` reads."""
    random = np.random.default_rng(1)

    def body() -> str:
        values: dict[str, Any] = {
            "user": random.integers(1, USERS),
            "film": random.integers(1, objects),
            "films": [[film] for film in random.integers(1, objects, 100).tolist()],
            "year": random.integers(1960, 1980),
        }
        return f'{{"instances": [{QUESTIONS[question].format(**values)}]}}'

    return json.dumps([body() for _ in range(BODIES)])


if __name__ == "__main__":
    main()
