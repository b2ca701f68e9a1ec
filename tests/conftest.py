"""Settings of all tests: the same examples in each run, one thread, and no waiting for the disk."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Use the same examples in each run, one thread, and files that need not survive a power failure.

    The controller of xdist does not need torch or hypothesis, whose import takes seconds.
    """
    if config.getoption("numprocesses", None):
        return
    from hypothesis import settings

    from object2vec.threads import bounded_spinning

    with bounded_spinning():  # as in a job; the waiting threads of one worker would take the core of the other
        import torch

    settings.register_profile("repeatable", max_examples=30, derandomize=True, deadline=None, database=None)
    settings.load_profile("repeatable")
    torch.set_num_threads(1)
    os.fsync = lambda _: None


def pytest_collection_finish() -> None:
    """Leave the objects of imported modules to the end. The collector would scan them again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture(autouse=True)
def package_logger() -> Iterator[logging.Logger]:
    """Set the package's logger to the level of a job, and restore it after the test."""
    logger = logging.getLogger("object2vec")
    before = logger.level, logger.propagate, list(logger.handlers)
    logger.setLevel(logging.INFO)
    yield logger
    logger.level, logger.propagate, logger.handlers[:] = before
