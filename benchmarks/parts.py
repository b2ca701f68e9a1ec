"""Profile a training step: matrix products, each of our kernels, other torch operations, and Python."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile, record_function
from training import Ours
from workloads import workloads

from object2vec import allocator
from object2vec.ops import arguments as kernel_calls

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::mkldnn_linear", "aten::addmm_", "aten::matmul")
#: Parts with a smaller share of the time are summed up.
MIN_SHARE = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=["W2", "W3", "W4", "W5"], help="names of workloads")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    allocator.keep_freed()
    for workload in workloads():
        if workload.name in arguments.only:
            ours = Ours(workload.make(), workload.hyperparameters)
            ours.train(arguments.seconds / 4)  # warm up
            parts = [(name, share) for name, share in shares(ours, arguments.seconds) if share >= MIN_SHARE]
            parts.append(("smaller parts", 1 - sum(share for _, share in parts)))
            print(f"{workload.name}: " + ", ".join(f"{name} {share:.0%}" for name, share in parts))


def shares(ours: Ours, seconds: float) -> Sequence[tuple[str, float]]:
    """Return the parts and their shares of the time, largest first; they sum to 1."""
    with named_kernels(), profile(activities=[ProfilerActivity.CPU]) as profiled:
        started = time.perf_counter()
        ours.train(seconds)
        whole = 1e6 * (time.perf_counter() - started)
    spent: defaultdict[str, float] = defaultdict(float)
    for event in profiled.key_averages():
        spent[category(event.key)] += event.self_cpu_time_total / whole
    spent["Python"] += 1 - sum(spent.values())
    return sorted(spent.items(), key=lambda part: -part[1])


def category(operation: str) -> str:
    return "products" if operation in PRODUCTS else operation.removeprefix("aten::")


@contextmanager
def named_kernels() -> Iterator[None]:
    """Label each kernel call in the profile."""
    functions = kernel_calls.functions  # type: ignore[attr-defined]

    def named(name: str, function: Callable[..., int]) -> Callable[..., int]:
        def call(*arguments: object) -> int:
            with record_function(f"kernel {name}"):
                return function(*arguments)

        return call

    wrapped = {name: named(name, function) for name, function in functions().items()}
    kernel_calls.functions = lambda *_: wrapped  # type: ignore[attr-defined, assignment]
    try:
        yield
    finally:
        kernel_calls.functions = functions  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
