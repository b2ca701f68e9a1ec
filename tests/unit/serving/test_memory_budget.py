"""Memory for bodies is given to those under way, and to no more than it is enough for."""

from __future__ import annotations

from contextlib import suppress

import pytest

from object2vec.errors import OverloadedError
from object2vec.serving.memory_budget import COLUMN_BYTES, MAX_UNCOUNTED_BYTES, OBJECT_BYTES, MemoryBudget

LONG = 10 * MAX_UNCOUNTED_BYTES


def test_what_is_taken_is_given_back() -> None:
    """There is room for two bodies; a third has it when one of them has left, also by an error."""
    room = MemoryBudget(2 * COLUMN_BYTES * LONG)
    for _ in range(3):
        with suppress(ZeroDivisionError), room.reserve(LONG), room.reserve(LONG):
            with pytest.raises(OverloadedError, match=f"no memory for {LONG} bytes"), room.reserve(LONG):
                raise AssertionError
            raise ZeroDivisionError


def test_objects_take_more() -> None:
    """What has to be made into objects takes their share beside that of columns."""
    room = MemoryBudget(OBJECT_BYTES * LONG)
    with room.reserve(LONG, OBJECT_BYTES), pytest.raises(OverloadedError), room.reserve(LONG):
        raise AssertionError


def test_short_ones_always_find_room() -> None:
    """Many a request of a few pairs is answered beside a body that takes all the memory there is."""
    room = MemoryBudget(COLUMN_BYTES * LONG)
    with room.reserve(LONG), room.reserve(MAX_UNCOUNTED_BYTES), room.reserve(1):
        pass
