"""Every error that object2vec raises on purpose, and whose fault each one is.

    Object2VecError
    ├── UserError                 what the caller gave cannot be used
    │   ├── HyperparameterError   a configuration: every fault of it, one a line
    │   ├── DataError             a channel, a file or a line of one
    │   ├── ArtifactError         a model directory
    │   └── RequestError          an HTTP request
    │       ├── ModelExistsError
    │       ├── ModelNotFoundError
    │       ├── NotAcceptableError
    │       ├── PayloadTooLargeError
    │       ├── RequestTimeoutError
    │       └── UnsupportedMediaTypeError
    ├── AlgorithmError            what was given is fine, and the work failed all the same
    ├── NoRoomError               a model for which there is no memory
    └── OverloadedError           more requests than can be answered in time

The class decides the exit status of a command and the status of an HTTP reply; nothing else does.
A message is one sentence that says what was got, where, and what was wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar


def printable(text: str) -> str:
    """Text as one line that any log and any encoding can hold: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, most: int = 40) -> str:
    """The beginning of a text that a sentence quotes."""
    return text if len(text) <= most else text[:most] + "…"


class Object2VecError(Exception):
    """The root of the tree; never raised itself."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    #: The word for it in a reply's `type`, the class's name where it is empty.
    reply_type: ClassVar[str] = ""
    #: What the platform shows before the sentence (the built-in's own convention).
    family: ClassVar[str] = "AlgorithmError"

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


class AlgorithmError(Object2VecError):
    """The input is valid and the work failed: a loss that is not finite, say."""


class NoRoomError(Object2VecError):
    """A model for which there is no memory; the platform unloads another and tries again."""

    http_status = 507


class OverloadedError(Object2VecError):
    """More requests than can be answered in time; to be sent again later."""

    http_status = 503


class UserError(Object2VecError):
    """What the caller gave cannot be used; trying again without a change is of no use."""

    exit_code = 2
    http_status = 400
    family = "ClientError"


class HyperparameterError(UserError):
    """Every fault of one configuration, together."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(map(printable, faults))
        Exception.__init__(self, "\n".join(self.faults))


class DataError(UserError):
    """A channel, a file, or one line of a file that cannot be read as pairs."""

    @classmethod
    def at(cls, path: Path, line: int, what: str) -> DataError:
        """The fault `what` in `line` (counted from 1) of the file `path`."""
        return cls(f"{path}, line {line}: {what}")


class ArtifactError(UserError):
    """A model directory that cannot be loaded; a server that meets one cannot answer at all."""

    http_status = 500


class RequestError(UserError):
    """A request whose body cannot be answered; the message names the instance."""


# The next two bear the words of multi-model-server, for which the platform's clients look.


class ModelExistsError(RequestError):
    """A model to be loaded under the name of one that is."""

    http_status = 409
    reply_type = "ConflictStatusException"


class ModelNotFoundError(RequestError):
    """A model that is not loaded."""

    http_status = 404
    reply_type = "ModelNotFoundException"


class NotAcceptableError(RequestError):
    """None of the reply types that the request accepts is one that can be sent."""

    http_status = 406


class PayloadTooLargeError(RequestError):
    """A request body above the limit."""

    http_status = 413


class RequestTimeoutError(RequestError):
    """A request whose body did not come."""

    http_status = 408


class UnsupportedMediaTypeError(RequestError):
    """A request body in a format that is not read."""

    http_status = 415
