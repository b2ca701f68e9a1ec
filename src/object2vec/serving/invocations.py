"""One invocation: read, decode, answer and encode. Limits the number of invocations in progress."""

from __future__ import annotations

import sys
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from io import BytesIO
from itertools import chain
from typing import Final

from object2vec.data.media_types import canonical
from object2vec.errors import (
    NotAcceptableError,
    OverloadedError,
    PayloadTooLargeError,
    RequestError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
)
from object2vec.schema.schema import Schema
from object2vec.serving import codec, headers
from object2vec.serving.batching import MicroBatcher
from object2vec.serving.deadlines import (
    DEADLINES,
    DRAIN_IDLE_SECONDS,
    IDLE_SECONDS,
    MIN_BYTES_PER_SECOND,
    Deadlines,
    Transfer,
    set_idle_timeout,
)
from object2vec.serving.headers import NPY, Content
from object2vec.serving.instances import Instances, count_warnings
from object2vec.serving.memory_budget import COLUMN_BYTES, OBJECT_BYTES, MemoryBudget
from object2vec.serving.predictor import Predictor
from object2vec.serving.raw_values import unknown_value
from object2vec.serving.responses import Reply, StreamedBody, WholeBody
from object2vec.serving.spool import spool
from object2vec.serving.telemetry import INSTANCES, WARNINGS, Environ

#: Invocations in progress in a process, from the first byte of the body to the end of the reply. The process has more
#: threads, so that /ping always gets one.
MAX_INVOCATIONS: Final = 192
#: Bytes that are read at a time. A client at the least rate sends them in less than the time that any message gets.
READ_BYTES: Final = 2**17
#: How much of a body that is too long is read and discarded.
MAX_DRAINED_BYTES: Final = 2**30

#: Functions that end a request.
Cleanup = list[Callable[[], object]]
#: A function that is called with a number of bytes before they are read into memory.
Reserve = Callable[[int], object]


class Invocations:
    """The invocations of a process.

    `max_bytes` limits a body; None is no limit. `accept` is the reply type where a request names none; None is the
    request's own type. `memory` is the budget of all bodies.
    """

    def __init__(
        self, *, max_bytes: int | None = None, accept: str | None = None, memory: MemoryBudget | None = None
    ) -> None:
        self._memory = memory or MemoryBudget()
        limit = self._memory.size // COLUMN_BYTES
        self._max_bytes = limit if max_bytes is None else min(max_bytes, limit)
        self._advice = (
            f"; raise SAGEMAKER_MAX_PAYLOAD_IN_MB, which is {self._max_bytes / 2**20:g}"
            if self._max_bytes == max_bytes
            else "; it has no memory for more"
        )
        self._accept = accept
        self._slots = deque([None] * MAX_INVOCATIONS)  # each is taken by one thread, without a lock
        self._batcher = MicroBatcher()

    def answer(self, environ: Environ, predictor: Callable[[], Predictor]) -> Reply:
        """Answer a request with the model that `predictor` finds.

        Raises:
            Object2VecError: it cannot be answered.
        """
        try:
            slot = self._slots.pop()
        except IndexError:
            raise OverloadedError(
                f"{MAX_INVOCATIONS} requests are under way in this worker already, send it again later"
            ) from None
        cleanup: Cleanup = [partial(self._slots.append, slot)]
        try:
            reply = self._answer(environ, predictor, cleanup)
        except BaseException:
            _run(cleanup)
            raise
        if isinstance(reply.body, StreamedBody):
            return replace(reply, body=replace(reply.body, close=partial(_run, cleanup)))
        _run(cleanup)
        return reply

    def _answer(self, environ: Environ, predictor: Callable[[], Predictor], cleanup: Cleanup) -> Reply:
        """Answer a request; the caller runs `cleanup` when the reply is sent."""
        model = predictor()
        memory = self._memory.reserve()
        cleanup.append(memory.release)
        try:
            body = read_body(environ, self._max_bytes, memory.add).removeprefix(BOM_UTF8)
        except PayloadTooLargeError as error:
            raise PayloadTooLargeError(f"{error}{self._advice}") from None
        if not body or body.isspace():
            return Reply(204)
        content = codec.identify(body, headers.to_content(environ.get("CONTENT_TYPE")))
        name = headers.to_reply_type(environ.get("HTTP_ACCEPT"), self._accept or content.reply_name)
        kind = canonical(name)
        options = headers.to_options(environ.get("HTTP_X_AMZN_SAGEMAKER_CUSTOM_ATTRIBUTES", ""))
        if options.warnings and kind == NPY:
            raise NotAcceptableError(f"object2vec-warnings=1 and {NPY} do not go together, wanted another Accept")
        instances = self._decode(body, content, model.schema, keep_raw=options.top_k is not None)
        if instances.raw is not dict:
            memory.add(len(body), OBJECT_BYTES)
        environ[INSTANCES] = len(instances)
        query = model.prepare(
            instances,
            mode=options.mode,
            max_seq_lens=content.max_seq_lens,
            top_k=options.top_k,
            neighbors=options.neighbors,
        )
        if options.strict:
            _refuse_unknown(instances)
        if query.warnings:
            environ[WARNINGS] = count_warnings(query.warnings)
        if kind == NPY:
            codec.check_one_array(instances, scored=query.scored)
        answers = self._batcher.answer(query)
        if options.digits is not None:
            answers = (part.rounded(options.digits) for part in answers)
        encoded = codec.encode(answers, kind, query.count, query.warnings if options.warnings else instances.warnings)
        if not query.is_long:
            return Reply(body=WholeBody(b"".join(encoded)), type=name)
        if options.stream:
            first = next(encoded)  # before the status is sent, so that an early error has its own status
            return Reply(body=StreamedBody(chain((first,), encoded)), type=name)
        spooled = spool(encoded, self._memory, cleanup)
        memory.release()  # not only when the client has read the reply
        return Reply(body=spooled, type=name)

    def _decode(self, body: bytes, content: Content, schema: Schema | None, *, keep_raw: bool) -> Instances:
        if not (schema and codec.is_raw(body)) and (instances := codec.decode_plain(body, content)) is not None:
            return instances
        max_bytes = self._memory.size // (COLUMN_BYTES + OBJECT_BYTES)
        if len(body) > max_bytes:
            raise PayloadTooLargeError(
                f"the body is longer than {max_bytes} bytes, the most that there is memory for where instances are"
                " more than in0 and in1, lists of integers, in UTF-8"
            )
        with self._memory.reserve(len(body), OBJECT_BYTES):
            if schema and (instances := codec.decode_plain(body, content, schema=schema)) is not None:
                return instances
            instances = codec.decode_any(body, content, schema=schema)
        return instances if keep_raw or instances.asked else replace(instances, raw=dict)  # without the objects


