"""Micro-batching: a process runs one forward pass at a time, and waiting requests share the next one.

Several passes at a time would compete for the CPU, also with /ping. A request that comes alone is answered at once.
Requests that come during its pass wait for the next. The next pass waits briefly for as many requests as were in
or came during the last one: clients send again soon after a reply, and most of the cost of a pass is fixed.
Pairs of single tokens skip the queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(eq=False, slots=True)
class _Pending:
    query: Query
    answers: Answers | None = None


class MicroBatcher:
    """Batches the queries of a process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: deque[_Pending] = deque()
        self._last_requests, self._last_seconds = 1, 0.0  # requests in or during the last pass; its seconds

    def answer(self, query: Query) -> Iterator[Answers]:
        """Return the answers in parts. A long query queues again for each part."""
        return (part.token_scores() or self._answer_in_batch(part) for part in query.parts())

    def _answer_in_batch(self, query: Query) -> Answers:
        own = _Pending(query)
        self._waiting.append(own)
        with self._lock:
            until = perf_counter() + min(WAIT_SHARE * self._last_seconds, MAX_WAIT_SECONDS)
            while own.answers is None and len(self._waiting) < self._last_requests and perf_counter() < until:
                sleep(POLL_SECONDS)
            return own.answers or self._run_batch(own)

    def _run_batch(self, own: _Pending) -> Answers:
        """Run one pass for `own` and the waiting queries that can batch with it. If it fails, only `own` fails."""
        batch = [own]
        room = MAX_BATCH_ROWS - own.query.count
        for _ in range(len(self._waiting)):
            other = self._waiting.popleft()
            if other is own or other.answers is not None:
                continue
            if other.query.count <= room and other.query.can_batch_with(own.query):
                batch.append(other)
                room -= other.query.count
            else:
                self._waiting.append(other)
        started = perf_counter()
        found = answer_batch([waiting.query for waiting in batch])
        self._last_requests, self._last_seconds = len(batch) + len(self._waiting), perf_counter() - started
        for waiting, answers in zip(batch, found, strict=True):
            waiting.answers = answers
        return found[0]
