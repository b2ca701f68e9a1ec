"""Measure search among 1,000,000 vectors: speed on one core, recall, build time, and the memory of four processes.

The vectors are means of trained film embeddings, and clustered and unclustered random ones. Flat search by faiss is the
limit of search without an index. Recommendations are compared with scoring all candidates, for three kinds of heads.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from workloads import movielens

import object2vec
from object2vec.array_types import Float32, Int64
from object2vec.atomic_files import write_atomically
from object2vec.model.network import Network
from object2vec.model.tokens import Tokens
from object2vec.retrieval.pair_scores import PairScores
from object2vec.retrieval.recommender import Recommender
from object2vec.retrieval.vector_index import VectorIndex

DIM = 128
#: A loss for heads that the ranking loss does not take.
SAMPLED: dict[str, Any] = {
    "ranking_loss": "none",
    "log_q_correction": 0,
    "sampled_candidates": 0,
    "output_layer": "softmax",
    "negative_sampling_rate": 3,
}
#: Settings of heads for `recommend`.
HEADS: dict[str, dict[str, Any]] = {
    "product": {},
    "tanh": SAMPLED | {"mlp_layers": 1, "mlp_dim": 64, "mlp_activation": "tanh", "comparator_list": "hadamard, concat"},
    "abs_diff": SAMPLED | {"comparator_list": "abs_diff"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="vectors")
    parser.add_argument("--queries", type=int, default=1_000, help="queries whose recall is measured")
    parser.add_argument("--vectors", nargs="*", default=["trained", "clustered", "unclustered"], help="kinds to search")
    parser.add_argument("--heads", nargs="*", default=[*HEADS], help="heads to recommend with")
    parser.add_argument("--scored", type=int, default=20, help="queries for which all candidates are scored")
    arguments = parser.parse_args()
    if arguments.vectors:
        print(
            "| vectors | build, s | memory of the build, MB | lists probed | recall@10 | queries/s | of 64 | of 1 |",
            end="",
        )
        print(" faiss flat | PSS of one process, MB | of four |\n|---|" + "---:|" * 10)
    for kind in arguments.vectors:
        measure_neighbors(kind, arguments.count, arguments.queries)
    if arguments.heads:
        print(
            "\n| head | search | of all scored, the best ten found | one query: median, ms | slowest of 100 | of 16 |"
        )
        print("|---|---|" + "---:|" * 4)
    for head in arguments.heads:
        measure_recommendations(head, arguments.count, arguments.scored)


def measure_neighbors(kind: str, count: int, queries: int) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.npy"
        np.save(file, make_vectors(kind, count))
        vectors = np.load(file, mmap_mode="r")
        reset_peak()
        before, started = status("RssAnon"), time.perf_counter()
        index = VectorIndex.build(vectors, "cosine")
        seconds, memory = time.perf_counter() - started, status("VmHWM") - before - vectors.nbytes
        write_atomically(Path(folder), index.fills("index."))
        torch.set_num_threads(1)
        chosen = np.random.default_rng(1).choice(count, queries, replace=False)
        wanted, flat = flat_search(vectors, chosen)
        recall = np.mean((neighbors(index, vectors, chosen)[:, :, None] == wanted[:, None]).any(2))
        rates = [rate(lambda part: index.search(part, 10), vectors[chosen], size) for size in (queries, 64, 1)]
        one, four = (shared_memory(Path(folder), processes) for processes in (1, 4))
    probed = f"{index.description['lists_probed']:,} of {index.description['lists']:,}"
    figures = [f"{seconds:.0f}", f"{memory / 1e6:,.0f}", probed, f"{recall:.3f}", *(f"{each:,.0f}" for each in rates)]
    print(f"| {kind} | {' | '.join(figures)} | {flat:,.0f} | {one / 1e6:,.0f} | {four / 1e6:,.0f} |", flush=True)


def measure_recommendations(head: str, count: int, scored: int) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = train(**HEADS[head])
    vectors = baskets(model, count)
    users = encode(model.network, 0)[1:]
    recommender = Recommender.build(model.network, vectors, 1, queries=users)
    torch.set_num_threads(1)
    scores, tensor = PairScores(model.network, 1), torch.from_numpy(vectors)
    rows, _ = recommender.recommend(users[:scored], 10)
    same = []
    for number in range(scored):
        every = scores(torch.from_numpy(users), tensor, np.full(count, number), np.arange(count))
        same.append(np.isin(rows[number], np.argpartition(-every, 10)[:10]).mean())
    search = recommender.recommend
    alone = [duration(lambda user=user: search(user[None], 10)) for user in users[:100]]  # type: ignore[misc]
    together = [duration(lambda at=at: search(users[at : at + 16], 10)) for at in range(0, 160, 16)]  # type: ignore[misc]
    milliseconds = [1e3 * float(each) for each in (np.median(alone), max(alone), np.median(together))]
    figures = " | ".join(f"{each:.1f}" for each in milliseconds)
    print(f"| {head} | {recommender.description['kind']} | {np.mean(same):.3f} | {figures} |", flush=True)


def make_vectors(kind: str, count: int) -> Float32:
    generator = np.random.default_rng(0)
    if kind == "trained":
        return baskets(train(), count)
    noise = generator.standard_normal((count, DIM), dtype=np.float32)
    if kind == "clustered":
        centers = generator.standard_normal((10_000, DIM), dtype=np.float32)
        noise = centers[generator.integers(len(centers), size=count)] + np.float32(0.6) * noise
    return noise


def train(**settings: Any) -> object2vec.Model:
    """Return a model of films that a user likes."""
    users, films, stars = movielens()
    liked = {"user": users[stars >= 4].tolist(), "film": films[stars >= 4].tolist()}
    return object2vec.fit(liked, "user", "film", recipe="implicit", epochs=5, log="quiet", **settings)


def baskets(model: object2vec.Model, count: int) -> Float32:
    """Return the encodings of sets of three films, those of one user together."""
    films = encode(model.network, 1)
    generator = np.random.default_rng(0)
    groups = generator.permutation(len(films) - 1)[: (len(films) - 1) // 50 * 50].reshape(-1, 50) + 1
    own = groups[generator.integers(len(groups), size=count)]
    chosen = own[np.arange(count)[:, None], generator.integers(50, size=(count, 3))]
    found: Float32 = films[chosen].mean(axis=1)
    return found


@torch.inference_mode()
def encode(network: Network, side: int) -> Float32:
    """Return the encodings of all single tokens of a side."""
    size = len(network.encoder(side).embedding.weight)
    found: Float32 = network.encode(side, Tokens(torch.arange(size), torch.arange(size + 1))).numpy()
    return found


def flat_search(vectors: Float32, chosen: Int64) -> tuple[Int64, float]:
    """Return the ten nearest others (Q, 10) of some vectors by faiss, and the queries per second on one core."""
    faiss.omp_set_num_threads(1)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    index = faiss.IndexFlatIP(DIM)
    index.add(units)
    started = time.perf_counter()
    _, rows = index.search(units[chosen], 11)
    return without_self(rows, chosen), len(chosen) / (time.perf_counter() - started)


def neighbors(index: VectorIndex, vectors: Float32, chosen: Int64) -> Int64:
    return without_self(index.search(vectors[chosen], 11)[0], chosen)


def without_self(rows: Int64, chosen: Int64) -> Int64:
    return np.stack([own[own != row][:10] for own, row in zip(rows, chosen, strict=True)])


def rate(search: Callable[[Float32], object], queries: Float32, size: int) -> float:
    """Return queries per second, in batches of `size`."""
    search(queries[:size])
    starts = range(0, min(len(queries), 200 * size), size)
    started = time.perf_counter()
    for at in starts:
        search(queries[at : at + size])
    return min(len(starts) * size, len(queries)) / (time.perf_counter() - started)


def duration(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def shared_memory(folder: Path, processes: int) -> float:
    """Return the proportional memory of processes with an index open, beyond that of processes without, in bytes."""
    context = multiprocessing.get_context("spawn")
    barrier, found = context.Barrier(processes), context.Queue()
    workers = [context.Process(target=hold_index, args=(folder, barrier, found)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    total: float = sum(found.get() for _ in workers)
    for worker in workers:
        worker.join()
    return total


def hold_index(folder: Path, barrier: Any, found: Any) -> None:
    torch.set_num_threads(1)
    torch.ones(200, 200) @ torch.ones(200, 200)
    barrier.wait()
    before = proportional_memory()
    barrier.wait()
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    index = VectorIndex.open(folder, "index.", vectors)
    for part in np.split(vectors[:: len(vectors) // 500][:500], 5):
        index.search(part, 10)
    barrier.wait()
    found.put(proportional_memory() - before)
    barrier.wait()


def proportional_memory() -> int:
    text = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * int(text.partition("\nPss:")[2].split()[0])


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def status(name: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.partition(f"{name}:")[2].split()[0])


if __name__ == "__main__":
    main()
