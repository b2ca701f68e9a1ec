"""Measure the speed of reading a JSON Lines channel: ours with one and several threads, and json.loads line by line.

The readers take turns in every round, on the same file, which is in the page cache.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from workloads import documents, workloads

from object2vec.data.jsonlines import read_channel
from object2vec.data.sequences import Pairs


def main() -> None:
    arguments = parse_arguments()
    hyperparameters = next(workload.hyperparameters for workload in workloads() if workload.name == "W2")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.jsonl"
        write(file, documents(2_000), arguments.megabytes)

        def ours(threads: int) -> Callable[[], object]:
            def read() -> Pairs:
                torch.set_num_threads(threads)
                return read_channel("train", file, hyperparameters)

            return read

        readers: dict[str, Callable[[], object]] = {"json.loads, line by line": lambda: read_with_json(file)}
        readers |= {f"object2vec, {n} thread{'s' * (n > 1)}": ours(n) for n in dict.fromkeys((1, arguments.threads))}
        rates = measure(readers, file.stat().st_size, arguments.rounds)
        with multiprocessing.get_context("spawn").Pool(1) as process:
            peak, columns = process.apply(memory_of, (file, arguments.threads))
    print_table(rates)
    print(f"\nPeak memory grew by {peak / 1e6:.0f} MB while reading {columns / 1e6:.0f} MB of columns")
    document = {"megabytes": arguments.megabytes, "bytes_a_second": rates, "memory": peak, "columns": columns}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"\nThe same as JSON: {arguments.out}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="maximum for object2vec")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=100, help="of the file, about")
    parser.add_argument("--out", type=Path, default=Path("build/bench/loading.json"))
    return parser.parse_args()


def write(file: Path, pairs: Pairs, megabytes: int) -> None:
    """Write the pairs repeatedly, one per line, as json.dumps formats them."""
    sides = [np.split(side.values, side.offsets[1:-1]) for side in pairs.sides]
    text = "".join(
        json.dumps({"in0": in0.tolist(), "in1": in1.tolist(), "label": 1}) + "\n"
        for in0, in1 in zip(*sides, strict=True)
    )
    with file.open("w") as stream:
        for _ in range(max(1, megabytes * 10**6 // len(text))):
            stream.write(text)


def read_with_json(file: Path) -> tuple[list[list[int]], list[list[int]], list[float]]:
    """Read a channel with the standard library, as the reference."""
    in0, in1, labels = [], [], []
    with file.open("rb") as stream:
        for line in stream:
            record = json.loads(line)
            in0.append(record["in0"])
            in1.append(record["in1"])
            labels.append(record["label"])
    return in0, in1, labels


def measure(readers: dict[str, Callable[[], object]], size: int, rounds: int) -> dict[str, list[float]]:
    """Return the bytes per second of each reader in each round."""
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, read in readers.items():
            started = time.perf_counter()
            read()
            rates[name].append(size / (time.perf_counter() - started))
    return rates


def memory_of(file: Path, threads: int) -> tuple[int, int]:
    """Return the peak memory of reading in bytes, including mapped pages of the columns, and the columns' size."""
    torch.set_num_threads(threads)
    hyperparameters = next(workload.hyperparameters for workload in workloads() if workload.name == "W2")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak (VmHWM)
    before = status("VmRSS")
    pairs = read_channel("train", file, hyperparameters)
    return status("VmHWM") - before, pairs.nbytes


def status(name: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.partition(f"{name}:")[2].split()[0])


def print_table(rates: dict[str, list[float]]) -> None:
    plain = statistics.median(next(iter(rates.values())))
    print("| reader | MB/s | spread | times |\n|---|---:|---:|---:|")
    for name, each in rates.items():
        rate = statistics.median(each)
        print(f"| {name} | {rate / 1e6:,.0f} | {(max(each) - min(each)) / rate:.0%} | {rate / plain:.1f} |")


if __name__ == "__main__":
    main()
