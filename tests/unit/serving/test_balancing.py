"""Workers get about as many connections each."""

from __future__ import annotations

from object2vec.serving.balancing import MAX_DEFER_SECONDS, Balance, ConnectionCounts


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_worker_with_more_connections_leaves_one_to_others() -> None:
    """But not for long: the other worker may be busy."""
    counts, clock = ConnectionCounts(), Clock()
    balance = Balance(counts, clock)
    counts.set(1, 3)
    counts.set(2, 3)
    assert not balance.defers(3)
    counts.set(2, 2)
    assert balance.defers(3)
    clock.now += 0.6 * MAX_DEFER_SECONDS
    assert balance.defers(3)
    clock.now += 0.6 * MAX_DEFER_SECONDS
    assert not balance.defers(3)
    clock.now += 60
    assert balance.defers(3)


def test_a_worker_that_has_ended_gets_no_connections() -> None:
    counts = ConnectionCounts()
    counts.set(1, 5)
    counts.set(257 + 1, 0)
    assert counts.fewest() == 0
    counts.remove(257 + 1)
    assert counts.fewest() == 5
    counts.remove(1)
    assert counts.fewest() == 0
