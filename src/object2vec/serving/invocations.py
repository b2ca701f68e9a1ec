"""One invocation: its body is read, decoded, answered and encoded. Knows WSGI, and which request may begin at all."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from threading import Semaphore
from typing import Final

from object2vec.errors import (
    OverloadedError,
    PayloadTooLargeError,
    RequestError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
)
from object2vec.serving import negotiation, wire
from object2vec.serving.instances import Answers
from object2vec.serving.negotiation import JSON_LINES
from object2vec.serving.observation import INSTANCES, Environ
from object2vec.serving.predictor import Predictor
from object2vec.serving.replies import Reply
from object2vec.serving.turns import Turns

#: Invocations under way in a process at a time, from the first byte of a body to the reply. It has more threads than
#: these, so that one is left for /ping.
AT_ONCE: Final = 192
#: Seconds without a byte from a client after which it is given up.
SILENCE: Final = 60
PATIENCE: Final = struct.pack("ll", SILENCE, 0)
#: How much of a body that is too long is read, and thrown away.
DRAINED_MB: Final = 1024


class Invocations:
    """The invocations of a process. `most` is the longest body in bytes, None for any; `accept` the type to answer in
    where a request leaves it open, None for the request's own."""

    def __init__(self, *, most: int | None = None, accept: str | None = None) -> None:
        self._most = most
        self._accept = accept
        self._places = Semaphore(AT_ONCE)
        self._turns = Turns()

    def answer(self, environ: Environ, predictor: Callable[[], Predictor]) -> Reply:
        """Answer a request with the model that `predictor` finds.

        Raises:
            Object2VecError: it cannot be answered.
        """
        if not self._places.acquire(blocking=False):
            raise OverloadedError(f"{AT_ONCE} requests are under way in this worker already, send it again later")
        try:
            return self._answer(environ, predictor)
        finally:
            self._places.release()

    def _answer(self, environ: Environ, predictor: Callable[[], Predictor]) -> Reply:
        model = predictor()
        body = read_body(environ, self._most)
        if not body.strip():
            return Reply(204)
        content = negotiation.to_content(environ.get("CONTENT_TYPE"))
        kind = negotiation.to_reply_type(environ.get("HTTP_ACCEPT"), self._accept or content.type)
        instances = wire.decode(body, content)
        environ[INSTANCES] = len(instances)
        wishes = negotiation.to_wishes(environ.get("HTTP_X_AMZN_SAGEMAKER_CUSTOM_ATTRIBUTES", ""))
        question = model.ask(instances, mode=wishes.mode, max_seq_lens=content.max_seq_lens)
        answers = self._turns.answer(question)
        if wishes.digits is not None:
            answers = (part.rounded(wishes.digits) for part in answers)
        if kind == JSON_LINES and question.long:
            return Reply(body=_lines(answers), type=kind)
        return Reply(body=(wire.encode(answers, kind),), type=kind)


def _lines(answers: Iterable[Answers]) -> Iterator[bytes]:
    """Lines that leave as they are ready."""
    between = b""
    for lines in wire.encode_lines(answers):
        yield between + lines
        between = b"\n"


def read_body(environ: Environ, most: int | None) -> bytes:
    """The request's body, however it is sent.

    Raises:
        PayloadTooLargeError: it is longer than `most` bytes.
        RequestTimeoutError: it does not come.
        RequestError: it is not what its headers say.
        UnsupportedMediaTypeError: it is compressed.
    """
    if environ.get("HTTP_CONTENT_ENCODING", "identity") != "identity":
        encoding = environ["HTTP_CONTENT_ENCODING"]
        raise UnsupportedMediaTypeError(f"Content-Encoding {encoding!r} is not supported, wanted none")
    declared = environ.get("CONTENT_LENGTH")
    if declared:
        length = int(declared)
    elif environ.get("wsgi.input_terminated"):  # in chunks
        length = -1
    else:
        return b""
    if most is not None and length > most:
        _drain(environ)
        raise _too_long(most)
    # A limit is not left to what stands in front of us, which may cut a chunked body off there and say nothing.
    body = _read(environ, length if length >= 0 else -1 if most is None else most + 1)
    if most is not None and len(body) > most:
        _drain(environ)
        raise _too_long(most)
    if len(body) < length:
        raise RequestError(f"the body ended after {len(body)} of the {length} bytes that its Content-Length says")
    return body


def _read(environ: Environ, length: int, patience: int = SILENCE) -> bytes:
    connection = environ.get("gunicorn.socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", patience, 0))  # a timeval
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, PATIENCE)
    try:
        body: bytes = environ["wsgi.input"].read(length)
    except BlockingIOError:
        raise RequestTimeoutError(f"no byte of the body came for {SILENCE} s") from None
    except Exception as error:  # whatever the server in front finds wrong with it
        raise RequestError(f"the body cannot be read: {str(error) or type(error).__name__}") from error
    return body


def _drain(environ: Environ) -> None:
    """Read on, so that a client which sends all before it reads anything gets to see why it is refused."""
    with suppress(RequestError):
        for _ in range(DRAINED_MB):
            if not _read(environ, 2**20, patience=1):
                return


def _too_long(most: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"the body is longer than {most} bytes, the most that this server takes")
