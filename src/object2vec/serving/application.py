"""The server's HTTP surface: routes, and what each kind of error is answered with.

Everything it needs arrives as an argument. What an invocation is answered is the business of `invocations`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound

from object2vec.errors import Object2VecError
from object2vec.serving.invocations import Environ, Invocations
from object2vec.serving.predictor import Predictor
from object2vec.serving.replies import UNFORESEEN, Reply, refusal, refused

# Batch transform: the platform allows MaxConcurrentTransforms × MaxPayloadInMB up to 100, and sends 6 MB by default.
MOST_IN_FLIGHT_MB: Final = 100
PAYLOAD_MB: Final = 6

Wsgi = Callable[[Environ, Any], Iterable[bytes]]


def create_app(
    predictor: Predictor, *, max_payload: int | None = None, concurrency: int = 1, accept: str | None = None
) -> Flask:
    """The application that answers with `predictor`.

    `max_payload` is in bytes, and None for no limit; `concurrency` is how many requests can be worked on at a time;
    `accept` is the type to answer in where a request leaves it open, and None for the request's own.
    """
    app = Flask(__name__, static_folder=None)
    invocations = Invocations(most=max_payload, accept=accept)
    app.extensions["invocations"] = invocations
    app.add_url_rule("/ping", "ping", Response, methods=["GET", "POST"])
    app.add_url_rule("/invocations", "invocations", methods=["POST"])  # for its name: see _ahead
    app.add_url_rule("/execution-parameters", "parameters", partial(_parameters, concurrency))
    app.register_error_handler(Object2VecError, lambda error: _response(refusal(error)))
    app.register_error_handler(HTTPException, _refuse)
    ahead = _ahead(app.wsgi_app, lambda environ: invocations.answer(environ, lambda: predictor))
    app.wsgi_app = ahead  # type: ignore[method-assign, assignment]
    return app


def _ahead(app: Wsgi, invoke: Callable[[Environ], Reply]) -> Wsgi:
    """The application with /invocations taken out of it: the one route for which Flask's part of the time counts."""

    def wsgi(environ: Environ, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/invocations" or environ["REQUEST_METHOD"] != "POST":
            return app(environ, start_response)
        try:
            reply = invoke(environ)
        except Exception as error:
            reply = refusal(error)
        start_response(reply.line, reply.fields)
        return reply.body

    return wsgi


def _parameters(concurrency: int) -> Response:
    """What suits this server in a batch transform job; the job's own settings go before."""
    transforms = min(concurrency, MOST_IN_FLIGHT_MB)
    payload = min(PAYLOAD_MB, MOST_IN_FLIGHT_MB // transforms)
    parameters = {"MaxConcurrentTransforms": transforms, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": payload}
    return _response(Reply.of(parameters))


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, reply.fields)


def _refuse(error: HTTPException) -> Response:
    """Werkzeug's own errors, and behind InternalServerError all that nobody foresaw: Flask has logged its traceback."""
    response = _response(refused(error.code or 500, type(error).__name__, _sentence(error)))
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


def _sentence(error: HTTPException) -> str:
    match error:
        case NotFound():
            return f"there is no {request.path}, wanted /ping, /invocations or /execution-parameters"
        case MethodNotAllowed(valid_methods=methods):
            return f"{request.path} does not take {request.method}, wanted {' or '.join(sorted(methods or ()))}"
        case InternalServerError():
            return UNFORESEEN
    return error.description or error.name
