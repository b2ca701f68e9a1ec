"""Implementations that take turns, each in its own process, with its own memory and threads."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

#: Runs for about the given seconds and returns the measurement.
Turn = Callable[[float], Any]


class Contender:
    """A process that runs the turns that `make(*arguments)` returns."""

    def __init__(self, make: Callable[..., Turn], *arguments: object) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._pipe, child_end = spawning.Pipe()
        self._process = spawning.Process(target=_take_turns, args=(child_end, make, arguments), daemon=True)
        self._process.start()
        child_end.close()

    def turn(self, seconds: float) -> Any:
        """Run one turn and return its result."""
        self._pipe.send(seconds)
        return self._pipe.recv()

    def end(self) -> None:
        self._pipe.close()
        self._process.join()


def _take_turns(pipe: Connection, make: Callable[..., Turn], arguments: tuple[object, ...]) -> None:
    """Run a turn for each duration received, until the pipe is closed."""
    turn = make(*arguments)
    with suppress(EOFError):
        while True:
            pipe.send(turn(pipe.recv()))
