"""Training in several processes, each with pairs of its own, as if it were one: the same steps of the same weights.

Each of them is a rank, counted from 0. A step's gradient is the mean over the rows of all ranks' batches, so a step of
R ranks is the step of one process whose batch is the R batches together.
"""

from __future__ import annotations

import itertools
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

#: Seconds to say a farewell in, or to hear one; and as many letters of it are heard.
FAREWELL: Final = 2.0
LONGEST: Final = 4096
CPU: Final = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which of the ranks a process is, and how the ranks find one another: at a port of the address of rank 0.

    `names` are what messages call the ranks; each `processes` of them are of one host. No rank waits for another one
    longer than `limit`.
    """

    names: Sequence[str]
    rank: int
    address: str
    port: int
    limit: timedelta
    processes: int = 1


class Group:
    """The ranks that train together, seen from one of them. Made without peers: one process alone.

    What a method does it does on all ranks, which must all call it; alone it gives back what it was given. `device` is
    where this rank computes: if not said, on the GPU where there is one.

    Raises:
        AlgorithmError: another rank has ended, or does not answer within the limit.
    """

    def __init__(self, peers: Peers | None = None, device: torch.device | None = None) -> None:
        self._peers = peers
        self._device = device
        self.lost = False  # another rank, on the way

    @property
    def device(self) -> torch.device:
        return self._device or torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def rank(self) -> int:
        return self._peers.place.rank if self._peers else 0

    @property
    def size(self) -> int:
        return len(self._peers.place.names) if self._peers else 1

    @property
    def processes(self) -> int:
        """Ranks of a host."""
        return self._peers.place.processes if self._peers else 1

    @property
    def leads(self) -> bool:
        """Whether this is the rank that prints and writes what is printed and written once."""
        return self.rank == 0

    def share(self, *, sharded: bool = False) -> tuple[int, int]:
        """This rank's part (r, R) of what it sees: one item in R, from number r on.

        It sees what all ranks see, or where that is `sharded` what the ranks of its host see.
        """
        among = self.processes if sharded else self.size
        return self.rank % among, among

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """The sums of the numbers that the ranks give, as many from each."""
        if not self._peers:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64)
        self.add(sums)
        return sums.tolist()

    def each(self, numbers: Sequence[float]) -> list[list[float]]:
        """What every rank gives, in their order; as many numbers from each."""
        rows = [[0.0] * len(numbers) for _ in range(self.size)]
        rows[self.rank] = list(numbers)
        together = iter(self.sum([number for row in rows for number in row]))
        return [list(itertools.islice(together, len(numbers))) for _ in rows]

    def any(self, wish: bool) -> bool:
        """Whether any rank wishes so."""
        return self.sum([wish])[0] > 0

    def wait(self) -> None:
        """Wait until all ranks have come here."""
        self.sum([0])

    def add(self, tensor: Tensor) -> None:
        """Make `tensor` the sum of all ranks' tensors, in place; the same bits on each rank."""
        if self._peers:
            with self._together(self._peers):
                dist.all_reduce(tensor)

    def gather(self, *tensors: Sequence[Tensor]) -> None:
        """Make each of `tensors`, which are by rank, what that rank has there, in place."""
        if self._peers:
            with self._together(self._peers):
                by_rank = [(rank, tensor) for some in tensors for rank, tensor in enumerate(some)]
                for work in [dist.broadcast(tensor, src=rank, async_op=True) for rank, tensor in by_rank]:
                    work.wait()

    def hand_out(self, tensor: Tensor) -> None:
        """Make `tensor` that of rank 0, in place."""
        if self._peers:
            with self._together(self._peers):
                dist.broadcast(tensor, src=0)

    def told(self, text: str) -> str:
        """What rank 0 says; the other ranks are not listened to."""
        if not self._peers:
            return text
        said = torch.tensor(list(text.encode()), dtype=torch.uint8)
        size = torch.tensor(len(said))
        self.hand_out(size)
        heard = said if self.leads else said.new_empty(int(size))
        self.hand_out(heard)
        return bytes(heard.tolist()).decode()

    def spread(self, network: nn.Module) -> None:
        """Give all ranks the weights of rank 0."""
        for parameter in network.parameters():
            self.hand_out(parameter.detach())

    @contextmanager
    def _together(self, peers: Peers) -> Iterator[None]:
        """Within, what torch says of a rank that is gone becomes our sentence."""
        try:
            yield
        except RuntimeError as error:
            self.lost = True
            raise AlgorithmError(peers.lost(error)) from error

    def part(self, error: BaseException) -> None:
        """Leave after `error`: the other ranks hear of it, if the fault is this one's own."""
        if self._peers and not self.lost:
            family = error.family if isinstance(error, Object2VecError) else type(error).__name__
            self._peers.tell(f"failed with {family}: {error}")


