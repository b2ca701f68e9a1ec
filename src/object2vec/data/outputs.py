"""Write an output of the command: standard output, a device, or a file that is complete or missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO

from object2vec.atomic_files import parent_folders
from object2vec.data.files import local_path
from object2vec.errors import UserError


@contextmanager
def writing(name: str, option: str = "--output") -> Iterator[IO[bytes]]:
    """Open standard output, a device or a pipe; or a file that replaces the named one when it is complete.

    Missing folders are made.
    """
    argument = f"{option} {name}"
    if name == "-":
        if not sys.stdout:
            raise UserError(f"{argument}: standard output is closed")
        yield sys.stdout.buffer
        with os_errors_as_user_errors(argument):
            sys.stdout.buffer.flush()
        return
    path = local_path(name, output=True)
    special = path.exists() and not path.is_file() and not path.is_dir()  # a device or a pipe must not become a file
    path = path if special else path.resolve()  # a link stays
    written = path if special else path.with_name(f".{path.name}.part")
    with ExitStack() as folders:
        with os_errors_as_user_errors(argument):
            folders.enter_context(parent_folders(path))
            file = written.open("wb")
        try:
            yield file
            with os_errors_as_user_errors(argument):
                file.close()
                if not special:
                    written.replace(path)
        finally:
            with suppress(OSError):  # which an error before this one has caused
                file.close()
            if not special:
                written.unlink(missing_ok=True)


@contextmanager
def os_errors_as_user_errors(argument: str) -> Iterator[None]:
    """Raise a UserError that names an argument of the command for each OSError within."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"{argument}: {error.strerror}") from error
