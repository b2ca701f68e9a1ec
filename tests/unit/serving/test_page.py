"""The page of a model."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from html import unescape
from pathlib import Path

import pytest

from object2vec.schema.columns import Token
from object2vec.serving.application import create_app
from object2vec.serving.predictor import Predictor
from raw_models import film_schema, save_model, schema_of, text_schema, write_index


@pytest.mark.parametrize("kind", ["films", "texts", "ids"])
def test_the_form_has_a_request_that_is_answered(tmp_path: Path, kind: str) -> None:
    model = save_model(tmp_path, text_schema() if kind == "texts" else film_schema())
    if kind == "ids":
        (tmp_path / "schema.json").unlink()
    client = create_app(Predictor.load(model)).test_client()
    page = client.get("/")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    example = re.search("<textarea[^>]*>(.*?)</textarea>", page.text, re.DOTALL)
    assert example
    reply = client.post("/invocations", data=unescape(example[1]), content_type="application/json")
    assert reply.status_code == 200, reply.text
    assert list(reply.get_json()["predictions"][0]) == ["scores"]


def test_the_page_names_columns_classes_and_hyperparameters(tmp_path: Path) -> None:
    client = create_app(Predictor.load(save_model(tmp_path, text_schema()))).test_client()
    page = client.get("/").text
    assert "title:text; or token ids below 5" in page
    assert '<th scope="row">classes</th><td>no, yes</td>' in page
    assert ">output_layer<" in page
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_values_are_escaped(tmp_path: Path) -> None:
    column = (Token("<b>"),)
    schema = schema_of((column, [{"</textarea><script>": 1}]), (column, [{"x": 1}]))
    page = create_app(Predictor.load(save_model(tmp_path, schema))).test_client().get("/").text
    assert "<b>" not in page
    assert page.count("<script>") == 1
    assert 'value="&lt;/textarea&gt;&lt;script&gt;"' in page


def test_only_its_own_style_and_script_may_run(tmp_path: Path) -> None:
    page = create_app(Predictor.load(save_model(tmp_path, film_schema()))).test_client().get("/")
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    for name in ("style", "script"):
        [text] = re.findall(f"<{name}>(.*?)</{name}>", page.text, re.DOTALL)
        assert f"{name}-src 'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy


def test_each_question_that_an_index_answers_has_a_button(tmp_path: Path) -> None:
    """A model of several classes has no recommendations."""
    model = save_model(tmp_path, film_schema(), num_classes=3)
    assert "<button data-side=" not in create_app(Predictor.load(model)).test_client().get("/").text
    films = {"film": ["a", "b"], "genres": ["fun", "war"]}
    for classes, wanted in (
        (3, [("in1", "neighbors", "Similar film, genres")]),
        (2, [("in0", "recommendations", "Recommend film, genres"), ("in1", "neighbors", "Similar film, genres")]),
    ):
        write_index(save_model(tmp_path, film_schema(), num_classes=classes), "in1", films)
        page = create_app(Predictor.load(model)).test_client().get("/").text
        assert re.findall('<button data-side="(.*?)" name="(.*?)">(.*?)</button>', page) == wanted


def test_the_description_of_the_endpoint_is_served(tmp_path: Path) -> None:
    client = create_app(Predictor.load(save_model(tmp_path, film_schema()))).test_client()
    assert "/invocations" in json.loads(client.get("/openapi.json").text)["paths"]
