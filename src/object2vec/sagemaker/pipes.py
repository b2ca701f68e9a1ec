"""Channels in Pipe mode: the platform writes a channel's files one after the other into the named pipe `<channel>_0`.

A channel is read once, into arrays for all epochs. For a second epoch, the platform would write it to `<channel>_1`;
that pipe is never opened, so nothing is sent.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from object2vec.data.files import PIPE_IDLE_SECONDS, open_pipe
from object2vec.errors import AlgorithmError, DataError
from object2vec.sagemaker.environment import TrainingEnvironment


@contextmanager
def open_channels(environment: TrainingEnvironment, *, readers: int) -> Iterator[Mapping[str, Path]]:
    """Yield the channels as readable paths. A pipe can be read once, so several processes get a file instead.

    Raises:
        DataError: a pipe has not appeared in time, or nobody writes into it.
        AlgorithmError: the disk has no room for such a file.
    """
    pipes = {name: environment.channels[name] for name in sorted(environment.pipes)}
    for path in pipes.values():
        _await(path)
    if readers == 1:
        yield environment.channels
        return
    with tempfile.TemporaryDirectory(prefix="object2vec-") as folder:
        copies = {name: _copy(path, Path(folder) / path.name) for name, path in pipes.items()}
        yield {**environment.channels, **copies}


def _await(path: Path) -> None:
    """Wait until a pipe is there; the platform may make it a little later."""
    end = time.monotonic() + PIPE_IDLE_SECONDS
    while not path.exists():
        if time.monotonic() > end:
            what = f"no such pipe after {PIPE_IDLE_SECONDS:g} s"
            raise DataError(f"{path}: {what}, wanted one for a channel in Pipe mode")
        time.sleep(0.05)


def _copy(pipe: Path, file: Path) -> Path:
    try:
        with open_pipe(pipe) as source, file.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
    except TimeoutError as error:
        raise DataError(f"{pipe}: {error}") from error
    except OSError as error:
        raise AlgorithmError(f"{file}: {error.strerror}, where {pipe} goes for several processes to read") from error
    return file
