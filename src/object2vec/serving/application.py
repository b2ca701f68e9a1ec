"""Routes of the server, and the reply to each kind of error.

`dispatch_invocations` is a WSGI application in front of Flask: /invocations does not pass through Flask, whose routing
would be a large part of the time. All other routes are Flask's. `invocations` answers an invocation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound

from object2vec.errors import Object2VecError, RequestError
from object2vec.serving.headers import ATTRIBUTES
from object2vec.serving.invocations import Invocations, read_body
from object2vec.serving.memory_budget import MemoryBudget
from object2vec.serving.model_registry import ModelRegistry
from object2vec.serving.page import security_policy, to_html
from object2vec.serving.predictor import Predictor
from object2vec.serving.responses import UNEXPECTED_ERROR, Reply, error_reply, error_response, json_reply
from object2vec.serving.tcp_cork import cork_replies
from object2vec.serving.telemetry import Environ, Telemetry, Wsgi

OPENAPI: Final = Path(__file__).with_name("openapi.json")
# Batch transform: the platform allows MaxConcurrentTransforms × MaxPayloadInMB up to 100, and sends 6 MB by default.
MAX_IN_FLIGHT_MB: Final = 100
DEFAULT_PAYLOAD_MB: Final = 6
#: The longest body that loads a model, in bytes.
MAX_LOAD_BODY_BYTES: Final = 2**16


def create_app(
    models: Predictor | ModelRegistry,
    *,
    max_payload: int | None = None,
    concurrency: int = 1,
    accept: str | None = None,
    memory: MemoryBudget | None = None,
    telemetry: Telemetry | None = None,
) -> Flask:
    """Return the application of one model, or of the models of a multi-model endpoint.

    `max_payload` is in bytes, and None for no limit; `concurrency` is how many requests can be worked on at a time;
    `accept` is the type to answer in where a request leaves it open, and None for the request's own; `memory` is the
    budget for bodies.
    """
    telemetry = telemetry or Telemetry()
    app = Flask(__name__, static_folder=None)
    invocations = app.extensions["invocations"] = Invocations(max_bytes=max_payload, accept=accept, memory=memory)
    app.add_url_rule("/ping", "ping", Response, methods=["GET", "POST"])
    app.add_url_rule("/execution-parameters", "parameters", partial(_parameters, concurrency))
    app.add_url_rule("/metrics", "metrics", lambda: Response(telemetry.metrics(), mimetype="text/plain"))
    app.add_url_rule("/openapi.json", "openapi", lambda: Response(OPENAPI.read_bytes(), mimetype="application/json"))
    app.add_url_rule("/endpoints/<name>/invocations", "endpoint", methods=["POST"])
    if isinstance(models, ModelRegistry):
        _add_models(app, models)
    else:
        app.add_url_rule("/invocations", "invocations", methods=["POST"])
        app.add_url_rule("/", "page", partial(_page, models))
    app.register_error_handler(Object2VecError, lambda error: _response(error_response(error)))
    app.register_error_handler(HTTPException, _refuse)
    app.wsgi_app = cork_replies(telemetry.wrap(dispatch_invocations(app.wsgi_app, models, invocations)))  # type: ignore[method-assign, assignment]
    return app


def dispatch_invocations(app: Wsgi, models: Predictor | ModelRegistry, invocations: Invocations) -> Wsgi:
    """Return a dispatcher that answers invocations itself and passes all other requests to Flask."""

    def wsgi(environ: Environ, start_response: Any) -> Iterable[bytes]:
        find = _finder(models, environ)
        if find is None or environ["REQUEST_METHOD"] != "POST":
            return app(environ, start_response)
        try:
            reply = invocations.answer(environ, find)
        except Exception as error:
            reply = error_response(error)
        start_response(reply.status_line, reply.headers)
        return reply.body

    return wsgi


def _finder(models: Predictor | ModelRegistry, environ: Environ) -> Callable[[], Predictor] | None:
    """Return what finds the model of an invocation; None if the path is not one of an invocation.

    boto3 sends InvokeEndpoint to /endpoints/{name}/invocations; the endpoint may have any name.
    """
    match environ["PATH_INFO"].split("/"):
        case ["", "invocations"] if isinstance(models, Predictor):
            return lambda: models
        case ["", "endpoints", name, "invocations"] if name:
            return partial(_target_model, models, environ)
        case ["", "models", name, "invoke"] if isinstance(models, ModelRegistry):
            return lambda: models.predictor(_to_utf8(name))
    return None


def _target_model(models: Predictor | ModelRegistry, environ: Environ) -> Predictor:
    if isinstance(models, Predictor):
        return models
    name = environ.get("HTTP_X_AMZN_SAGEMAKER_TARGET_MODEL")
    if not name:
        raise RequestError("no X-Amzn-SageMaker-Target-Model, wanted the name of a loaded model")
    return models.predictor(_to_utf8(name))


def _to_utf8(latin: str) -> str:
    return latin.encode("latin-1").decode("utf-8", "replace")  # as WSGI has it: PEP 3333


def _add_models(app: Flask, models: ModelRegistry) -> None:
    """Add the routes that load, unload and list models, with the words of multi-model-server."""

    def load() -> Response:
        name, url = _load_arguments(read_body(request.environ, MAX_LOAD_BODY_BYTES))
        models.load(name, url)
        return _response(json_reply({"status": "Workers scaled"}))

    def unload(name: str) -> Response:
        models.unload(name)
        return _response(json_reply({"status": f'Model "{name}" unregistered'}))

    app.add_url_rule("/models", "load", load, methods=["POST"])
    app.add_url_rule(
        "/models", "list", lambda: _response(json_reply(models.page(request.args.get("next_page_token", ""))))
    )
    app.add_url_rule("/models/<name>", "describe", lambda name: _response(json_reply(models.describe(name))))
    app.add_url_rule("/models/<name>", "unload", unload, methods=["DELETE"])
    app.add_url_rule("/models/<name>/invoke", "invoke", methods=["POST"])


def _load_arguments(body: bytes) -> tuple[str, str]:
    """Return the name and the URL in a request to load a model.

    Raises:
        RequestError: the body has no name or no URL.
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
    """Return the parameters that fit this server in a batch transform job. The job's own settings override them."""
    transforms = min(concurrency, MAX_IN_FLIGHT_MB)
    payload = min(DEFAULT_PAYLOAD_MB, MAX_IN_FLIGHT_MB // transforms)
    parameters = {"MaxConcurrentTransforms": transforms, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": payload}
    return _response(json_reply(parameters))


def _response(reply: Reply) -> Response:
    return Response(list(reply.body), reply.status, reply.headers)


def _refuse(error: HTTPException) -> Response:
    """Return the reply to an error of Flask. InternalServerError is an unexpected one, which Flask has logged."""
    response = _response(error_reply(error.code or 500, type(error).__name__, _sentence(error)))
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
            return f"{request.path} does not take {request.method}, wanted {', '.join(sorted(methods or ()))}"
        case InternalServerError():
            return UNEXPECTED_ERROR
    return error.description or error.name


def _page(model: Predictor) -> Response:
    indexes = {side: index.recommender is not None for side, index in model.searcher.indexes.items()}
    page = to_html(model.hyperparameters, model.schema, indexes)
    return Response(page, mimetype="text/html", headers={"Content-Security-Policy": security_policy()})
