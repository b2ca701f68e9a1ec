"""Replies: a status, a type and a body. Each kind of error has one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson

from object2vec.data.media_types import JSON
from object2vec.errors import Object2VecError

logger = logging.getLogger(__name__)

UNEXPECTED_ERROR: Final = "the request could not be answered; the reason is in the server's log"
STATUS_LINES: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class WholeBody:
    """A body that is complete before the status is sent."""

    content: bytes = b""

    @property
    def length(self) -> int:
        """Return the number of bytes."""
        return len(self.content)

    def __iter__(self) -> Iterator[bytes]:
        return iter((self.content,) if self.content else ())


@dataclass(frozen=True, slots=True)
class StreamedBody:
    """A body that is sent in parts; WSGI calls `close` at its end. `length` is None where it is not yet known."""

    parts: Iterable[bytes]
    length: int | None = None
    close: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.parts)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply to one request."""

    status: int = 200
    body: WholeBody | StreamedBody = WholeBody()
    type: str = JSON

    @property
    def status_line(self) -> str:
        """Return the status line of HTTP."""
        return STATUS_LINES.get(self.status, str(self.status))

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Return the headers."""
        headers = []
        if self.body.length is not None:
            headers.append(("Content-Length", str(self.body.length)))
        if self.status != 204:
            headers.append(("Content-Type", self.type))
        if self.status == 503:
            headers.append(("Retry-After", "1"))
        return headers


def json_reply(value: Any, status: int = 200) -> Reply:
    """Return a reply whose body is a JSON value."""
    return Reply(status, WholeBody(orjson.dumps(value)))


def error_response(error: Exception) -> Reply:
    """Return the reply to a request that failed. The cause of an unexpected error is only in the log."""
    if not isinstance(error, Object2VecError):
        logger.error("%s", UNEXPECTED_ERROR, exc_info=error)
        return error_reply(500, "InternalServerError", UNEXPECTED_ERROR)
    if error.http_status == 500:
        logger.error("%s", error, exc_info=error)
    return error_reply(error.http_status, error.reply_type or type(error).__name__, str(error))


def error_reply(status: int, kind: str, message: str) -> Reply:
    """Return a reply with the body that all errors have."""
    return json_reply({"code": status, "type": kind, "message": message}, status)
