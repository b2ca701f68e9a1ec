"""The server's HTTP surface: routes, and what each kind of error is answered with.

Everything it needs arrives as an argument. What a body says is the business of `wire`, its answer that of `predictor`.
"""

from __future__ import annotations

import logging
import re
from functools import partial
from threading import Lock
from typing import Final

import orjson
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound

from object2vec.errors import Object2VecError, PayloadTooLargeError
from object2vec.serving import wire
from object2vec.serving.instances import Mode, to_mode
from object2vec.serving.predictor import Predictor

logger = logging.getLogger(__name__)

ATTRIBUTES: Final = "X-Amzn-SageMaker-Custom-Attributes"
# Batch transform: the platform allows MaxConcurrentTransforms × MaxPayloadInMB up to 100, and sends 6 MB by default.
MOST_IN_FLIGHT_MB: Final = 100
PAYLOAD_MB: Final = 6
#: How much of a body that is too long is read, and thrown away.
DRAINED_MB: Final = 1024


def create_app(
    predictor: Predictor, *, max_payload: int | None = None, concurrency: int = 1, accept: str | None = None
) -> Flask:
    """The application that answers with `predictor`.

    `max_payload` is in bytes, and None for no limit; `concurrency` is how many requests can be worked on at a time;
    `accept` is the type to answer in where a request leaves it open, and None for the request's own.
    """
    app = Flask(__name__, static_folder=None)
    invoke = partial(_invoke, predictor, Lock(), max_payload, accept)
    app.add_url_rule("/ping", "ping", _ping, methods=["GET", "POST"])
    app.add_url_rule("/invocations", "invocations", invoke, methods=["POST"])
    app.add_url_rule("/execution-parameters", "parameters", partial(_parameters, concurrency))
    app.register_error_handler(Object2VecError, _refuse)
    app.register_error_handler(HTTPException, _refuse_http)
    return app


def _ping() -> Response:
    """Healthy: a process that answers at all has its model loaded."""
    return Response(mimetype=wire.JSON)


def _invoke(predictor: Predictor, turn: Lock, max_payload: int | None, accept: str | None) -> Response:
    """Answer a request; one at a time in this process, since several would only fight for its CPU, and with /ping."""
    body = _read_body(max_payload)
    if not body.strip():
        return Response(status=204)
    with turn:
        return _answer(predictor, body, accept)


def _read_body(most: int | None) -> bytes:
    """The request's body, however it is sent.

    Raises:
        PayloadTooLargeError: it is longer than `most` bytes.
    """
    if most is None:
        return request.stream.read()
    # Not by Flask's MAX_CONTENT_LENGTH, which cuts a chunked body off at the limit and says nothing.
    declared = request.content_length or 0
    body = b"" if declared > most else request.stream.read(most + 1)
    if max(declared, len(body)) > most:
        _drain()
        raise PayloadTooLargeError(f"the body is longer than {most} bytes, the most that this server takes")
    return body


def _drain() -> None:
    """Read on, so that a client which sends all before it reads anything gets to see why it is refused."""
    for _ in range(DRAINED_MB):
        if not request.stream.read(2**20):
            return


def _answer(predictor: Predictor, body: bytes, accept: str | None) -> Response:
    content = wire.to_content(request.headers.get("Content-Type"))
    kind = wire.to_reply_type(request.headers.get("Accept"), accept or content.type)
    instances = wire.decode(body, content)
    mode = _mode(request.headers.get(ATTRIBUTES, ""))
    predictions = predictor.answer(instances, mode=mode, max_seq_lens=content.max_seq_lens)
    return Response(wire.encode(predictions, kind), mimetype=kind)


def _mode(attributes: str) -> Mode | None:
    """The mode that a request asks for; whatever else the header says is somebody else's."""
    for attribute in re.split("[,;]", attributes):
        name, _, value = attribute.partition("=")
        if name.strip() == "mode":
            return to_mode(value.strip(), f"mode in {ATTRIBUTES}")
    return None


def _parameters(concurrency: int) -> Response:
    """What suits this server in a batch transform job; the job's own settings go before."""
    transforms = min(concurrency, MOST_IN_FLIGHT_MB)
    payload = min(PAYLOAD_MB, MOST_IN_FLIGHT_MB // transforms)
    parameters = {"MaxConcurrentTransforms": transforms, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": payload}
    return Response(orjson.dumps(parameters), mimetype=wire.JSON)


def _refuse(error: Object2VecError) -> Response:
    if error.http_status >= 500:
        logger.error("%s", error, exc_info=error)
    return _reply(error.http_status, type(error).__name__, str(error))


def _refuse_http(error: HTTPException) -> Response:
    """Werkzeug's own errors, and behind InternalServerError all that nobody foresaw: Flask has logged its traceback."""
    reply = _reply(error.code or 500, type(error).__name__, _sentence(error))
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        reply.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return reply


def _sentence(error: HTTPException) -> str:
    match error:
        case NotFound():
            return f"there is no {request.path}, wanted /ping, /invocations or /execution-parameters"
        case MethodNotAllowed(valid_methods=methods):
            return f"{request.path} does not take {request.method}, wanted {' or '.join(sorted(methods or ()))}"
        case InternalServerError():
            return "the request could not be answered; the reason is in the server's log"
    return error.description or error.name


def _reply(status: int, kind: str, message: str) -> Response:
    body = orjson.dumps({"code": status, "type": kind, "message": message})
    return Response(body, status=status, mimetype=wire.JSON)
