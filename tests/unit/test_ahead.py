"""What a thread makes ahead is what would have been made, and no more is made than is asked for soon."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from object2vec.data.ahead import MOST, made_ahead


@pytest.mark.parametrize("count", [0, 1, 2, 3, MOST, 5 * MOST + 1])
def test_nothing_is_lost(count: int) -> None:
    """All items, in their order."""
    assert list(made_ahead(iter(range(count)))) == list(range(count))


def test_another_thread_makes_them() -> None:
    def items() -> Iterator[int]:
        for _ in range(3):
            yield threading.get_ident()

    (maker,) = set(made_ahead(items()))
    assert maker != threading.get_ident()


def test_an_error_is_raised_where_they_are_used() -> None:
    """After items that were handed over before; it is the maker's own."""

    def items() -> Iterator[int]:
        yield from range(10)
        raise OSError("the disk has gone")

    given = []
    with pytest.raises(OSError, match="the disk has gone"):
        given.extend(made_ahead(items()))
    assert given == list(range(len(given)))


def test_who_asks_no_more_leaves_no_thread_behind() -> None:
    """An iterator that is left is at most what was ahead further than was asked for, and its thread has ended."""
    made = []

    def items() -> Iterator[int]:
        for item in range(10**9):
            made.append(item)
            yield item

    before = threading.active_count()
    used = 0
    for _ in made_ahead(items()):
        used += 1
        if used == 100:
            break
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert len(made) <= used + 2 * MOST
