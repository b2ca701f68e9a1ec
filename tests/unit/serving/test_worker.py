"""gunicorn's worker: which connections it accepts."""

from __future__ import annotations

from typing import Any

import pytest
from gunicorn.workers.gthread import ThreadWorker

from object2vec.serving import worker
from object2vec.serving.balancing import Balance, ConnectionCounts


@pytest.fixture
def accepted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the listeners of which gunicorn's own worker accepted a connection."""
    listeners: list[str] = []

    def accept(self: Any, listener: str) -> None:
        listeners.append(listener)
        self.nr_conns += 1

    monkeypatch.setattr(ThreadWorker, "accept", accept)
    monkeypatch.setattr(worker, "CONNECTIONS", ConnectionCounts())
    return listeners


def started(age: int) -> worker.Worker:
    """Return a worker without a server."""
    own = worker.Worker.__new__(worker.Worker)
    own.age, own.nr_conns, own.balance = age, 0, Balance(worker.CONNECTIONS, clock=lambda: 100.0)
    worker.CONNECTIONS.set(age, 0)
    return own


def test_workers_accept_connections_in_turn(accepted: list[str]) -> None:
    """A worker that has one more than another leaves the next to that one."""
    first, second = started(1), started(2)
    first.accept("a")
    first.accept("b")
    assert accepted == ["a"]
    second.accept("b")
    first.accept("c")
    assert accepted == ["a", "b", "c"]
    assert (first.nr_conns, second.nr_conns) == (2, 1)


def test_a_worker_tells_others_how_many_connections_it_has(
    accepted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when one has ended."""
    first, second = started(1), started(2)
    first.accept("a")
    second.accept("b")
    assert worker.CONNECTIONS.fewest() == 1

    def end_one(self: Any, timeout: float) -> None:
        self.nr_conns -= 1

    monkeypatch.setattr(ThreadWorker, "wait_for_and_dispatch_events", end_one)
    second.wait_for_and_dispatch_events(1.0)
    assert worker.CONNECTIONS.fewest() == 0
    first.accept("c")
    assert accepted == ["a", "b"]
