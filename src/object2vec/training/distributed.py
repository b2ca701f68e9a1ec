"""Data-parallel training in several processes that take the same steps as one process.

Each process is a rank, counted from 0, with its own share of the pairs. A step's gradient is the mean over the rows of
all ranks' batches. So a step of R ranks equals the step of one process whose batch joins the R batches.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from object2vec.errors import AlgorithmError, Object2VecError

#: Seconds to send or to receive the notice of a failure, and its longest text that is read.
NOTIFY_TIMEOUT: Final = 2.0
MAX_NOTICE_CHARACTERS: Final = 4096
CPU: Final = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class RankConfig:
    """This process's rank, and how the ranks find one another: at a port of the address of rank 0.

    `names` are the ranks' names in messages. Each host runs `ranks_per_host` of them. No rank waits for another one
    longer than `limit`.
    """

    names: Sequence[str]
    rank: int
    address: str
    port: int
    limit: timedelta
    ranks_per_host: int = 1


class Group:
    """The ranks that train together, as seen from one of them. Without peers, a single process.

    All ranks must call a method at the same time. In a single process, a method returns its argument. `device` is the
    device on which this rank computes; by default the GPU, if there is one.

    Raises:
        AlgorithmError: another rank has ended, or does not answer within the limit.
    """

    def __init__(self, peers: Peers | None = None, device: torch.device | None = None) -> None:
        self._peers = peers
        self._device = device
        self.rank = peers.config.rank if peers else 0
        self.is_main = self.rank == 0  # it prints the log lines and writes the files
        self.size = len(peers.config.names) if peers else 1
        self.ranks_per_host = peers.config.ranks_per_host if peers else 1
        self.peer_lost = False

    @property
    def device(self) -> torch.device:
        return self._device or torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def shard(self, *, sharded: bool = False) -> tuple[int, int]:
        """Return this rank's part (r, R) of a channel: one item in R, from number r on.

        A rank reads the files of all ranks; of a `sharded` channel, those of its host.
        """
        ranks = self.ranks_per_host if sharded else self.size
        return self.rank % ranks, ranks

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """Return the elementwise sums of the ranks' numbers; all ranks give as many."""
        sums = torch.tensor(numbers, dtype=torch.float64)
        self.all_reduce(sums)
        return sums.tolist()

    def all_gather(self, numbers: Sequence[float]) -> list[list[float]]:
        """Return the numbers of each rank, by rank; all ranks give as many."""
        rows = torch.zeros(self.size, len(numbers), dtype=torch.float64)
        rows[self.rank] = torch.tensor(numbers, dtype=torch.float64)
        self.all_reduce(rows)
        return rows.tolist()

    def any_rank(self, condition: bool) -> bool:
        """Return whether the condition is true on any rank."""
        return self.sum([condition])[0] > 0

    def barrier(self) -> None:
        """Wait until all ranks have called this."""
        self.sum([0])

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace `tensor` by the sum of all ranks' tensors, in place; every rank gets the same bits."""
        self._communicate(lambda: dist.all_reduce(tensor))

    def all_gather_into(self, *tensors: Sequence[Tensor]) -> None:
        """Fill each sequence, which has a tensor per rank, with the tensors of these ranks, in place."""

        def gather() -> None:
            by_rank = [(rank, tensor) for some in tensors for rank, tensor in enumerate(some)]
            for work in [dist.broadcast(tensor, src=rank, async_op=True) for rank, tensor in by_rank]:
                work.wait()

        self._communicate(gather)

    def broadcast(self, tensor: Tensor) -> None:
        """Replace `tensor` by that of rank 0, in place."""
        self._communicate(lambda: dist.broadcast(tensor, src=0))

    def broadcast_text(self, text: str) -> str:
        """Return the text of rank 0."""
        own = torch.tensor(list(text.encode()), dtype=torch.uint8)
        size = torch.tensor(len(own))
        self.broadcast(size)
        received = own if self.is_main else own.new_empty(int(size))
        self.broadcast(received)
        return bytes(received.tolist()).decode()

    def broadcast_weights(self, network: nn.Module) -> None:
        """Give all ranks the weights of rank 0."""
        for parameter in network.parameters():
            self.broadcast(parameter.detach())

    def _communicate(self, operation: Callable[[], Any]) -> None:
        """Run an operation with the other ranks, if any; an error names the rank that was lost and its reason."""
        if self._peers:
            try:
                operation()
            except RuntimeError as error:
                self.peer_lost = True
                raise AlgorithmError(self._peers.explain_loss(error)) from error

    def leave(self, error: BaseException) -> None:
        """Tell the other ranks about `error`, unless it came from one of them."""
        if self._peers and not self.peer_lost:
            family = error.family if isinstance(error, Object2VecError) else type(error).__name__
            self._peers.announce_failure(f"failed with {family}: {error}")


