"""Compare training on two hosts with one: ranks of one thread, each on its own core.

"Apart" are two independent trainings, the upper limit on this machine. The variants take turns, so that other load
affects all of them alike.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from datetime import timedelta

import torch
from training import Ours
from workloads import Workload, workloads

from object2vec.training.distributed import SINGLE_PROCESS, RankConfig, connect_ranks

NAMES = ("host-1", "host-2")


def main() -> None:
    arguments = parse_arguments()
    if arguments.rank is not None:
        run_rank(arguments)
        return
    print("| workload | one host, examples/s | two | two apart |")
    print("|---|---:|---:|---:|")
    for workload in workloads():
        if workload.name in arguments.only:
            measure(workload, arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each in one round")
    parser.add_argument("--only", nargs="*", default=["W1-2048", "W2", "W3", "W4"], help="names of workloads")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(workload: Workload, arguments: argparse.Namespace) -> None:
    rounds = [
        [rate(workload, arguments, *how) for how in ((1, True), (2, True), (2, False))] for _ in range(arguments.rounds)
    ]
    one, two, apart = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratios = [statistics.median(row[n] / row[0] for row in rounds) for n in (1, 2)]
    cells = f"{one:,.0f}", f"{two:,.0f} ({ratios[0]:.2f} times)", f"{apart:,.0f} ({ratios[1]:.2f} times)"
    print("|", " | ".join((f"**{workload.name}** {workload.description}", *cells)), "|", flush=True)


def rate(workload: Workload, arguments: argparse.Namespace, ranks: int, together: bool) -> float:
    """Return the examples per second of a number of ranks."""
    port = free_port() if ranks > 1 and together else 0
    command = [
        sys.executable,
        __file__,
        "--only",
        workload.name,
        "--seconds",
        str(arguments.seconds),
        "--port",
        str(port),
    ]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_WAIT_POLICY": "PASSIVE"}
    running = [
        subprocess.Popen([*command, "--rank", str(rank)], env=environment, stdout=subprocess.PIPE, text=True)
        for rank in range(ranks)
    ]
    outputs = [process.communicate()[0] for process in running]
    return float(outputs[0]) if port else sum(map(float, outputs))


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def run_rank(arguments: argparse.Namespace) -> None:
    """Train as one of the ranks, and print the examples per second of all ranks."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[arguments.rank]})
    torch.set_num_threads(1)
    torch.manual_seed(0)
    (workload,) = (workload for workload in workloads() if workload.name in arguments.only)
    limit = timedelta(minutes=2)
    place = RankConfig(names=NAMES, rank=arguments.rank, address="127.0.0.1", port=arguments.port, limit=limit)
    with connect_ranks(place) if arguments.port else nullcontext(SINGLE_PROCESS) as group:
        ours = Ours(workload.make(), workload.hyperparameters, group)
        ours.train(arguments.seconds / 4)  # warm up
        started = time.perf_counter()
        examples = ours.train(arguments.seconds)
        print(examples / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
