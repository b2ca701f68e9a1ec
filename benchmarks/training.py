"""How fast a network trains: ours, the plain PyTorch program, its peers, and what the machine allows.

Every implementation of a workload takes its turn in each round, so that whatever else the machine does falls on all of
them. Examples are counted as the built-in counts: pairs, negatives included. Nothing but the steady loop is timed,
batches made included.
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
from object2vec.training.distributed import SINGLE_PROCESS, Group
from object2vec.training.gradients import output_of
from object2vec.training.objective import Metrics
from object2vec.training.report import SageMakerReport
from object2vec.training.trainer import Trainer, training_batches

#: Trains for about so many seconds and returns how many examples it did.
Train = Callable[[float], int]


@dataclass(frozen=True, slots=True)
class Row:
    """What one implementation of a workload did, a number each round."""

    implementation: str
    rates: list[float]  # examples a second
    cores: list[float]  # that it had: where others use the machine, less than its threads could keep busy

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def spread(self) -> float:
        """From the slowest to the fastest round, as a share of the median."""
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
        print(f"\n{one['name']} beside {flops:.0f} GFLOP/s of matrix products, {bandwidth:.1f} GB/s of memory", end="")
    about = {"threads": arguments.threads, "torch": torch.__version__, "load": load}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(about | {"workloads": measured}, indent=1) + "\n")
    print(f"\n\nThe same as JSON: {arguments.out}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every implementation")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one implementation in one round, at least")
    parser.add_argument("--only", nargs="*", default=[], help="names of workloads, such as W1-64 W5")
    parser.add_argument("--out", type=Path, default=Path("build/bench/training.json"))
    return parser.parse_args()


def measure(workload: Workload, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure a workload's implementations in turn, and print their rows."""
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
        cells[0] = f"**{workload.name}** {workload.what}"
        cells += ["", f"{most:,.0f} ({bound})"]
    else:
        cells += [f"{ours.rate / row.rate:.2f} times", ""]
    cells.append("" if row.implementation in OF_W5 else f"{row.rate / most:.0%}")
    print("|", " | ".join(cells), "|", flush=True)


def report(workload: Workload, rows: list[Row], demand: Demand, machine: Machine) -> dict[str, Any]:
    roofline = {"rate": demand.rate(machine), "compute_bound": demand.compute_bound(machine)}
    return {
        "name": workload.name,
        "what": workload.what,
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
    """The names of those that a workload is measured with; the first is ours."""
    sparse = ["plain PyTorch, SparseAdam"] if workload.hyperparameters.row_sparse else []
    return ["object2vec", "plain PyTorch", *sparse, *(OF_W5 if workload.name == "W5" else ())]


def contender(workload: Workload, implementation: str, threads: int) -> Turn:
    """A turn of an implementation: examples a second, and the cores that it had."""
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
    """Our training loop, epoch after epoch, as `object2vec train` runs it; nothing is printed."""

    def __init__(self, pairs: Pairs, hyperparameters: Hyperparameters, group: Group = SINGLE_PROCESS) -> None:
        self.hyperparameters = hyperparameters
        self.group = group
        self.network = Network(hyperparameters)
        self.batches = training_batches(pairs, hyperparameters, group.shard())
        self.trainer = Trainer(
            self.network, hyperparameters, SageMakerReport(host="benchmark", epochs=1, silent=True), group
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
        """The loss of a batch, without dropout."""
        output, labels = output_of(self.network.eval(), batch)
        return self.trainer.objective.loss(output, labels).item()


# ----------------------------------------------------------------------------------------------------------------------
# The plain program
# ----------------------------------------------------------------------------------------------------------------------


def plain_program(pairs: Pairs, hyperparameters: Hyperparameters, *, sparse: bool) -> Train:
    """The plain program, with a dense table or a sparse one; checked to be the same model as ours."""
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
    """Both must have the same loss on the same pairs with the same weights, or they are not the same model.

    Raises:
        RuntimeError: they differ.
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

#: Ours stands there a second time, with the optimizer that LightFM has: it keeps half of what adam keeps beside a row.
OF_W5 = ("object2vec, adagrad", "LightFM, WARP", "gensim, skip-gram")
#: Those of its quickstart, on the same films.
WARP_EPOCHS = 30


def lightfm_warp(pairs: Pairs, dim: int, negatives: int, threads: int) -> Train:
    """Jobs of so many epochs: the better WARP has learned, the less there is to do, until it does little but look.

    It looks at no more than `negatives` films a positive, and is counted as if it had looked at all of them.
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
    """A user and a film are a sentence of two words, from each of which it learns the other beside its negatives."""
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
