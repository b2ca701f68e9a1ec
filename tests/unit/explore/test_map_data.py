"""The map of a side: its columns, clusters, figures, and the exported page."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from gzip import decompress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from object2vec.cli import main
from object2vec.explore.application import create_app
from object2vec.explore.columns import MAX_CHARACTERS, one_line
from object2vec.explore.export import to_html
from object2vec.explore.live_map import LiveMap
from object2vec.explore.map_data import MapData, build_map
from object2vec.explore.projection import clusters_of, judge, pca, unit_vectors
from object2vec.trained_model import Model
from raw_models import film_schema, save_model, write_index

TITLES = [
    '"quoted"',
    "</script><script>alert(1)</script>",
    "\u05e9\u05dc\u05d5\u05dd",
    "\U0001f600",
    "x" * 10_000,
    None,
    "two\nlines",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return a model with an index of seven films."""
    path = save_model(tmp_path_factory.mktemp("model"), film_schema())
    table = {
        "film": ["a", "b", "a", "b", "c", "a", "b"],
        "genres": ["fun", "war", "war", "fun", "fun|war", "fun|war", "fun|war"],
        "title": TITLES,
        "year": [1990, 1991, None, 1993, 1994, 1995, 2001],
    }
    write_index(path, "in1", table)
    return Model.load(path)


@pytest.fixture(scope="module")
def data(model: Model) -> MapData:
    return build_map(model)


def test_map_has_columns_by_kind_and_arrays_of_all_objects(data: MapData) -> None:
    """Each column has its kind, its values and an array of each object."""
    columns = {column["name"]: column for column in data.metadata["columns"]}
    assert {name: column["kind"] for name, column in columns.items()} == {
        "film": "category", "genres": "list", "title": "text", "year": "number"
    }  # fmt: skip
    assert columns["genres"]["values"] == ["fun", "war"]
    assert (columns["year"]["min"], columns["year"]["max"]) == (1990, 2001)
    assert np.isnan(np.frombuffer(data.arrays["column-3"], "<f4")[2])
    offsets = np.frombuffer(data.arrays["column-1-offsets"], "<u4").tolist()
    assert (offsets, np.frombuffer(data.arrays["column-1"], "<u2").tolist()[:4]) == (
        [0, 1, 2, 3, 4, 6, 8, 10],
        [0, 1, 1, 0],
    )
    assert data.metadata["title_column"] == "title"
    assert len(np.frombuffer(data.arrays["projection-pca"], "<f4")) == 14


def test_titles_are_one_line_each_and_shortened(data: MapData) -> None:
    """A title has no line break, and at most the characters that the page gets."""
    lines = data.arrays["titles"].decode().split("\n")
    assert len(lines) == len(TITLES)
    assert (lines[5], lines[6], len(lines[4])) == ("", "two lines", MAX_CHARACTERS)


def test_export_executes_no_title_and_repeats(model: Model, data: MapData) -> None:
    """The file has as many scripts as arrays, and two exports are the same bytes."""
    page = to_html(data)
    assert page == to_html(build_map(model)) == model.explore().html
    assert page.count("</script>") == page.count("<script") == len(data.exported_arrays) + 2
    assert "alert(1)" not in page
    found = re.search('<script type="application/json" id="map.json">(.*?)</script>', page)
    assert found
    assert json.loads(found[1])["live"] is False
    titles = re.search('id="arrays/titles">(.*?)<', page)
    assert titles
    assert decompress(b64decode(titles[1])) == data.arrays["titles"]
    assert "import {" not in page


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=400))
def test_metadata_never_ends_its_element(data: MapData, text: str) -> None:
    """Any text in the metadata is the same after reading it, and has no character that begins a tag."""
    changed = MapData(data.index, {"name": text}, {})
    assert "<" not in changed.to_json(live=True)
    assert json.loads(changed.to_json(live=True)) == {"name": text, "live": True}
    assert "\n" not in one_line(text)