#: One process without others.
ALONE: Final = Group()


class Peers:
    """The other ranks: who they are, and how one hears why another has failed, which says so before it goes.

    Each rank has a port of its own for that. Nobody listens but the kernel, which keeps what was said until a rank
    that has lost another one asks for it.
    """

    def __init__(self, place: Place, store: Any) -> None:
        self.place = place
        self._hearing = socket.create_server((_own_address(place), 0), backlog=len(place.names))
        address, port = self._hearing.getsockname()
        store.set(f"hearing/{place.rank}", f"{address} {port}")
        others = [store.get(f"hearing/{rank}").decode().split() for rank in self._ranks]
        self._others = [(address, int(port)) for address, port in others]

    @property
    def _ranks(self) -> list[int]:
        return [rank for rank in range(len(self.place.names)) if rank != self.place.rank]

    def tell(self, what: str) -> None:
        """Say of this rank to all others `what` it did; those that are gone do not matter."""
        sentence = f"{self.place.names[self.place.rank]} {what}".encode()
        for address in self._others:
            with suppress(OSError), socket.create_connection(address, FAREWELL) as connection:
                connection.sendall(sentence)

    def lost(self, error: RuntimeError) -> str:
        """Why the ranks are no longer together: what the one that failed has said, or whom to look at."""
        if said := self._said():
            return said
        names = [self.place.names[rank] for rank in self._ranks]
        who = names[0] if len(names) == 1 else f"one of {', '.join(names)}"
        limit, what = self.place.limit.total_seconds(), str(error).splitlines()[0]
        return f"{who} has ended, or did not answer within {limit:g} s: the job ends ({what})"

    def _said(self) -> str:
        """What another rank has said; nothing where none has."""
        self._hearing.settimeout(FAREWELL)
        with suppress(OSError):
            connection, _ = self._hearing.accept()
            connection.settimeout(FAREWELL)
            with connection, connection.makefile(errors="replace") as sentence:
                return sentence.read(LONGEST)
        return ""

    def close(self) -> None:
        self._hearing.close()


def _own_address(place: Place) -> str:
    """The address by which this rank reaches rank 0, and others reach this one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((place.address, place.port))  # sends nothing
        return str(asking.getsockname()[0])


@contextmanager
def connected(place: Place, device: torch.device = CPU, check: Callable[[], None] = lambda: None) -> Iterator[Group]:
    """Within, the ranks are connected: by nccl for what lies on a GPU, by gloo for the rest.

    `check` is called while others are waited for, and raises what it knows of one that will not come.

    Raises:
        AlgorithmError: not all ranks have come within the limit.
    """
    # As default arguments its functions keep the group that is there when torch first imports it, for an optimizer; the
    # threads of a group that is kept outlive it, and may abort the process at its end.
    import torch.distributed.nn.functional

    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    size, limit = len(place.names), place.limit
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            place.address, place.port, size, place.rank == 0, timeout=limit, wait_for_workers=False
        )
        _await_all(place, store, check)
        dist.init_process_group(backend, store=store, rank=place.rank, world_size=size, timeout=limit)
        peers = Peers(place, store)
    except (RuntimeError, OSError) as error:
        names, what = ", ".join(place.names), str(error).splitlines()[0]
        sentence = f"{names} did not all come to {place.address}:{place.port} within {limit.total_seconds():g} s"
        raise AlgorithmError(f"{sentence} ({what})") from error
    group = Group(peers, device)
    try:
        yield group
    except BaseException as error:
        group.part(error)
        raise
    finally:
        peers.close()
        with suppress(RuntimeError):  # what has gone cannot be closed well
            dist.destroy_process_group()


def _await_all(place: Place, store: Any, check: Callable[[], None]) -> None:
    store.set(f"here/{place.rank}", "")
    end = time.monotonic() + place.limit.total_seconds()
    while missing := [name for rank, name in enumerate(place.names) if not store.check([f"here/{rank}"])]:
        check()
        if time.monotonic() > end:
            raise TimeoutError(f"{', '.join(missing)} did not")
        time.sleep(0.02)
