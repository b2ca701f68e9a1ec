"""Small models with a schema, for tests of raw values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from flask.testing import FlaskClient

from object2vec import artifact
from object2vec.data.records import Side
from object2vec.retrieval.object_index import ObjectIndex
from object2vec.retrieval.objects import Objects
from object2vec.schema.columns import Column, List, Text, Token
from object2vec.schema.label import Label
from object2vec.schema.schema import Schema, SideSchema
from object2vec.schema.vocabulary import Vocabulary
from object2vec.serving.instances import Instances
from object2vec.serving.predictor import Predictor
from small import configured, network_of

USERS: tuple[Column, ...] = (Token("user"),)
FILMS: tuple[Column, ...] = (Token("film"), List("genres", "|"))


def schema_of(*sides: tuple[tuple[Column, ...], list[dict[str, int]]], label: Label | None = None) -> Schema:
    """Return a schema of columns and the counts of their values."""
    first, second = (SideSchema(columns, Vocabulary.empty(columns).extended(counts)) for columns, counts in sides)
    return Schema((first, second), label)


def film_schema() -> Schema:
    """Return a schema in which user u has the id 2 + u, and there are the films a and b, and genres."""
    users = {str(user): 9 - user for user in range(1, 9)}
    return schema_of(
        (USERS, [users]), (FILMS, [{"a": 3, "b": 2}, {"fun": 2, "war": 1}]), label=Label("stars", "number")
    )


def text_schema() -> Schema:
    """Return a schema of a text and its class, without columns of in1."""
    return schema_of(((Text("title"),), [{"good": 2, "bad": 1}]), ((), []), label=Label("kind", "class", ("no", "yes")))


def save_model(directory: Path, schema: Schema, **changes: object) -> Path:
    """Write a model with a schema and random weights."""
    first, second = (side.vocabulary.size for side in schema.sides)
    sizes = {"enc0_vocab_size": first, "enc1_vocab_size": second, "enc1_network": "pooled_embedding"}
    defaults = {"enc1_max_seq_len": 6, "enc1_token_embedding_dim": 4}
    hyperparameters = configured(**defaults, **sizes, **changes)
    artifact.save(directory, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    schema.save(directory)
    return directory


def write_index(model: Path, side: Side, table: Mapping[str, Sequence[object]]) -> None:
    """Index the objects of a table in the directory of their model."""
    predictor = Predictor.load(model)
    objects = Objects.from_table(predictor.schema, side, pa.record_batch(dict(table)))
    ObjectIndex.build(objects, predictor.encode_sequences, predictor.network).write(model)


def asked(instances: Instances) -> list[object]:
    """Return all that a request has, as Python objects."""
    sides = [
        (column.rows.tolist(), column.sequences.values.tolist(), column.sequences.offsets.tolist())
        for column in instances.columns
    ]
    warnings = [(warning.side, warning.column, warning.rows.tolist()) for warning in instances.warnings]
    return [sides, warnings, instances.raw(), [instances.name(row) for row in range(len(instances))]]


def post(client: FlaskClient, body: Any, kind: str = "application/json", **headers: str) -> Any:
    """Send a body, which is text or becomes JSON, and return the response."""
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    return client.post("/invocations", data=text, content_type=kind, headers=headers)


def predictions(client: FlaskClient, *instances: Any, **headers: str) -> Any:
    """Return the predictions for instances."""
    reply = post(client, {"instances": instances}, **headers)
    assert reply.status_code == 200, reply.text
    return reply.get_json()["predictions"]
