"""Measure the training speed of object2vec, plain PyTorch and other libraries, compared with the machine's roofline.

The implementations of a workload take turns in each round, so that other load affects all of them alike. Examples are
pairs, including negatives, as in the built-in. Only the steady loop is timed, including making batches.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import plain
import torch
from contenders import Contender, Turn
from machine import Demand, Machine, demand_of, measure_machine, median_machine
from workloads import Workload, workloads

import object2vec
from object2vec import allocator
from object2vec.data.batches import Batch, Batches
from object2vec.data.sequences import Pairs
from object2vec.hyperparameters import Hyperparameters
from object2vec.model.network import Network
from object2vec.training.console import ConsoleReport
from object2vec.training.distributed import SINGLE_PROCESS, Group
from object2vec.training.objective import Metrics
from object2vec.training.trainer import Trainer, training_batches

#: Trains for about the given seconds and returns the number of examples.
Train = Callable[[float], int]


@dataclass(frozen=True, slots=True)
class Row:
    """The measurements of one implementation, one number per round."""

    implementation: str
    rates: list[float]  # examples per second
    cores: list[float]  # CPU seconds per second: less than the number of threads under other load

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def spread(self) -> float:
        """Return the range over rounds, relative to the median."""
        return (max(self.rates) - min(self.rates)) / self.rate


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    load = os.getloadavg()[0]
    print(
        f"{arguments.threads} threads, load {load:.1f}, torch {torch.__version__}, {Path(object2vec.__file__).parent}\n"
    )
    print("| workload | implementation | examples/s | spread | cores | ours is | attainable | reached |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    chosen = [workload for workload in workloads() if not arguments.only or workload.name in arguments.only]
    measured = [measure(workload, arguments) for workload in chosen]
    for one in measured:
        peaks = one["roofline"]["machine"]
        flops, bandwidth = peaks["flops"] / 1e9, peaks["bandwidth"] / 1e9
        print(
            f"\n{one['name']}: {flops:.0f} GFLOP/s matrix products, {bandwidth:.1f} GB/s memory bandwidth",
            end="",
        )
    about = {"threads": arguments.threads, "torch": torch.__version__, "load": load}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(about | {"workloads": measured}, indent=1) + "\n")
    print(f"\n\nThe same as JSON: {arguments.out}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of each implementation"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="minimum per implementation and round")
    parser.add_argument("--only", nargs="*", default=[], help="names of workloads, such as W1-64 W5")
    parser.add_argument("--out", type=Path, default=Path("build/bench/training.json"))
    return parser.parse_args()


def measure(workload: Workload, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the implementations of a workload in turn, and print their rows."""
    hyperparameters = workload.hyperparameters
    demand = demand_of(training_batches(workload.make(), hyperparameters), Network(hyperparameters), hyperparameters)
    contenders = {name: Contender(contender, workload, name, arguments.threads) for name in implementations(workload)}
    for one in contenders.values():
        one.turn(arguments.seconds / 4)  # warm up
    rows = [Row(name, [], []) for name in contenders]
    machines = []
    for _ in range(arguments.rounds):
        machines.append(measure_machine())
        for row in rows:
            rate, cores = contenders[row.implementation].turn(arguments.seconds)
            row.rates.append(rate)
            row.cores.append(cores)
    for one in contenders.values():
        one.end()
    machine = median_machine(machines)
    for row in rows:
        print_row(row, rows[0], workload, demand, machine)
    return report(workload, rows, demand, machine)


def print_row(row: Row, ours: Row, workload: Workload, demand: Demand, machine: Machine) -> None:
    most = demand.rate(machine)
    cells = ["", row.implementation, f"{row.rate:,.0f}", f"{row.spread:.0%}", f"{statistics.median(row.cores):.1f}"]
    if row is ours:
        bound = "products" if demand.compute_bound(machine) else "memory"
        cells[0] = f"**{workload.name}** {workload.description}"
        cells += ["", f"{most:,.0f} ({bound})"]
    else:
        cells += [f"{ours.rate / row.rate:.2f} times", ""]
    cells.append("" if row.implementation in W5_ONLY else f"{row.rate / most:.0%}")
    print("|", " | ".join(cells), "|", flush=True)


