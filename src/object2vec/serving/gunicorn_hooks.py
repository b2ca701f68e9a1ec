"""gunicorn's configuration file: functions that its master calls. The settings are arguments, see `server`."""

from __future__ import annotations

import atexit
import os
import signal
from pathlib import Path
from typing import Any, Final

from object2vec.serving.server import remove_scratch

#: Signals that end a worker.
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def on_starting(server: Any) -> None:  # noqa: ARG001
    """Remove the folder that workers share when the master ends, and deliver signals after each fork."""
    atexit.register(remove_scratch, str(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).parent), os.getpid())
    os.register_at_fork(after_in_parent=_unblock)


def pre_fork(server: Any, worker: Any) -> None:  # noqa: ARG001
    """Delay signals until the worker has handlers; else a stop waits for it until the grace is over."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def post_worker_init(worker: Any) -> None:  # noqa: ARG001
    """Deliver the signals that have come since the fork."""
    _unblock()


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    """Remove a worker's counts of pending requests and connections when it has ended, also when it was killed."""
    from prometheus_client.multiprocess import mark_process_dead

    from object2vec.serving.worker import CONNECTIONS

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
    CONNECTIONS.remove(worker.age)
