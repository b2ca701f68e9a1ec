"""Who works when: one pass at a time in a process, and requests that wait for theirs share the next.

Several passes at a time would only fight for the CPU, and with what answers /ping. A request that comes alone is
answered at once, and while its pass runs others gather for the next. That one waits a little for as many as shared the
last one or came meanwhile: clients that were answered soon come again, and much of what a pass costs it costs but once.
What can be looked up waits for no one.
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

#: How long a pass waits for as many as were there around the last one: a part of what that took, seconds at the most.
WAIT_SHARE: Final = 0.25
MAX_WAIT_SECONDS: Final = 0.01
#: How long until it looks again, in seconds.
POLL_SECONDS: Final = 0.0005


@dataclass(eq=False, slots=True)
class _Pending:
    query: Query
    answers: Answers | None = None


class MicroBatcher:
    """The turns of a process's requests."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: deque[_Pending] = deque()
        self._last_requests, self._last_seconds = (
            1,
            0.0,
        )  # requests in the last pass or come meanwhile; the seconds that it took

    def answer(self, query: Query) -> Iterator[Answers]:
        """The answers in parts; a long query waits for a turn with each."""
        return map(self._answer, query.parts())

    def _answer(self, query: Query) -> Answers:
        return query.token_scores() or self._answer_in_batch(query)

    def _answer_in_batch(self, query: Query) -> Answers:
        own = _Pending(query)
        self._waiting.append(own)
        with self._lock:
            until = perf_counter() + min(WAIT_SHARE * self._last_seconds, MAX_WAIT_SECONDS)
            while own.answers is None and len(self._waiting) < self._last_requests and perf_counter() < until:
                sleep(POLL_SECONDS)
            return own.answers or self._run_batch(own)

    def _run_batch(self, own: _Pending) -> Answers:
        """One pass for `own` and for what else goes with it, as far as there is room; where it fails, for none."""
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
