"""Signals as the wish that a job ends, heard also while the main thread is deep in a long step."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from object2vec.training.stopping import Stop


@contextmanager
def heeded(stop: Stop, *numbers: int) -> Iterator[None]:
    """Within, each of these signals is a wish to `stop`; a second Ctrl-C interrupts.

    Python runs a handler only between two steps of its main thread, which may lie minutes apart. What it writes to a
    pipe it writes at once, and there a thread reads it.
    """
    listening, telling = os.pipe()
    os.set_blocking(telling, False)
    over = threading.Event()
    interrupted = False

    def hear() -> None:
        if stop():
            stop.enforce(over)
        while heard := os.read(listening, 1):
            if heard[0] in numbers:
                stop.wish()
                stop.enforce(over)
        os.close(listening)

    def handle(number: int, _: object) -> None:
        nonlocal interrupted
        if interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        interrupted |= number == signal.SIGINT
        stop.wish()

    before = {number: signal.signal(number, handle) for number in numbers}
    fd_before = signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
    thread = threading.Thread(target=hear, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(fd_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(telling)
        thread.join()  # a thread that Python ends at the process' own end can take the process down with SIGABRT
