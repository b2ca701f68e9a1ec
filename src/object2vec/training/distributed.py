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
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from object2vec import kernels
from object2vec.data.batches import Batch
from object2vec.data.sequences import Sequences
from object2vec.errors import AlgorithmError, Object2VecError
from object2vec.model.network import Network
from object2vec.model.tokens import TokenEmbedding, Touched
from object2vec.training.optimizers import joined

#: Counts travel as float32, which has every integer below this one.
EXACT: Final = 2**24
#: Seconds to say a farewell in, or to hear one; and as many letters of it are heard.
FAREWELL: Final = 2.0
LONGEST: Final = 4096
CPU: Final = torch.device("cpu")
NO_PAIRS: Final = Batch(
    (Sequences.of([]), Sequences.of([])),
    (np.empty(0, np.int64), np.empty(0, np.int64)),
    np.empty(0, np.float32),
)


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


class Exchange:
    """What the ranks tell one another at each step, so that all make the same one and none waits for one that is done.

    Gradients travel summed up, in one message with all that is to be agreed on. Those of token embeddings travel as
    what the rank's look-ups add to them, and cost as much however large the table is.
    """

    def __init__(self, group: Group, network: Network) -> None:
        self.group = group
        self.tables = [m for m in network.modules() if isinstance(m, TokenEmbedding) and m.weight.requires_grad]
        self._whole = {table for table in self.tables if not table.collects}  # moved by a gradient of all of it
        if group.size > 1:
            for table in self.tables:
                table.collects = True
        weights = {table.weight for table in self.tables}
        self.parameters = [p for p in network.parameters() if p.requires_grad and p not in weights]
        self._rows = self._own_rows = 0.0  # of this step's batches: of all ranks, of this one
        self._next_rows, self._wish = 0.0, False
        self.asking = self._asked = False  # for a pause after this step: this rank, any rank

    @cached_property
    def _message(self) -> list[Tensor]:
        """Parts of one flat tensor: a gradient a parameter, then what is agreed on; the last is all of it."""
        sizes = [p.numel() for p in self.parameters]
        agreed = len(Agreed._fields) - 1 + 2 * self.group.size * len(self.tables)
        flat = self.parameters[0].new_empty(sum(sizes) + agreed)
        return [*torch.split(flat, [*sizes, agreed]), flat]

    def batches(self, own: Iterator[Batch], stop: Callable[[], bool]) -> Iterator[Batch]:
        """This rank's batches, then batches of no pairs until every rank is through with its own.

        They end on all ranks at once, also where `stop()`, asked each batch, is true on any of them.
        """
        if self.group.size == 1:
            yield from itertools.takewhile(lambda _: not stop(), own)
            return
        ahead = next(own, NO_PAIRS)
        rows, wishes = self.group.sum([len(ahead), stop()])
        self._rows = rows if not wishes else 0
        while self._rows:
            batch, ahead = ahead, next(own, NO_PAIRS)
            self._own_rows, self._next_rows, self._wish = len(batch), len(ahead), stop()
            yield batch

    @property
    def share(self) -> float:
        """What the mean loss over this rank's own rows counts in that over the rows of all ranks."""
        return 1.0 if self.group.size == 1 else self._own_rows / self._rows

    @property
    def asked(self) -> bool:
        """Whether any rank asks for a pause after this step."""
        return self.asking if self.group.size == 1 else self._asked

    def sum(self, loss: Tensor) -> Tensor:
        """Turn the gradients of `loss`, this rank's part of it, into those of the sum over the ranks; returns that."""
        if self.group.size == 1:
            return loss
        touched = [_compact(table) for table in self.tables]
        agreed = self._sum(loss, [size for one in touched for size in (len(one.values), len(one.gradient))])
        self._rows = agreed.next_rows if not agreed.wishes else 0
        self._asked = agreed.asked > 0
        sizes = np.array(agreed.sizes, int).reshape(len(self.tables), 2, self.group.size)
        for table, own, (values, rows) in zip(self.tables, touched, sizes.tolist(), strict=True):
            total = self._of_all_ranks(table, own, values, rows)
            table.touched[:] = [] if table in self._whole else [total]
            table.weight.grad = table.gradient_of(total) if table in self._whole else None
        return loss.new_tensor(agreed.loss)

    def _of_all_ranks(self, table: TokenEmbedding, own: Touched, values: list[int], rows: list[int]) -> Touched:
        """What all ranks add to a table, by rank so many values and rows of a gradient; they arrive in place."""
        gradient = own.gradient.new_empty(sum(rows), table.dim)
        parts = torch.split(gradient, rows)
        parts[self.group.rank].copy_(own.gradient)
        messages = [gradient.new_empty(m + 2 * n) for n, m in zip(values, rows, strict=True)]
        torch.cat([own.scale, _as_floats(own.values), _as_floats(own.origin)], out=messages[self.group.rank])
        self.group.gather(parts, messages)
        of_ranks = [
            Touched(_as_integers(message[m : m + n]), _as_integers(message[m + n :]), message[:m], part)
            for message, part, n, m in zip(messages, parts, values, rows, strict=True)
        ]
        if kernels.usable(table.weight):  # the kernels sum up an id's rows in the order of the ranks
            return joined(of_ranks, gradient)
        return _summed(table, of_ranks)

    def _sum(self, loss: Tensor, sizes: Sequence[int]) -> Agreed:
        """Make the gradients of all but token embeddings those of all ranks; what else the ranks say is added up."""
        *gradients, tail, flat = self._message
        shaped = [part.view_as(p) for part, p in zip(gradients, self.parameters, strict=True)]
        torch._foreach_copy_(shaped, [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters])
        rank = self.group.rank
        by_rank = [size if r == rank else 0 for size in sizes for r in range(self.group.size)]
        tail.copy_(tail.new_tensor([loss.item(), self._next_rows, self._wish, self.asking, *by_rank]))
        self.group.add(flat)
        for p, gradient in zip(self.parameters, shaped, strict=True):
            p.grad = gradient
        losses, next_rows, wishes, asked, *all_sizes = tail.tolist()
        return Agreed(losses, next_rows, wishes, asked, [int(size) for size in all_sizes])


