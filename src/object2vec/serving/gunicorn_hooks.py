"""gunicorn's configuration file: functions that its master calls. The settings are arguments, see `server`."""

from __future__ import annotations

import atexit
import os
from pathlib import Path
from typing import Any

from object2vec.serving.server import remove_scratch


def on_starting(server: Any) -> None:  # noqa: ARG001
    """Remove the folder that workers share when the master ends."""
    atexit.register(remove_scratch, str(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).parent), os.getpid())


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    """Remove a worker's count of pending requests when it has ended, also when it was killed."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
