"""Stop a job early and keep its model: on SIGTERM or Ctrl-C, also while a step takes minutes."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

logger = logging.getLogger(__name__)

#: Seconds from the request to stop until the process is ended by force. By default, containers get 10.
GRACE_SECONDS: Final = 8.0
#: The exit status after Ctrl-C, as of a shell: 128 + the signal's number.
INTERRUPTED_STATUS: Final = 128 + signal.SIGINT


class Stop:
    """A request to end the job; training checks it before each batch.

    `emergency_save` writes the model if there is no time to finish the batch. It is set once there is a model.
    `ModelWriter` documents which model it writes while a step runs. Ctrl-C before `training` ends the job at once, so
    that no untrained model replaces an earlier one.
    """

    def __init__(self) -> None:
        self._requested = threading.Event()
        self.emergency_save: Callable[[], None] | None = None
        self.interrupted = False
        self.training = False

    def __call__(self) -> bool:
        return self._requested.is_set()

    def request(self, number: int = 0) -> None:
        """Ask the job to end, because of a signal if `number` is given; further requests change nothing."""
        self.interrupted |= number == signal.SIGINT
        self._requested.set()

    def handle(self, number: int, _: object) -> None:
        """Request the end when a signal arrives. A second Ctrl-C interrupts, and so does an early one."""
        self.request(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
            if not self.training:
                raise KeyboardInterrupt

    def force_exit_after_grace(self, finished: threading.Event) -> None:
        """Wait until the job is `finished`; after the grace period, save the model and exit."""
        if finished.wait(GRACE_SECONDS):
            return
        while self.emergency_save is None:
            if finished.wait(0.1):
                return
        try:
            if self.training or not self.interrupted:
                self.emergency_save()
        except BaseException:
            logger.exception("The model could not be written")
            os._exit(1)
        os._exit(INTERRUPTED_STATUS if self.interrupted else 0)


@contextmanager
def stop_on_interrupt(stop: Stop) -> Iterator[None]:
    """Request `stop` at the first Ctrl-C inside the context, see `Stop.handle`.

    The process continues afterwards, unlike with `handle_termination_signals`. Only the main thread gets Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    previous = signal.signal(signal.SIGINT, stop.handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def handle_termination_signals(stop: Stop, *numbers: int) -> Iterator[None]:
    """Request `stop` when one of these signals arrives inside the context, see `Stop.handle`.

    Python runs a handler only between two bytecodes of its main thread. A native call can delay that by minutes.
    Python also writes the signal's number to a pipe at once, and a thread reads it there.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    finished = threading.Event()

    def watch() -> None:
        if stop():
            stop.force_exit_after_grace(finished)
        while received := os.read(read_end, 1):
            if received[0] in numbers:
                stop.request(received[0])
                stop.force_exit_after_grace(finished)
        os.close(read_end)

    previous = {number: signal.signal(number, stop.handle) for number in numbers}
    previous_fd = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        signal.set_wakeup_fd(previous_fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(write_end)
        thread.join()  # a daemon thread that runs while Python exits can abort the process with SIGABRT