class Agreed(NamedTuple):
    """What the ranks said of a step, added up."""

    loss: float
    next_rows: float  # rows of the next step's batches
    wishes: float  # ranks that wish to stop
    asked: float  # ranks that ask for a pause
    sizes: list[int]  # what look-ups of each table add: n values by rank, then m rows by rank


def _compact(table: TokenEmbedding) -> Touched:
    """What a step's look-ups add to a table, in the form that is the shorter message: as they are, or summed up by id.

    Without kernels it is summed up: a GPU adds in any order, and so it is done by one rank for all.
    """
    touched = joined(table.touched)
    if kernels.usable(table.weight):
        groups = kernels.group(touched.values, touched.origin, table.lut)
        ids = groups.rows
        if len(touched.gradient) <= len(ids) and len(touched.values) < EXACT:
            return touched
        gradient = table.weight.new_zeros(len(ids), table.dim)
        numbered = groups._replace(rows=torch.arange(len(ids)))
        kernels.add_rows(gradient, numbered, touched.scale, touched.gradient)
    else:
        ids, place = torch.unique(touched.values, return_inverse=True)
        gradient = table.weight.new_zeros(len(ids), table.dim)
        gradient.index_add_(0, place, (touched.gradient * touched.scale[:, None])[touched.origin])
    return Touched(ids, torch.arange(len(ids), device=ids.device), gradient.new_ones(len(ids)), gradient)


def _as_floats(integers: Tensor) -> Tensor:
    """Ids or places as they travel: four bytes each, as the numbers beside them."""
    return integers.int().view(torch.float32)


def _as_integers(floats: Tensor) -> Tensor:
    return floats.view(torch.int32).long()


def _summed(table: TokenEmbedding, of_ranks: Sequence[Touched]) -> Touched:
    """What all ranks add to a table, a rank at a time: a GPU adds in any order, and the ranks would drift apart."""
    values = torch.cat([touched.values for touched in of_ranks])
    ids, row = torch.unique(values, return_inverse=True)
    summed = of_ranks[0].gradient.new_zeros(len(ids), table.dim)
    for rows, of_rank in zip(row.split([len(t.values) for t in of_ranks]), of_ranks, strict=True):
        summed.index_add_(0, rows, of_rank.gradient)
    return Touched(ids, torch.arange(len(ids), device=ids.device), summed.new_ones(len(ids)), summed)