def test_application_answers_as_the_model(model: Model, data: MapData) -> None:
    """Neighbors, the place of a raw value and the scores of a user are those of the model."""
    client = create_app(LiveMap(data, model.predictor.directory), model).test_client()
    assert client.get("/map.json").json["live"] is True
    assert client.get("/arrays/cluster").data == data.arrays["cluster"]
    found = client.post("/neighbors", json={"object": 0}).json
    assert sorted(found["objects"]) == [1, 2, 3, 4, 5, 6]
    assert found["distances"] == sorted(found["distances"])
    placed = client.post("/place", json={"values": {"film": "a", "genres": "fun"}}).json
    assert placed["neighbors"]["objects"][0] == 0
    scores = np.frombuffer(client.post("/scores", json={"values": {"user": "3"}}).data, "<f4")
    films = [{"film": film, "genres": genres} for film, genres in zip(["a", "b"], ["fun", "war"], strict=True)]
    expected = model.score([({"user": "3"}, film) for film in films])
    assert np.allclose(scores[:2], expected[:, -1], atol=1e-5)


def test_objects_of_one_side_are_compared_by_cosine(model: Model, data: MapData) -> None:
    """A model of users and films scores no two films: their score is the cosine, and the reply says so."""
    client = create_app(LiveMap(data, model.predictor.directory), model).test_client()
    done = client.post("/scores", json={"object": 0, "side": "in1"})
    units = unit_vectors(data.index.vectors)
    assert done.headers["Score-Kind"] == "cosine"
    assert np.allclose(np.frombuffer(done.data, "<f4"), units @ units[0], atol=1e-6)
    found = client.post("/score", json={"a": 0, "b": 3}).json
    assert (found["kind"], round(found["score"], 5)) == ("cosine", round(float(units[0] @ units[3]), 5))


@pytest.mark.parametrize(
    "path, body, error",
    [
        ("neighbors", {"object": 7}, "object is 7, wanted a number from 0 to 6"),
        ("neighbors", [], "object is None, wanted a number from 0 to 6"),
        ("place", {"values": 3}, "values is 3, wanted an object with the columns of in1"),
        ("place", {"values": {"movie": 3}}, "in1[0] has the column 'movie', the nearest is film"),
    ],
)
def test_wrong_requests_get_one_sentence(model: Model, data: MapData, path: str, body: Any, error: str) -> None:
    """A request that cannot be answered gets status 400 and an error."""
    done = create_app(LiveMap(data, model.predictor.directory), model).test_client().post(f"/{path}", json=body)
    assert (done.status_code, done.json) == (400, {"error": error})


def test_application_is_strict(model: Model, data: MapData) -> None:
    """Files out of the page's folder and names of other hosts are refused; scripts are the page's own."""
    client = create_app(LiveMap(data, model.predictor.directory), model).test_client()
    assert "script-src 'self';" in client.get("/").headers["Content-Security-Policy"]
    assert client.get("/page/main.js").content_type == "text/javascript; charset=utf-8"
    assert client.get("/page/..%2fexport.py").status_code == 404
    assert client.get("/arrays/none").status_code == 404
    assert client.get("/", headers={"Host": "example.com"}).status_code == 403


def test_command_writes_the_export(
    model: Model, data: MapData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`explore --export` writes the page of the model."""
    path = tmp_path / "map.html"
    assert main(["explore", str(model.predictor.directory), "--export", str(path)]) == 0
    assert f"written: {path}, a map of 7 objects" in capsys.readouterr().out
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_projection_and_clusters_separate_groups() -> None:
    """Two far groups are two clusters, apart on the map; the same vectors give the same map."""
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(80, 5)).astype(np.float32) * 0.01
    vectors[:40, 0] += 1
    vectors[40:, 1] += 1
    points, clusters = pca(vectors), clusters_of(unit_vectors(vectors))
    assert np.array_equal(points, pca(vectors.copy()))
    assert len(set(clusters[:40].tolist())) == len(set(clusters[40:].tolist())) == 1
    assert clusters[0] != clusters[40]
    order = np.argsort(np.square(points[:, None] - points[None]).sum(axis=2), axis=1)[:, 1:4]
    assert judge(points, clusters, np.arange(80), order) == {"neighbors_kept": 1.0, "same_cluster": 1.0}
