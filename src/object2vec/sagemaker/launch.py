"""Start the processes of a training job on a host and connect them with those of all hosts."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from operator import attrgetter
from typing import Final, Literal

import torch

from object2vec.errors import AlgorithmError
from object2vec.sagemaker.environment import TrainingEnvironment
from object2vec.training.distributed import Group, RankConfig, connect_ranks

#: The port of the first host, unless MASTER_PORT is set; AWS's own launchers use it.
PORT: Final = 7777
#: How long a host waits for another one. Hosts may start, and finish reading their parts, minutes apart.
LIMIT: Final = timedelta(minutes=15)
#: Seconds in which the other processes of a host must end after the first one.
EXIT_GRACE_SECONDS: Final = 10.0


def choose_devices(num_gpus: int | Literal["auto"]) -> list[str]:
    """Return the devices of this host, one process each: up to `num_gpus` GPUs, or the CPU if there are none."""
    there = torch.cuda.device_count()
    count = there if num_gpus == "auto" else min(num_gpus, there)
    return [f"cuda:{number}" for number in range(count)] or ["cpu"]


@contextmanager
def spawn_ranks(work: Callable[[Sequence[str], int], None], devices: Sequence[str]) -> Iterator[Callable[[], None]]:
    """Run `work(devices, number)` in a new process for each device except the first, inside the context.

    Yields a function that raises AlgorithmError if one of the processes has failed.
    """
    os.environ["PYTHONSAFEPATH"] = "1"  # else a new process imports modules of the working directory
    context = multiprocessing.get_context("spawn")  # CUDA cannot be used after a fork
    others = [context.Process(target=work, args=(devices, number), daemon=True) for number in range(1, len(devices))]

    def check() -> None:
        for number, process in enumerate(others, start=1):
            if process.exitcode:
                what = f"process {number} of this host, for {devices[number]}, ended with status {process.exitcode}"
                raise AlgorithmError(f"{what} before it connected to the others; the log says why")

    try:
        for process in others:
            process.start()
        yield check
    finally:
        for process in filter(attrgetter("pid"), others):  # those that have started
            process.join(EXIT_GRACE_SECONDS)
            process.kill()


@contextmanager
def join_group(
    environment: TrainingEnvironment, devices: Sequence[str], number: int, check: Callable[[], None] = lambda: None
) -> Iterator[Group]:
    """Connect the processes of all hosts as one group inside the context; this one computes on `devices[number]`.

    The only process of a job connects to nothing. `check` is called while this process waits for the others.

    Raises:
        AlgorithmError: not all processes have connected within the limit.
    """
    device = torch.device(devices[number])
    names = [f"process {n} of {host}" if n else host for host in environment.hosts for n in range(len(devices))]
    if len(names) == 1:
        yield Group(device=device)
        return
    address = resolve(environment.hosts[0], LIMIT)
    # SageMaker's local mode names an interface that does not exist. gloo and nccl then find one by themselves.
    if environment.interface in (name for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", environment.interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", environment.interface)
    os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # a limit that has passed raises, instead of aborting
    place = RankConfig(
        names=names,
        rank=names.index(environment.host) + number,
        address=address,
        port=int(os.environ.get("MASTER_PORT", PORT)),
        limit=LIMIT,
        ranks_per_host=len(devices),
    )
    with connect_ranks(place, device, check) as group:
        yield group


def resolve(name: str, limit: timedelta) -> str:
    """Return the address of a host; wait while DNS does not know its name.

    Raises:
        AlgorithmError: the name is unknown after the limit.
    """
    end = time.monotonic() + limit.total_seconds()
    pause = 0.1
    while True:
        try:
            return socket.gethostbyname(name)
        except OSError as error:
            if time.monotonic() + pause > end:
                what = f"the host {name} has no address after {limit.total_seconds():g} s"
                raise AlgorithmError(f"{what} ({error.strerror})") from error
        time.sleep(pause)
        pause = min(2 * pause, 5)
