"""The server's HTTP surface: routes, and what each kind of error is answered with.

Everything it needs arrives as an argument. What an invocation is answered is the business of `invocations`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import orjson
from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound

from object2vec.errors import Object2VecError, RequestError
from object2vec.serving.headers import ATTRIBUTES
from object2vec.serving.invocations import Invocations, read_body
from object2vec.serving.memory_budget import Room
from object2vec.serving.model_registry import Models
from object2vec.serving.predictor import Predictor
from object2vec.serving.responses import UNFORESEEN, Reply, refusal, refused
from object2vec.serving.tcp_cork import in_one_packet
from object2vec.serving.telemetry import Environ, Observation, Wsgi

# Batch transform: the platform allows MaxConcurrentTransforms × MaxPayloadInMB up to 100, and sends 6 MB by default.
MOST_IN_FLIGHT_MB: Final = 100
PAYLOAD_MB: Final = 6
#: The longest body that loads a model, in bytes.
LOAD_BODY: Final = 2**16


def create_app(
    models: Predictor | Models,
    *,
    max_payload: int | None = None,
    concurrency: int = 1,
    accept: str | None = None,
    room: Room | None = None,
    observation: Observation | None = None,
) -> Flask:
    """The application that answers with a model, or with those of a multi-model endpoint.

    `max_payload` is in bytes, and None for no limit; `concurrency` is how many requests can be worked on at a time;
    `accept` is the type to answer in where a request leaves it open, and None for the request's own; `room` is the
    memory for bodies.
    """
    observation = observation or Observation()
    app = Flask(__name__, static_folder=None)
    invocations = app.extensions["invocations"] = Invocations(most=max_payload, accept=accept, room=room)
    app.add_url_rule("/ping", "ping", Response, methods=["GET", "POST"])
    app.add_url_rule("/execution-parameters", "parameters", partial(_parameters, concurrency))
    app.add_url_rule("/metrics", "metrics", lambda: Response(observation.metrics(), mimetype="text/plain"))
    app.add_url_rule("/endpoints/<name>/invocations", "endpoint", methods=["POST"])
    if isinstance(models, Models):
        _add_models(app, models)
    else:
        app.add_url_rule("/invocations", "invocations", methods=["POST"])
    app.register_error_handler(Object2VecError, lambda error: _response(refusal(error)))
    app.register_error_handler(HTTPException, _refuse)
    app.wsgi_app = in_one_packet(observation.over(_ahead(app.wsgi_app, models, invocations)))  # type: ignore[method-assign, assignment]
    return app


def _ahead(app: Wsgi, models: Predictor | Models, invocations: Invocations) -> Wsgi:
    """The application with invocations taken out of it: the one route for which Flask's part of the time counts."""

    def wsgi(environ: Environ, start_response: Any) -> Iterable[bytes]:
        find = _finder(models, environ)
        if find is None or environ["REQUEST_METHOD"] != "POST":
            return app(environ, start_response)
        try:
            reply = invocations.answer(environ, find)
        except Exception as error:
            reply = refusal(error)
        start_response(reply.line, reply.fields)
        return reply.body

    return wsgi


def _finder(models: Predictor | Models, environ: Environ) -> Callable[[], Predictor] | None:
    """Return what finds the model of an invocation; None if the path is not one of an invocation."""
    path = environ["PATH_INFO"]
    if not isinstance(models, Models):
        return (lambda: models) if path == "/invocations" or _is_endpoint(path) else None
    if _is_endpoint(path):
        return partial(_target_model, models, environ)
    match path.split("/"):
        case ["", "models", name, "invoke"]:
            return lambda: models.predictor(_text(name))
    return None


def _is_endpoint(path: str) -> bool:
    """Return whether a path is that of the service itself, where boto3 sends InvokeEndpoint; it may have any name."""
    match path.split("/"):
        case ["", "endpoints", name, "invocations"]:
            return bool(name)
    return False


def _target_model(models: Models, environ: Environ) -> Predictor:
    name = environ.get("HTTP_X_AMZN_SAGEMAKER_TARGET_MODEL")
    if not name:
        raise RequestError("no X-Amzn-SageMaker-Target-Model, wanted the name of a loaded model")
    return models.predictor(_text(name))


def _text(latin: str) -> str:
    return latin.encode("latin-1").decode("utf-8", "replace")  # as WSGI has it: PEP 3333


def _add_models(app: Flask, models: Models) -> None:
    """The platform's interface to load and unload models, with the words of multi-model-server."""

    def load() -> Response:
        name, url = _named(read_body(request.environ, LOAD_BODY))
        models.load(name, url)
        return _response(Reply.of({"status": "Workers scaled"}))

    def unload(name: str) -> Response:
        models.unload(name)
        return _response(Reply.of({"status": f'Model "{name}" unregistered'}))

    app.add_url_rule("/models", "load", load, methods=["POST"])
    app.add_url_rule(
        "/models", "list", lambda: _response(Reply.of(models.page(request.args.get("next_page_token", ""))))
    )
    app.add_url_rule("/models/<name>", "describe", lambda name: _response(Reply.of(models.describe(name))))
    app.add_url_rule("/models/<name>", "unload", unload, methods=["DELETE"])
    app.add_url_rule("/models/<name>/invoke", "invoke", methods=["POST"])


def _named(body: bytes) -> tuple[str, str]:
    """The name and the url of a model to be loaded.

    Raises:
        RequestError: the body has none.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    names = ("model_name", "url")
    if not isinstance(document, dict) or not all(isinstance(document.get(name), str) for name in names):
        raise RequestError('wanted a JSON object like {"model_name": "m", "url": "/opt/ml/models/m/model"}')
    return document["model_name"], document["url"]


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
        case NotFound() if request.path.endswith("/invocations-response-stream"):
            return f"{request.path} is not served, wanted /invocations with object2vec-stream=1 in {ATTRIBUTES}"
        case NotFound():
            *others, last = sorted({rule.rule for rule in current_app.url_map.iter_rules()})
            return f"there is no {request.path}, wanted {', '.join(others)} or {last}"
        case MethodNotAllowed(valid_methods=methods):
            return f"{request.path} does not take {request.method}, wanted {' or '.join(sorted(methods or ()))}"
        case InternalServerError():
            return UNFORESEEN
    return error.description or error.name
