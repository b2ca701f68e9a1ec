"""Run work in a child process, and report why if the system kills the child."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Final, Never

#: Linux's request to get a signal when the parent has ended (`man 2 prctl`).
PR_SET_PDEATHSIG: Final = 1


def run_supervised(work: Callable[[], None], failed: Callable[[int], None]) -> Never:
    """Run `work` in a child process, forward SIGTERM to it, and exit with its status.

    If the child fails, `failed` is called first with its status, or with the negative number of the signal that killed
    it. After a signal this process exits with 128 plus its number, as a shell does. If this process is killed, the
    kernel kills the child. Between the end of the work and its exit, this process ignores signals.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until either side knows what to do with it
    child = multiprocessing.get_context("fork").Process(target=_run, args=(work, os.getpid()))
    child.start()
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    child.join()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # there is no child to forward it to
    code = child.exitcode or 0
    if code:
        failed(code)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code if code >= 0 else 128 - code)


def _run(work: Callable[[], None], parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before the request
        sys.exit(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    work()
