"""The projection that is computed in another process and kept in the model."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from object2vec.explore import embedding
from object2vec.explore.live_map import LiveMap
from object2vec.explore.map_data import MapData, build_map
from object2vec.schema.columns import Token
from object2vec.trained_model import Model
from raw_models import save_model, schema_of

OBJECTS = 60


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Return a model of 60 films."""
    films = {f"film {number}": OBJECTS - number for number in range(OBJECTS)}
    return Model.load(save_model(tmp_path, schema_of(((Token("user"),), [{"1": 1}]), ((Token("film"),), [films]))))


@pytest.fixture
def data(model: Model) -> MapData:
    return build_map(model, "in1")


def test_stored_projection_is_of_these_vectors(model: Model, data: MapData, tmp_path: Path) -> None:
    """A projection that the model keeps is the best; one of other vectors, or a damaged file, is ignored."""
    points = np.random.default_rng(0).uniform(-1, 1, (OBJECTS, 2)).astype(np.float32)
    embedding.write_embedding(tmp_path, data.index, points)
    live = LiveMap(data, tmp_path)
    assert live.read()
    assert [each["name"] for each in live.data.metadata["projections"]] == ["t-sne", "pca"]
    assert np.array_equal(live.data.points("t-sne"), points)
    changed = replace(data, index=replace(data.index, vectors=np.asarray(data.index.vectors) + 1))
    assert not LiveMap(changed, tmp_path).read()
    path = tmp_path / "map-in1.npz"
    path.write_bytes(path.read_bytes()[:100])
    assert not LiveMap(data, tmp_path).read()


def test_failed_process_leaves_the_map(data: MapData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process fails, the page keeps PCA and waits no longer."""
    monkeypatch.setattr(embedding, "is_possible", lambda _: True)
    monkeypatch.setattr(embedding.sys, "executable", "false")
    live = LiveMap(data, tmp_path)
    live.start()
    until = time.monotonic() + 60
    while live.data.metadata["pending"]:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert [each["name"] for each in live.data.metadata["projections"]] == ["pca"]


def test_counts_are_those_of_training(data: MapData) -> None:
    """The size of an object of one known value is its count in the vocabulary."""
    assert np.frombuffer(data.arrays["count"], "<u4").tolist() == list(range(OBJECTS, 0, -1))


@pytest.mark.slow
def test_projection_keeps_more_neighbors_and_repeats(data: MapData, tmp_path: Path) -> None:
    """The projection of openTSNE keeps more neighbors than PCA, and is the same each time."""
    pytest.importorskip("openTSNE")
    shares: list[float] = []
    live = LiveMap(data, tmp_path)
    live.finish(shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    best, pca = live.data.metadata["projections"]
    assert best["neighbors_kept"] > pca["neighbors_kept"]
    assert np.array_equal(embedding.embed(data.index, data.points("pca"), float), live.data.points("t-sne"))
    assert np.abs(live.data.points("t-sne")).max() == pytest.approx(1)