#: The group of a job that runs in one process.
SINGLE_PROCESS: Final = Group()


class Peers:
    """The other ranks, and the channel on which a rank announces its failure before it ends.

    Each rank listens on a port of its own. No thread reads it: the kernel queues the notices until a rank that has
    lost another one reads them.
    """

    def __init__(self, config: RankConfig, store: Any) -> None:
        self.config = config
        self._listener = socket.create_server((_own_address(config), 0), backlog=len(config.names))
        address, port = self._listener.getsockname()
        store.set(f"hearing/{config.rank}", f"{address} {port}")
        self._others: dict[str, tuple[str, int]] = {}  # the addresses by name
        for rank, name in enumerate(config.names):
            if rank != config.rank:
                address, port = store.get(f"hearing/{rank}").decode().split()
                self._others[name] = address, int(port)

    def announce_failure(self, what: str) -> None:
        """Send all other ranks a sentence with this rank's name; ranks that have ended are skipped."""
        sentence = f"{self.config.names[self.config.rank]} {what}".encode()
        for address in self._others.values():
            with suppress(OSError), socket.create_connection(address, NOTIFY_TIMEOUT) as connection:
                connection.sendall(sentence)

    def explain_loss(self, error: RuntimeError) -> str:
        """Return why a rank was lost: its own notice, or else which ranks to look at."""
        if notice := self._read_notice():
            return notice
        who = f"{'one of ' if len(self._others) > 1 else ''}{', '.join(self._others)}"
        limit, what = self.config.limit.total_seconds(), str(error).splitlines()[0]
        return f"{who} has ended, or did not answer within {limit:g} s: the job ends ({what})"

    def _read_notice(self) -> str:
        """Return the notice of a failed rank, or an empty string."""
        self._listener.settimeout(NOTIFY_TIMEOUT)
        with suppress(OSError):
            connection, _ = self._listener.accept()
            connection.settimeout(NOTIFY_TIMEOUT)
            with connection, connection.makefile(errors="replace") as sentence:
                return sentence.read(MAX_NOTICE_CHARACTERS)
        return ""

    def close(self) -> None:
        self._listener.close()


def _own_address(config: RankConfig) -> str:
    """Return the address by which this rank reaches rank 0, and the others reach this one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((config.address, config.port))  # sends nothing
        return str(probe.getsockname()[0])


@contextmanager
def connect_ranks(
    config: RankConfig, device: torch.device = CPU, check: Callable[[], None] = lambda: None
) -> Iterator[Group]:
    """Connect the ranks inside the context: by nccl for tensors on a GPU, by gloo for all others.

    `check` is called while this rank waits for the others; it raises if one of them will not connect.

    Raises:
        AlgorithmError: not all ranks have connected within the limit.
    """
    # This module keeps the default group that exists when it is first imported. If an optimizer imported it while our
    # group exists, the group's threads would outlive it and could abort the process at exit.
    import torch.distributed.nn.functional

    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    size, limit = len(config.names), config.limit
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            config.address, config.port, size, config.rank == 0, timeout=limit, wait_for_workers=False
        )
        _await_all(config, store, check)
        dist.init_process_group(backend, store=store, rank=config.rank, world_size=size, timeout=limit)
        peers = Peers(config, store)
    except (RuntimeError, OSError) as error:
        names, what = ", ".join(config.names), str(error).splitlines()[0]
        sentence = f"{names} did not all come to {config.address}:{config.port} within {limit.total_seconds():g} s"
        raise AlgorithmError(f"{sentence} ({what})") from error
    group = Group(peers, device)
    try:
        yield group
    except BaseException as error:
        group.leave(error)
        raise
    finally:
        peers.close()
        with suppress(RuntimeError):  # a lost peer makes closing fail
            dist.destroy_process_group()


def _await_all(config: RankConfig, store: Any, check: Callable[[], None]) -> None:
    store.set(f"here/{config.rank}", "")
    end = time.monotonic() + config.limit.total_seconds()
    while missing := [name for rank, name in enumerate(config.names) if not store.check([f"here/{rank}"])]:
        check()
        if time.monotonic() > end:
            raise TimeoutError(f"{', '.join(missing)} did not")
        time.sleep(0.02)
