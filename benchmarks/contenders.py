"""Those that are measured in turn, each in a process of its own: how it uses memory and threads is its own affair."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

#: What a contender does in one turn of about so many seconds; it returns what was measured.
Turn = Callable[[float], Any]


class Contender:
    """A process in which `make(*arguments)` says what a turn is."""

    def __init__(self, make: Callable[..., Turn], *arguments: object) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._pipe, its_end = spawning.Pipe()
        self._process = spawning.Process(target=_take_turns, args=(its_end, make, arguments), daemon=True)
        self._process.start()
        its_end.close()

    def turn(self, seconds: float) -> Any:
        """Let it take a turn; returns what that does."""
        self._pipe.send(seconds)
        return self._pipe.recv()

    def end(self) -> None:
        self._pipe.close()
        self._process.join()


def _take_turns(pipe: Connection, make: Callable[..., Turn], arguments: tuple[object, ...]) -> None:
    """Take a turn whenever the pipe says for how long, until it is closed."""
    turn = make(*arguments)
    with suppress(EOFError):
        while True:
            pipe.send(turn(pipe.recv()))
