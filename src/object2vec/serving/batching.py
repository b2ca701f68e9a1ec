"""Micro-batching: a process runs one forward pass at a time, and waiting requests share the next one.

Several passes at a time would compete for the CPU, also with /ping. A request that comes alone is answered at once.
Requests that come during its pass wait for the next. The next pass waits briefly for as many requests as were in
or came during the last one: clients send again soon after a reply, and most of the cost of a pass is fixed.
Pairs of single tokens skip the queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock
from time import perf_counter, sleep
from typing import Final

from object2vec.serving.forward import MAX_BATCH_ROWS
from object2vec.serving.instances import Answers
from object2vec.serving.query import Query, answer_batch

#: How long a pass waits for more requests: a share of the seconds of the last pass, and its upper limit in seconds.
WAIT_SHARE: Final = 0.25
MAX_WAIT_SECONDS: Final = 0.01
#: Seconds between two looks at the queue.
POLL_SECONDS: Final = 0.0005


def _locked() -> Lock:
    lock = Lock()
    lock.acquire()
    return lock


@dataclass(eq=False, slots=True)
class _Pending:
    """A query in the queue. `woken` is released once: when there are answers, or when its thread is to run a pass."""

    query: Query
    answers: Answers | None = None
    woken: Lock = field(default_factory=_locked)


class MicroBatcher:
    """Batches the queries of a process.

    One thread at a time runs passes, and wakes those whose queries it has answered. Then it hands over to a thread that
    waits. If all threads took turns at one lock, those with answers would hold up the next pass.
    """

    def __init__(self) -> None:
        self._lock = Lock()  # for the next two
        self._waiting: deque[_Pending] = deque()
        self._is_running = False
        self._last_requests, self._last_seconds = 1, 0.0  # requests in or during the last pass; its seconds

    def answer(self, query: Query) -> Iterator[Answers]:
        """Return the answers in parts. A long query queues again for each part."""
        return (part.token_scores() or self._answer_in_batch(part) for part in query.parts())

    def _answer_in_batch(self, query: Query) -> Answers:
        own = _Pending(query)
        with self._lock:
            self._waiting.append(own)
            others_run, self._is_running = self._is_running, True
        if others_run:
            own.woken.acquire()
            if own.answers is not None:
                return own.answers
        try:
            until = perf_counter() + min(WAIT_SHARE * self._last_seconds, MAX_WAIT_SECONDS)
            while len(self._waiting) < self._last_requests and perf_counter() < until:
                sleep(POLL_SECONDS)
            return self._run_batch(own)
        finally:
            self._hand_over()

    def _hand_over(self) -> None:
        """Let the first query that waits run the next pass."""
        with self._lock:
            if self._waiting:
                self._waiting[0].woken.release()
            else:
                self._is_running = False

    def _run_batch(self, own: _Pending) -> Answers:
        """Run one pass for `own` and the waiting queries that can batch with it. If it fails, only `own` fails."""
        batch = [own]
        room = MAX_BATCH_ROWS - own.query.count
        for _ in range(len(self._waiting)):
            other = self._waiting.popleft()
            if other is own:
                continue
            if other.query.count <= room and other.query.can_batch_with(own.query):
                batch.append(other)
                room -= other.query.count
            else:
                self._waiting.append(other)
        started = perf_counter()
        try:
            found = answer_batch([waiting.query for waiting in batch])
        except BaseException:
            self._waiting.extendleft(batch[:0:-1])
            raise
        self._last_requests, self._last_seconds = len(batch) + len(self._waiting), perf_counter() - started
        for waiting, answers in zip(batch[1:], found[1:], strict=True):
            waiting.answers = answers
            waiting.woken.release()
        return found[0]
