"""The errors that object2vec raises, and who has to act on each.

    Object2VecError
    ├── UserError                 the input of the caller is not valid
    │   ├── HyperparameterError   a configuration: all its errors, one per line
    │   ├── DataError             a channel, a file, or a line of a file
    │   ├── RawValueError         a raw value, or a column of a table
    │   ├── ArtifactError         a model directory
    │   └── RequestError          an HTTP request
    │       ├── ModelExistsError
    │       ├── ModelNotFoundError
    │       ├── NotAcceptableError
    │       ├── PayloadTooLargeError
    │       ├── RequestTimeoutError
    │       └── UnsupportedMediaTypeError
    ├── AlgorithmError            the input is valid, and the work failed
    ├── NoRoomError               not enough memory for a model
    └── OverloadedError           too many requests to answer in time

Only the class decides the exit status of a command and the status of an HTTP reply.
A message is one sentence. It says where the error is, what was got and what was wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar


def printable(text: str) -> str:
    """Return text as one printable line: other characters are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, max_length: int = 40) -> str:
    """Return the beginning of a text, to quote it in a message."""
    return text if len(text) <= max_length else text[:max_length] + "…"


class Object2VecError(Exception):
    """The base class of all errors; never raised itself."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    #: The `type` of an HTTP reply; empty for the name of the class.
    reply_type: ClassVar[str] = ""
    #: The prefix that the platform shows before the message, as in the built-in.
    family: ClassVar[str] = "AlgorithmError"

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


class AlgorithmError(Object2VecError):
    """The input is valid and the work failed, for example because the loss is not finite."""


class NoRoomError(Object2VecError):
    """Not enough memory for a model; the platform unloads another model and tries again."""

    http_status = 507


class OverloadedError(Object2VecError):
    """Too many requests to answer in time; the client should try again later."""

    http_status = 503


class UserError(Object2VecError):
    """The input is not valid; trying again without a change fails again."""

    exit_code = 2
    http_status = 400
    family = "ClientError"


class HyperparameterError(UserError):
    """All errors of one configuration."""

    def __init__(self, errors: Sequence[str]) -> None:
        self.errors = tuple(map(printable, errors))
        Exception.__init__(self, "\n".join(self.errors))


class DataError(UserError):
    """A channel, a file, or a line of a file that cannot be read as pairs."""

    @classmethod
    def at(cls, path: Path, line: int, what: str) -> DataError:
        """Return an error about `line` (counted from 1) of the file `path`."""
        return cls(f"{path}, line {line}: {what}")


class RawValueError(UserError):
    """A raw value that is not of its column's kind, or a column that is missing."""


@contextmanager
def located(place: str) -> Iterator[None]:
    """Put a place, such as a file, before the message of an error about data that does not begin with it."""
    try:
        yield
    except (DataError, RawValueError, RequestError) as error:
        if str(error).startswith(place):
            raise
        raise type(error)(f"{place}: {error}") from error


class ArtifactError(UserError):
    """A model directory that cannot be loaded; a server cannot answer without it."""

    http_status = 500


class RequestError(UserError):
    """A request whose body cannot be answered; the message names the instance."""


# The next two use the type names of multi-model-server, which clients of the platform check.


class ModelExistsError(RequestError):
    """A model of this name is already loaded."""

    http_status = 409
    reply_type = "ConflictStatusException"


class ModelNotFoundError(RequestError):
    """A model of this name is not loaded."""

    http_status = 404
    reply_type = "ModelNotFoundException"


class NotAcceptableError(RequestError):
    """The request accepts none of the reply types that the server can send."""

    http_status = 406


class PayloadTooLargeError(RequestError):
    """A request body larger than the limit."""

    http_status = 413


class RequestTimeoutError(RequestError):
    """A request whose body did not arrive in time."""

    http_status = 408


class UnsupportedMediaTypeError(RequestError):
    """A request body in a format that is not supported."""

    http_status = 415
