"""Servers to compare ours with, for gunicorn: an empty endpoint, and a plain Flask server.

The plain server follows AWS's sample scikit_bring_your_own, with torch: Flask, `json`, and workers that answer one
request at a time, each with a copy of the model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import plain
import torch
from flask import Flask, Response, request
from torch import Tensor

from object2vec import artifact
from object2vec.data.sequences import Sequences


def empty() -> Flask:
    """Return an endpoint that does nothing: the most that Flask and gunicorn can do."""
    app = Flask(__name__)

    @app.post("/invocations")
    def invocations() -> Response:
        return Response(b'{"predictions":[{"scores":[2.433111906051636]}]}', mimetype="application/json")

    return app


def predictor(directory: str, *, batched: bool) -> Flask:
    """Return a server of scores: one forward pass per instance, or one per request if `batched`."""
    app = Flask(__name__)
    hyperparameters, network = artifact.load(Path(directory))
    model = plain.Model(hyperparameters, sparse=False).eval()
    plain.copy_weights(network, model)

    def score(instances: list[dict[str, list[int]]]) -> list[list[float]]:
        sides = [part for name in ("in0", "in1") for part in padded([instance[name] for instance in instances])]
        output = model(*sides)
        scores: list[list[float]] = (output if hyperparameters.regression else output.softmax(1)).tolist()
        return scores

    @app.post("/invocations")
    def invocations() -> Response:
        instances: list[Any] = json.loads(request.get_data())["instances"]
        with torch.no_grad():
            scores = score(instances) if batched else [score([instance])[0] for instance in instances]
        body = json.dumps({"predictions": [{"scores": score} for score in scores]})
        return Response(body, mimetype="application/json")

    return app


def padded(lists: list[list[int]]) -> tuple[Tensor, Tensor]:
    sequences = Sequences.from_lists(lists)
    return plain.padded(sequences), torch.from_numpy(sequences.lengths)
