"""Long replies, encoded before the first byte leaves: their length is known, and an error still has a status.

Up to `MAX_MEMORY_BYTES` are kept in memory. Longer replies go to a temporary file without a name, which is closed
after the reply. On a disk its pages are cache that the system can take back. Where the folder of temporary files is in
memory (tmpfs), the bytes are reserved as the bytes of request bodies are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from object2vec.errors import OverloadedError
from object2vec.resources import is_in_memory
from object2vec.serving.memory_budget import MemoryBudget
from object2vec.serving.responses import StreamedBody, WholeBody

#: Bytes of a reply that are kept in memory; of a longer one also those that are not yet reserved.
MAX_MEMORY_BYTES: Final = 2**20
#: Bytes that are read from the file at a time.
BLOCK_BYTES: Final = 2**18


def spool(
    parts: Iterable[bytes], memory: MemoryBudget, cleanup: list[Callable[[], object]]
) -> WholeBody | StreamedBody:
    """Store a body, in memory if it is short, else in a file. Add what the end of the reply frees to `cleanup`.

    Raises:
        OverloadedError: there is no space for it.
    """
    length = reserved = 0
    file = tempfile.SpooledTemporaryFile(max_size=MAX_MEMORY_BYTES)  # noqa: SIM115 -- `cleanup` closes it
    reservation = memory.reserve()
    cleanup += file.close, reservation.release
    for part in parts:
        length += len(part)
        try:
            if length - reserved > MAX_MEMORY_BYTES:
                if is_in_memory(tempfile.gettempdir()):
                    reservation.add(length - reserved, 1)
                reserved = length
            file.write(part)
        except OSError as error:
            raise OverloadedError(
                f"a reply of more than {length} bytes cannot be stored in {tempfile.tempdir or 'a temporary folder'}"
                f" ({error.strerror}), wanted fewer instances, or object2vec-stream=1 to send it in parts"
            ) from error
    file.seek(0)
    if length <= MAX_MEMORY_BYTES:
        return WholeBody(file.read())
    return StreamedBody(iter(partial(file.read, BLOCK_BYTES), b""), length)
