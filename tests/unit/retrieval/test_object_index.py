"""The index of a side: written, opened, and refused if it does not belong to the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from object2vec import artifact
from object2vec.errors import ArtifactError
from object2vec.retrieval.object_index import ObjectIndex, manifest_name
from object2vec.retrieval.objects import Objects
from object2vec.serving.predictor import Predictor
from raw_models import film_schema, save_model
from small import configured, network_of

FILMS = {"film": ["a", "b", "c"], "genres": ["fun", "fun|war", "war"], "year": [1990, 2001, None]}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model", film_schema(), output_layer="mean_squared_error")


def build(directory: Path) -> ObjectIndex:
    predictor = Predictor.load(directory)
    objects = Objects.from_table(predictor.schema, "in1", pa.record_batch(FILMS))
    return ObjectIndex.build(objects, predictor.encode_sequences, predictor.network)


def reopen(directory: Path) -> ObjectIndex:
    predictor = Predictor.load(directory)
    return ObjectIndex.open(directory, "in1", predictor.network, predictor.schema)


def test_a_written_index_opens_with_the_same_content(directory: Path) -> None:
    """A second index replaces the first one and its files."""
    build(directory).write(directory)
    first = set(directory.glob("index-*"))
    built = build(directory)
    built.write(directory)
    opened = reopen(directory)
    np.testing.assert_array_equal(opened.vectors, built.vectors)
    assert opened.description == built.description
    assert opened.objects.rows([{"film": "b", "genres": ["fun", "war"]}, {"film": "x"}]).tolist() == [1, -1]
    assert first & set(directory.glob("index-*")) == {directory / manifest_name("in1")}
    queries = Predictor.load(directory).encode([[3]], "in0")
    assert opened.recommender is not None
    assert built.recommender is not None
    np.testing.assert_array_equal(
        opened.recommender.recommend(queries, 3)[0], built.recommender.recommend(queries, 3)[0]
    )


def change(directory: Path, **values: object) -> None:
    path = directory / manifest_name("in1")
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def truncate(directory: Path) -> None:
    path = next(directory.glob("index-in1.*.vectors.npy"))
    path.write_bytes(path.read_bytes()[:-4])


def train_again(directory: Path) -> None:
    """Replace the weights, as a program that knows nothing of an index would."""
    files = {path: path.read_bytes() for path in directory.glob("index-*")}
    hyperparameters = Predictor.load(directory).hyperparameters
    artifact.save(directory, network_of(hyperparameters, seed=2), hyperparameters, training={}, vocabularies={})
    film_schema().save(directory)
    for path, content in files.items():
        path.write_bytes(content)


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (lambda directory: (directory / manifest_name("in1")).unlink(), "no index of in1; build one with"),
        (lambda directory: change(directory, format_version=0), "an index of format 0, wanted 1; build it again"),
        (lambda directory: change(directory, format_version=2), "an index of format 2, wanted 1; build it again"),
        (lambda directory: change(directory, prefix=None), "not a manifest of an index; build it again"),
        (lambda directory: change(directory, files={"../x": 3}), "x: missing or truncated; build it again"),
        (train_again, "an index of another model, wanted one of the weights here; build it again"),
        (truncate, "vectors.npy: missing or truncated; build it again"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(
    directory: Path, damage: Callable[[Path], object], sentence: str
) -> None:
    build(directory).write(directory)
    damage(directory)
    with pytest.raises(ArtifactError, match=sentence):
        reopen(directory)


@pytest.mark.parametrize(
    "name", ["json", "a.objects.arrow", "a.keys.npy", "a.vectors.npy", "a.neighbors.json", "a.neighbors.norms.npy"]
)
@pytest.mark.parametrize("content", [b"x", b"{}"])
def test_a_damaged_file_is_named_with_the_way_to_repair_it(directory: Path, name: str, content: bytes) -> None:
    build(directory).write(directory)
    path = directory / f"index-in1.{name}"
    path.write_bytes(content.ljust(path.stat().st_size))
    with pytest.raises(ArtifactError, match=r"; build it again with `object2vec index`$") as raised:
        reopen(directory)
    assert "pickle" not in str(raised.value)
    assert "index-in1." in str(raised.value)


def test_a_model_replaces_an_older_index(directory: Path) -> None:
    build(directory).write(directory)
    hyperparameters = configured()
    artifact.save(directory, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    assert list(directory.glob("index-*")) == []


@pytest.mark.parametrize("step", range(8))
def test_a_killed_write_leaves_a_whole_index(directory: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old index is usable whichever rename is the last one."""
    build(directory).write(directory)
    old, renames, replace = reopen(directory), [0], Path.replace

    def killed(path: Path, target: Path) -> Path:
        if renames[0] == step:
            raise KeyboardInterrupt
        renames[0] += 1
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    try:
        build(directory).write(directory)
    except KeyboardInterrupt:
        monkeypatch.undo()
    np.testing.assert_array_equal(reopen(directory).vectors, old.vectors)
