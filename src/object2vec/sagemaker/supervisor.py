"""Run work in a child process, and report why if the system kills the child."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Never

#: Linux's request to get a signal when the parent has ended (`man 2 prctl`).
PR_SET_PDEATHSIG: Final = 1


def run_supervised(work: Callable[[], None], failed: Callable[[int], None]) -> Never:
    """Run `work` in a child process, forward SIGTERM to it, and exit with its status.

    If the child fails, `failed` is called first with its status, or with the negative number of the signal that killed
    it. After a signal this process exits with 128 plus its number, as a shell does. If this process is killed, the
    kernel kills the child. Between the end of their work and their exit, both ignore signals.
    """
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until either side knows what to do with it
    parent, child = os.getpid(), os.fork()
    if not child:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        _end(_status_of(work))

    def hand_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(child, number)

    signal.signal(signal.SIGTERM, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # there is nobody to hand it to
    if code:
        failed(code)
    _end(code if code >= 0 else 128 - code)


def _status_of(work: Callable[[], None]) -> int:
    """Run `work` and return the exit status that Python would have."""
    try:
        work()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end(status: int) -> Never:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)
