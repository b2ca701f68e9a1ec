"""Long replies are stored before they are sent: in memory, in a file, or refused where there is no space."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from object2vec.errors import OverloadedError
from object2vec.serving import spool as module
from object2vec.serving.memory_budget import MemoryBudget
from object2vec.serving.responses import WholeBody
from object2vec.serving.spool import BLOCK_BYTES, MAX_MEMORY_BYTES, spool

MB = 2**20


@contextmanager
def request() -> Iterator[list[Callable[[], object]]]:
    """Return an empty cleanup list, and run it at the end."""
    cleanup: list[Callable[[], object]] = []
    try:
        yield cleanup
    finally:
        for function in cleanup:
            function()


def parts(count: int) -> Iterator[bytes]:
    """So many megabytes."""
    return (bytes([number % 256]) * MB for number in range(count))


@pytest.mark.parametrize("number", [0, 1])
def test_a_short_body_stays_in_memory(number: int) -> None:
    with request() as held:
        assert spool(parts(number), MemoryBudget(), held) == WholeBody(bytes(number * MAX_MEMORY_BYTES))


def test_a_long_body_goes_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back in blocks; no memory is reserved for it, and the file is closed with what it is held by."""
    monkeypatch.setattr(module, "is_in_memory", lambda folder: False)
    memory = MemoryBudget(5 * MB)
    with request() as held:
        body = spool(parts(20), memory, held)
        assert memory._left == memory.size
        blocks = list(body)
    assert body.length == 20 * MB
    assert max(map(len, blocks)) == BLOCK_BYTES
    assert b"".join(blocks) == b"".join(parts(20))


def test_a_file_is_closed_with_what_holds_it() -> None:
    with request() as held:
        body = spool(parts(2), MemoryBudget(), held)
    with pytest.raises(ValueError, match="closed file"):
        next(iter(body))


def test_files_in_memory_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a tmpfs a reply takes the memory that bodies have, and is refused where it does not fit."""
    monkeypatch.setattr(module, "is_in_memory", lambda folder: folder == tempfile.gettempdir())
    memory = MemoryBudget(10 * MB)
    with request() as held:
        length = spool(parts(8), memory, held).length
        assert length == 8 * MB
        assert memory.size - memory._left >= length - MAX_MEMORY_BYTES
        with request() as other, pytest.raises(OverloadedError, match="no memory for"):
            spool(parts(8), memory, other)
        assert memory.size - memory._left >= length - MAX_MEMORY_BYTES
    assert memory._left == memory.size


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says where and what to do, and nothing is held."""

    class Full(tempfile.SpooledTemporaryFile):  # type: ignore[type-arg]
        def rollover(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", Full)
    with request() as held, pytest.raises(OverloadedError) as raised:
        spool(parts(2), MemoryBudget(), held)
    assert str(raised.value) == (
        f"a reply of more than {2 * MB} bytes cannot be stored in {tempfile.gettempdir()} (No space left on device),"
        " wanted fewer instances, or object2vec-stream=1 to send it in parts"
    )