def _run(cleanup: Cleanup) -> None:
    """Call the functions, the last one first. `ExitStack` does the same, and takes longer than many a request."""
    while cleanup:
        cleanup.pop()()


def read_body(
    environ: Environ, max_bytes: int, reserve: Reserve = lambda _: None, deadlines: Deadlines = DEADLINES
) -> bytes:
    """Return the request's body.

    Raises:
        PayloadTooLargeError: it is longer than `max_bytes` bytes.
        OverloadedError: `reserve` has no memory for it.
        RequestTimeoutError: it does not come in time.
        RequestError: it is not what its headers say.
        UnsupportedMediaTypeError: it is compressed.
    """
    if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        encoding = environ["HTTP_CONTENT_ENCODING"]
        raise UnsupportedMediaTypeError(f"Content-Encoding {encoding!r} is not supported, wanted none")
    with deadlines.watch(environ.get("gunicorn.socket")) as transfer:
        try:
            declared = environ.get("CONTENT_LENGTH")
            if declared:
                return _read_length(environ, int(declared), max_bytes, reserve, transfer)
            return _read_chunks(environ, max_bytes, reserve, transfer) if environ.get("wsgi.input_terminated") else b""
        except (PayloadTooLargeError, OverloadedError):
            _drain(environ, transfer)
            raise
        except RequestError:
            if not transfer.expired:
                raise
            seconds = deadlines.clock() - transfer.started
            raise RequestTimeoutError(
                f"the body was not complete after {seconds:.0f} s, wanted at least {MIN_BYTES_PER_SECOND} bytes per "
                f"second after the first {deadlines.grace_seconds:g} s"
            ) from None


def _read_length(environ: Environ, length: int, max_bytes: int, reserve: Reserve, transfer: Transfer) -> bytes:
    if length > max_bytes:
        raise _too_long(max_bytes)
    reserve(length)
    if length <= READ_BYTES:
        body = _read(environ, length)
    else:
        buffer = BytesIO()
        buffer.writelines(_read_parts(environ, length, transfer))
        body = buffer.getvalue()
    if len(body) < length:
        raise RequestError(f"the body ended after {len(body)} of the {length} bytes that its Content-Length says")
    return body


def _read_chunks(environ: Environ, max_bytes: int, reserve: Reserve, transfer: Transfer) -> bytes:
    # A proxy may cut a chunked body off at its limit without an error, so the limit is enforced here.
    buffer = BytesIO()
    for part in _read_parts(environ, sys.maxsize, transfer):
        if transfer.received > max_bytes:
            raise _too_long(max_bytes)
        reserve(len(part))
        buffer.write(part)
    return buffer.getvalue()


def _read_parts(environ: Environ, length: int, transfer: Transfer) -> Iterator[bytes]:
    while transfer.received < length and (part := _read(environ, min(READ_BYTES, length - transfer.received))):
        transfer.received += len(part)
        yield part


def _read(environ: Environ, length: int) -> bytes:
    try:
        body: bytes = environ["wsgi.input"].read(length)
    except BlockingIOError:
        raise RequestTimeoutError(f"no byte of the body came for {IDLE_SECONDS} s") from None
    except Exception as error:  # any fault that gunicorn finds in it
        raise RequestError(f"the body cannot be read: {str(error) or type(error).__name__}") from error
    return body


def _drain(environ: Environ, transfer: Transfer) -> None:
    # A client that sends all before it reads anything gets to see why it is refused.
    connection = environ.get("gunicorn.socket")
    set_idle_timeout(connection, DRAIN_IDLE_SECONDS)
    with suppress(RequestError):
        deque(_read_parts(environ, MAX_DRAINED_BYTES, transfer), maxlen=0)
    set_idle_timeout(connection)


def _too_long(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"the body is longer than {max_bytes} bytes, the most that this server takes")


def _refuse_unknown(instances: Instances) -> None:
    if found := unknown_value(instances.warnings):
        row, side, column = found
        raise RequestError(f"{instances.name(row)}: {side} has an unknown {column}, and object2vec-strict is 1")
