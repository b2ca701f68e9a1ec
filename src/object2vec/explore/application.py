"""The Flask application of the page: its files, the map, and answers of the model. It is for this machine alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from flask import Flask, Response, abort, jsonify, request

from object2vec.array_types import Float32
from object2vec.data.records import SIDES, Side
from object2vec.errors import Object2VecError, UserError, shortened
from object2vec.explore.live_map import LiveMap
from object2vec.explore.map_data import NEIGHBORS, MapData, distances, nearest
from object2vec.explore.projection import unit_vectors
from object2vec.retrieval.pair_scores import PairScores

PAGE: Final = Path(__file__).with_name("page")
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".html": "text/html"}
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
#: Nearest objects between which a typed object is shown.
PLACED_BETWEEN: Final = 5
#: What a score is.
SCORE: Final = "score"
COSINE: Final = "cosine"
MAX_BODY_BYTES: Final = 2**20
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def create_app(live: LiveMap, model: Any) -> Flask:
    """Return the application of a map and its model."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.before_request(_check_host)
    app.after_request(_secure)
    app.register_error_handler(Object2VecError, lambda error: (jsonify(error=str(error)), 400))
    _add_files(app, live)
    _add_questions(app, live, model)
    return app


def _check_host() -> None:
    """Refuse other names of this machine: a page of another site may have a name that leads here."""
    if request.host.rpartition(":")[0] not in LOCAL_NAMES and request.host not in LOCAL_NAMES:
        abort(403)


def _secure(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    return response


def _add_files(app: Flask, live: LiveMap) -> None:
    files = {path.name: path for path in PAGE.iterdir() if path.suffix in TYPES}

    def page(name: str = "index.html") -> Response:
        if name not in files:
            abort(404)
        return Response(files[name].read_bytes(), content_type=f"{TYPES[files[name].suffix]}; charset=utf-8")

    def array(name: str) -> Response:
        if name not in live.data.arrays:
            abort(404)
        return Response(live.data.arrays[name], content_type="application/octet-stream")

    app.add_url_rule("/", "index", page)
    app.add_url_rule("/page/<name>", "page", page)
    app.add_url_rule(
        "/map.json", "map", lambda: Response(live.data.to_json(live=True), content_type="application/json")
    )
    app.add_url_rule("/arrays/<name>", "array", array)


def _add_questions(app: Flask, live: LiveMap, model: Any) -> None:
    """Add the requests that need the model: they have and return JSON, scores are float32."""
    index = live.data.index

    def neighbors() -> Any:
        rows, scores = nearest(index, np.array([_row(request.get_json(), len(index.objects))]))
        return _neighbors(rows[0], scores[0])

    def place() -> Any:
        vector = model.encode([_values(request.get_json(), index.side)], index.side)
        rows, scores = index.neighbors.search(vector, NEIGHBORS)
        near = rows[0][rows[0] >= 0][:PLACED_BETWEEN]
        points = {
            each["name"]: live.data.points(each["name"])[near].mean(axis=0).tolist()
            for each in live.data.metadata["projections"]
        }
        x, y = next(iter(points.values()))
        return {"x": x, "y": y, "points": points, "neighbors": _neighbors(rows[0], scores[0])}

    def scores() -> Response:
        found, what = _scores(live.data, model, request.get_json())
        return Response(found.astype("<f4").tobytes(), headers={"Score-Kind": what})

    def score() -> Any:
        body = request.get_json()
        found, what = _scores(live.data, model, {"object": _row(body, len(index.objects), "a")})
        return {"score": float(found[_row(body, len(index.objects), "b")]), "kind": what}

    for name, answer in {"neighbors": neighbors, "place": place, "scores": scores, "score": score}.items():
        app.add_url_rule(f"/{name}", name, answer, methods=["POST"])


def _scores(data: MapData, model: Any, body: Any) -> tuple[Float32, str]:
    """Return the score (N,) of an object with each object of the map, and whether it is the model's or a cosine.

    The object has raw values of the other side, or is of the map. The model scores two of the map if its sides are
    tied.
    """
    index, side = data.index, SIDES.index(data.index.side)
    other: Side = SIDES[1 - side]
    if isinstance(body, dict) and "values" in body:
        vector = model.encode([_values(body, other)], other)
    else:
        row = _row(body, len(index.objects))
        if not (model.schema and model.schema.tied):
            units = unit_vectors(index.vectors)
            return units @ units[row], COSINE
        vector = model.predictor.encode_sequences(index.objects.sequences(row, row + 1), other)
    scorer, rows = PairScores(model.network, side), np.arange(len(index.objects))
    candidates = torch.from_numpy(np.array(index.vectors, np.float32))
    return scorer.published(scorer(torch.from_numpy(vector), candidates, np.zeros_like(rows), rows)), SCORE


def _neighbors(rows: Any, scores: Any) -> dict[str, Any]:
    found = rows >= 0
    return {"objects": rows[found].tolist(), "distances": distances(scores[found]).tolist()}


def _row(body: Any, count: int, name: str = "object") -> int:
    row = body.get(name) if isinstance(body, dict) else None
    if type(row) is not int or not 0 <= row < count:
        raise UserError(f"{name} is {shortened(repr(row))}, wanted a number from 0 to {count - 1}")
    return row


def _values(body: Any, side: Side) -> dict[str, Any] | list[int]:
    values = body.get("values") if isinstance(body, dict) else None
    if not isinstance(values, dict | list):
        raise UserError(f"values is {shortened(repr(values))}, wanted an object with the columns of {side}")
    if body.get("side", side) != side:
        raise UserError(f"side is {shortened(repr(body['side']))}, wanted values of {side}")
    return values
