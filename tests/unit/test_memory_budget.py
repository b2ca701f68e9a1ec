"""Memory for bodies is given to those under way, and to no more than it is enough for."""

from __future__ import annotations

from contextlib import suppress

import pytest

from object2vec.errors import OverloadedError
from object2vec.serving.memory_budget import COLUMNS, OBJECTS, SHORT, Room

LONG = 10 * SHORT


def test_what_is_taken_is_given_back() -> None:
    """There is room for two bodies; a third has it when one of them has left, also by an error."""
    room = Room(2 * COLUMNS * LONG)
    for _ in range(3):
        with suppress(ZeroDivisionError), room.taken(LONG), room.taken(LONG):
            with pytest.raises(OverloadedError, match=f"no memory for {LONG} bytes"), room.taken(LONG):
                raise AssertionError
            raise ZeroDivisionError


def test_objects_take_more() -> None:
    """What has to be made into objects takes their share beside that of columns."""
    room = Room(OBJECTS * LONG)
    with room.taken(LONG, OBJECTS), pytest.raises(OverloadedError), room.taken(LONG):
        raise AssertionError


def test_short_ones_always_find_room() -> None:
    """Many a request of a few pairs is answered beside a body that takes all the memory there is."""
    room = Room(COLUMNS * LONG)
    with room.taken(LONG), room.taken(SHORT), room.taken(1):
        pass
