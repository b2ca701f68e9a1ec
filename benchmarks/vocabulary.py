"""Measure time and peak memory of a training step by vocabulary size, with the same rows in each batch.

Each size has its own process, and all take turns. Time is CPU time of one thread, which other load affects less.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from contenders import Contender, Turn
from training import Ours
from workloads import workloads

from object2vec import allocator
from object2vec.data.sequences import Pairs, Sequences
from object2vec.hyperparameters import Hyperparameters, parse

#: Words in use, for any vocabulary size.
USED_WORDS = 2_999


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="*", type=int, default=[3_000, 3_000_000], help="of vocabularies")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each in one round")
    parser.add_argument("--out", type=Path, default=Path("build/bench/vocabulary.json"))
    arguments = parser.parse_args()
    contenders = {size: Contender(contender, size) for size in arguments.sizes}
    for one in contenders.values():
        one.turn(1)  # warm up
    rounds = [{size: one.turn(arguments.seconds) for size, one in contenders.items()} for _ in range(arguments.rounds)]
    for one in contenders.values():
        one.end()
    print("| vocabulary | CPU microseconds per example | ratio | peak memory, GB | table, GB |")
    print("|---:|---:|---:|---:|---:|")
    found = []
    for size in arguments.sizes:
        cost = statistics.median(one[size][0] for one in rounds)
        times = statistics.median(one[size][0] / one[arguments.sizes[0]][0] for one in rounds)
        most, table = rounds[-1][size][1] / 1e9, size * 300 * 4 / 1e9
        print(f"| {size:,} | {1e6 * cost:.1f} | {times:.2f} | {most:.2f} | {table:.2f} |")
        found.append({"vocabulary": size, "seconds": cost, "times": times, "bytes": 1e9 * most})
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")


def contender(size: int) -> Turn:
    """Return a turn that measures CPU seconds per example and peak memory in bytes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    allocator.keep_freed()
    ours = Ours(*job(size))

    def turn(seconds: float) -> tuple[float, int]:
        busy = time.process_time()
        examples = ours.train(seconds)
        busy = time.process_time() - busy
        return busy / examples, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    return turn


def job(size: int) -> tuple[Pairs, Hyperparameters]:
    """Return W2 with another vocabulary size and the same words in use."""
    workload = next(workload for workload in workloads() if workload.name == "W2")
    pairs = workload.make()
    sides = [Sequences((side.values % USED_WORDS + 1).astype(np.int32), side.offsets) for side in pairs.sides]
    settings = {**workload.settings, "enc0_vocab_size": size, "enc0_token_embedding_dim": 300}
    return Pairs(sides[0], sides[1], pairs.labels), parse(settings).hyperparameters


if __name__ == "__main__":
    main()
