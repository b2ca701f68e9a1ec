"""What is sent back: a status, a type and a body; and for every kind of error, which."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson

from object2vec.data.media_types import JSON
from object2vec.errors import Object2VecError

logger = logging.getLogger(__name__)

UNFORESEEN: Final = "the request could not be answered; the reason is in the server's log"
LINES: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Reply:
    """A body in parts, which may still have to be made, and its length where that is known without a tuple."""

    status: int = 200
    body: Iterable[bytes] = ()
    type: str = JSON
    length: int | None = None

    @classmethod
    def of(cls, value: Any, status: int = 200) -> Reply:
        """A reply that is a JSON value."""
        return cls(status, (orjson.dumps(value),))

    @property
    def line(self) -> str:
        """The status line of HTTP."""
        return LINES.get(self.status, str(self.status))

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The headers."""
        fields = []
        length = sum(map(len, self.body)) if isinstance(self.body, tuple) else self.length
        if length is not None:
            fields.append(("Content-Length", str(length)))
        if self.status != 204:
            fields.append(("Content-Type", self.type))
        if self.status == 503:
            fields.append(("Retry-After", "1"))
        return fields


def refusal(error: Exception) -> Reply:
    """What an error is answered with. Of what nobody foresaw the reason stands in the log alone."""
    if not isinstance(error, Object2VecError):
        logger.error("%s", UNFORESEEN, exc_info=error)
        return refused(500, "InternalServerError", UNFORESEEN)
    if error.http_status == 500:
        logger.error("%s", error, exc_info=error)
    return refused(error.http_status, error.reply_type or type(error).__name__, str(error))


def refused(status: int, kind: str, message: str) -> Reply:
    """The one shape of everything that is not answered as it was asked."""
    return Reply.of({"code": status, "type": kind, "message": message}, status)
