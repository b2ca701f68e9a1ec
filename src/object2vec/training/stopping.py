"""The wish that a job ends before its time, and what comes of it where a step takes too long to be waited for."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

#: Seconds from the wish that a job has to end by itself. Containers are given 10 where nobody says otherwise.
PATIENCE: Final = 8.0


class Stop:
    """Whether a job is to end: it is asked at each batch.

    `last_resort` writes the model when there is no time to wait for the batch; it is there from the moment on that
    there is a model. `job.Writer` says what can be promised of a model that is written while a step runs.
    """

    def __init__(self) -> None:
        self._wished = threading.Event()
        self.last_resort: Callable[[], None] | None = None

    def __call__(self) -> bool:
        return self._wished.is_set()

    def wish(self) -> None:
        """Let the job end; wishing so again changes nothing."""
        self._wished.set()

    def enforce(self, over: threading.Event) -> None:
        """End the process with status 0 if its job is not `over` in time, after `last_resort`, once there is one."""
        if over.wait(PATIENCE):
            return
        while self.last_resort is None:
            if over.wait(0.1):
                return
        try:
            self.last_resort()
        except BaseException:
            logger.exception("The model could not be written")
            os._exit(1)
        os._exit(0)
