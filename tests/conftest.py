"""What holds for every test: the same examples at each run, and no more threads than a small computer has."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Not in a process that only hands tests to others: it needs neither torch nor hypothesis, which take seconds."""
    if config.getoption("numprocesses", None):
        return
    import torch
    from hypothesis import settings

    settings.register_profile("repeatable", max_examples=30, derandomize=True, deadline=None, database=None)
    settings.load_profile("repeatable")
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def package_logger() -> Iterator[logging.Logger]:
    """The package's logger, listened to at the level that a job prints, and as it was again after the test."""
    logger = logging.getLogger("object2vec")
    before = logger.level, logger.propagate, list(logger.handlers)
    logger.setLevel(logging.INFO)
    yield logger
    logger.level, logger.propagate, logger.handlers[:] = before