def report(workload: Workload, rows: list[Row], demand: Demand, machine: Machine) -> dict[str, Any]:
    roofline = {"rate": demand.rate(machine), "compute_bound": demand.compute_bound(machine)}
    return {
        "name": workload.name,
        "description": workload.description,
        "hyperparameters": dict(workload.settings),
        "roofline": roofline | {"demand": asdict(demand), "machine": asdict(machine)},
        "rows": [
            asdict(row) | {"rate": row.rate, "spread": row.spread, "ratio": rows[0].rate / row.rate} for row in rows
        ],
    }


# ----------------------------------------------------------------------------------------------------------------------
# Implementations, each in a process of its own
# ----------------------------------------------------------------------------------------------------------------------


def implementations(workload: Workload) -> list[str]:
    """Return the names of the implementations for a workload; the first is ours."""
    sparse = ["plain PyTorch, SparseAdam"] if workload.hyperparameters.row_sparse else []
    return ["object2vec", "plain PyTorch", *sparse, *(W5_ONLY if workload.name == "W5" else ())]


def contender(workload: Workload, implementation: str, threads: int) -> Turn:
    """Return a turn that measures examples per second and cores used."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    train = make_train(workload, implementation, threads)

    def turn(seconds: float) -> tuple[float, float]:
        wall, busy = time.perf_counter(), time.process_time()
        examples = train(seconds)
        wall, busy = time.perf_counter() - wall, time.process_time() - busy
        return examples / wall, busy / wall

    return turn


def make_train(workload: Workload, implementation: str, threads: int) -> Train:
    pairs, hyperparameters = workload.make(), workload.hyperparameters
    dim, negatives = hyperparameters.encoders[0].token_embedding_dim, hyperparameters.negative_sampling_rate
    match implementation:
        case "object2vec":
            allocator.keep_freed()
            return Ours(pairs, hyperparameters).train
        case "object2vec, adagrad":
            allocator.keep_freed()
            return Ours(pairs, replace(hyperparameters, optimizer="adagrad")).train
        case "LightFM, WARP":
            return lightfm_warp(pairs, dim, negatives, threads)
        case "gensim, skip-gram":
            return gensim_skip_gram(pairs, dim, negatives, threads)
        case _:
            return plain_program(pairs, hyperparameters, sparse="Sparse" in implementation)


# ----------------------------------------------------------------------------------------------------------------------
# Ours
# ----------------------------------------------------------------------------------------------------------------------


class Ours:
    """Our training loop, as `object2vec train` runs it, without output."""

    def __init__(self, pairs: Pairs, hyperparameters: Hyperparameters, group: Group = SINGLE_PROCESS) -> None:
        self.hyperparameters = hyperparameters
        self.group = group
        self.network = Network(hyperparameters)
        self.batches = training_batches(pairs, hyperparameters, group.shard())
        self.trainer = Trainer(
            self.network, hyperparameters, ConsoleReport(epochs=1, model_dir=Path(), quiet=True), group
        )
        self.epochs = count()

    def train(self, seconds: float) -> int:
        ended = time.perf_counter() + seconds

        def stop() -> bool:
            return time.perf_counter() >= ended

        examples = 0
        while not self.group.any_rank(stop()):
            self.trainer.epoch, self.trainer.batch = next(self.epochs), 0
            self.trainer.metrics = Metrics(self.trainer.objective)
            self.trainer._train(self.batches, stop)
            examples += self.trainer.metrics.of_all(self.group).rows
        return examples

    @torch.no_grad()
    def loss(self, batch: Batch) -> float:
        """Return the loss of a batch, without dropout."""
        return self.trainer.objective.measure(self.network.eval(), batch)[0].item()


# ----------------------------------------------------------------------------------------------------------------------
# The plain program
# ----------------------------------------------------------------------------------------------------------------------


def plain_program(pairs: Pairs, hyperparameters: Hyperparameters, *, sparse: bool) -> Train:
    """Return the plain program with a dense or sparse table, checked to be the same model as ours."""
    ours, program = Ours(pairs, hyperparameters), plain.Program(pairs, hyperparameters, sparse=sparse)
    program.copy_from(ours.network)
    check_same(pairs, ours, program)
    return train_plain(program)


def train_plain(program: plain.Program) -> Train:
    batches = program.batches()

    def train(seconds: float) -> int:
        ended, examples = time.perf_counter() + seconds, 0
        program.model.train()
        while time.perf_counter() < ended:
            batch = next(batches)
            program.step(batch)
            examples += len(batch[-1])
        return examples

    return train


def check_same(pairs: Pairs, ours: Ours, program: plain.Program, size: int = 64) -> None:
    """Check that both models have the same loss on the same pairs with the same weights.

    Raises:
        RuntimeError: the losses differ.
    """
    number = np.arange(min(len(pairs), size))
    some = Pairs(pairs.in0.take(number), pairs.in1.take(number), pairs.labels[number])
    loss = ours.loss(next(Batches(some, size=size).in_order()))
    rows = plain.PairDataset(some, negatives=0)
    theirs = program.loss(plain.collate(rows.__getitems__(number.tolist())))
    if not abs(loss - theirs) <= 1e-5 * max(1.0, abs(loss)):
        raise RuntimeError(f"the plain program has the loss {theirs} where ours is {loss}")


# ----------------------------------------------------------------------------------------------------------------------
# Peers of other kinds, on positives with one token a side
# ----------------------------------------------------------------------------------------------------------------------

#: Includes ours with Adagrad, LightFM's optimizer: its state per row is half of Adam's.
W5_ONLY = ("object2vec, adagrad", "LightFM, WARP", "gensim, skip-gram")
#: As in LightFM's quick start on the same data.
WARP_EPOCHS = 30


def lightfm_warp(pairs: Pairs, dim: int, negatives: int, threads: int) -> Train:
    """Return trainings of `WARP_EPOCHS` epochs each, because WARP updates less and less as it learns.

    It samples at most `negatives` films per positive, and is counted as if it had sampled all of them.
    """
    from lightfm import LightFM
    from scipy.sparse import coo_matrix

    positives = coo_matrix((np.ones(len(pairs), np.float32), (pairs.in0.values, pairs.in1.values)))

    def train(seconds: float) -> int:
        ended, examples = time.perf_counter() + seconds, 0
        while time.perf_counter() < ended:
            model = LightFM(no_components=dim, loss="warp", max_sampled=negatives, random_state=0)
            model.fit(positives, epochs=WARP_EPOCHS, num_threads=threads)
            examples += WARP_EPOCHS * len(pairs) * (1 + negatives)
        return examples

    return train


def gensim_skip_gram(pairs: Pairs, dim: int, negatives: int, threads: int) -> Train:
    """Return skip-gram on sentences of two words, a user and a film; each word predicts the other."""
    from gensim.models import Word2Vec

    sentences = [[f"u{user}", f"f{film}"] for user, film in zip(pairs.in0.values, pairs.in1.values, strict=True)]
    settings: dict[str, Any] = {"vector_size": dim, "negative": negatives, "window": 1, "sg": 1, "sample": 0}
    model = Word2Vec(min_count=1, workers=threads, **settings)
    model.build_vocab(sentences)

    def train(seconds: float) -> int:
        ended, examples = time.perf_counter() + seconds, 0
        while time.perf_counter() < ended:
            model.train(sentences, total_examples=len(sentences), epochs=1)
            examples += 2 * len(sentences) * (1 + negatives)
        return examples

    return train


if __name__ == "__main__":
    main()
