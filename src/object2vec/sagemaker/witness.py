"""A process that stays behind while its child does the work, and says why if the system kills that one."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

#: Linux's request to get a signal when the parent has ended (`man 2 prctl`).
PR_SET_PDEATHSIG: Final = 1


def stay_behind(failed: Callable[[int], None]) -> None:
    """Return in a child of this process. The process itself waits for it, hands SIGTERM on, and exits as it does.

    Where the child has failed, `failed` is called before with its status, or the number of the signal that ended it as
    a negative one; the process then exits with 128 and that number, as a shell says it. A child whose parent is killed
    is killed too.
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
        return
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # there is nobody to hand it to
    if code:
        failed(code)
    sys.exit(code if code >= 0 else 128 - code)
