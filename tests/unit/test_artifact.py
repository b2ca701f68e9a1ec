"""Model directories: what is saved is what is loaded, and nothing that is damaged or foreign is loaded."""

from __future__ import annotations

import json
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from object2vec import artifact
from object2vec.errors import AlgorithmError, ArtifactError, UserError
from object2vec.hyperparameters import Hyperparameters
from object2vec.hyperparameters.table import NETWORKS
from object2vec.model.network import Network
from small import configured, network_of, tokens_of, weights_of

FORMS = [
    *({"network": name} for name in NETWORKS),
    {"network": "hcnn", "tied_token_embedding_weight": True, "token_embedding_storage_type": "row_sparse"},
    {"network": "bilstm", "tied_encoder_weight": True},
    {"tied_token_embedding_weight": True, "mark_common_tokens": True},
    {"pooled_projection": "relu", "tied_encoder_weight": True, "comparator_list": "cosine"},
    {"output_layer": "mean_squared_error", "mlp_layers": 0},
    {"enc0_pretrained_embedding_file": "g.txt", "enc0_vocab_file": "v.json"},
]


def saved(directory: Path, hyperparameters: Hyperparameters, *, seed: int = 1) -> Network:
    network = network_of(hyperparameters, seed=seed)
    artifact.save(directory, network, hyperparameters, training={"best_epoch": 3}, vocabularies={})
    return network


def scores(network: Network) -> torch.Tensor:
    with torch.inference_mode():
        u, v = network.encode(0, tokens_of([1, 2], [], [3])), network.encode(1, tokens_of([4], [5, 6], [0]))
        return network.scores(network.score_encodings(u, v))


# ----------------------------------------------------------------------------------------------------------------------
# There and back.
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", FORMS, ids=lambda changes: "-".join(map(str, changes.values())))
def test_loaded_model_equals_the_saved_one(tmp_path: Path, changes: dict[str, object]) -> None:
    """A loaded model has the same hyperparameters and, bit for bit, the same scores."""
    hyperparameters = configured(**changes)
    network = saved(tmp_path / "new" / "model", hyperparameters)
    loaded_hyperparameters, loaded = artifact.load(tmp_path / "new" / "model")
    assert loaded_hyperparameters == hyperparameters
    assert torch.equal(scores(network), scores(loaded.eval()))
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in network.parameters()]


def test_a_recipe_does_not_set_what_an_older_model_lacks(tmp_path: Path) -> None:
    """A recipe of today may set hyperparameters that the version of the model did not have."""
    saved(tmp_path, replace(configured(), recipe="implicit"))
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["hyperparameters"]["ranking_loss"]
    path.write_text(json.dumps(config))
    found = artifact.read_config(tmp_path)
    assert (found.recipe, found.ranking_loss) == ("implicit", "none")


def test_files_are_readable_without_the_package(tmp_path: Path) -> None:
    """config.json is plain JSON with the format version first; the weights are plain safetensors.

    Anyone may read both; no other files are left.
    """
    hyperparameters = configured()
    network = saved(tmp_path, hyperparameters)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}
    text = (tmp_path / "config.json").read_text()
    assert text.startswith('{\n  "format_version": 1,\n')
    config = json.loads(text)
    assert config["hyperparameters"] == hyperparameters.to_dict()
    assert config["training"] == {"best_epoch": 3}
    assert list(config) == ["format_version", "object2vec_version", "hyperparameters", "training"]
    with (tmp_path / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    assert set(header) - {"__metadata__"} == set(weights_of(network))
    for name, tensor in weights_of(network).items():
        np.testing.assert_array_equal(load_file(tmp_path / "model.safetensors")[name].numpy(), tensor)


def test_names_of_the_tensors() -> None:
    """Other programs depend on these names of each encoder and the head."""
    hcnn = set(weights_of(network_of(configured(network="hcnn", enc0_layers=2))))
    assert {"enc0.embedding.weight", "enc0.levels.1.bias", "enc1.levels.0.weight"} <= hcnn
    assert {"head.layers.0.weight", "head.layers.1.bias", "head.output.weight", "head.output.bias"} <= hcnn
    bilstm = set(weights_of(network_of(configured(network="bilstm"))))
    assert {"enc0.forwards.0.weight_ih_l0", "enc1.backwards.0.bias_hh_l0"} <= bilstm


def test_tied_table_is_stored_once(tmp_path: Path) -> None:
    """The file has one tensor for both sides; a loaded model has one parameter, and can be saved again."""
    hyperparameters = configured(tied_token_embedding_weight=True)
    network = saved(tmp_path, hyperparameters)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert "enc0.embedding.weight" in names
    assert "enc1.embedding.weight" not in names
    _, loaded = artifact.load(tmp_path)
    assert loaded.enc0.embedding.weight is loaded.enc1.embedding.weight
    artifact.save(tmp_path / "again", loaded, hyperparameters, training={}, vocabularies={})
    _, again = artifact.load(tmp_path / "again")
    assert torch.equal(scores(network), scores(again.eval()))


@pytest.mark.parametrize("changes", FORMS[:4], ids=lambda changes: "-".join(map(str, changes.values())))
def test_float16_embeddings_halve_the_file(tmp_path: Path, changes: dict[str, object]) -> None:
    """Other tensors do not change. Scores are those of rounded embeddings, bit for bit, also if saved again."""
    hyperparameters = configured(token_embedding_dtype="float16", **changes)
    network = network_of(hyperparameters)
    tables = {name for name in weights_of(network) if "embedding" in name}
    artifact.save(tmp_path, network, hyperparameters, training={}, vocabularies={})
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        assert tensor.dtype == (torch.float16 if name in tables else torch.float32)
    _, loaded = artifact.load(tmp_path)
    for table in network.tables:
        table.weight.data = table.weight.data.half().float()
    assert torch.equal(scores(network), scores(loaded.eval()))
    artifact.save(tmp_path / "again", loaded, hyperparameters, training={}, vocabularies={})
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_values_beyond_float16_become_its_largest() -> None:
    """This holds for both signs, and for all rows of a table that is converted in blocks."""
    table = torch.ones(artifact.CHUNK_ROWS + 1, 2)
    table[-1] = torch.tensor([1e9, -1e9])
    half = artifact.to_float16(table)
    assert half.dtype == torch.float16
    assert half[-1].tolist() == [65504, -65504]
    assert (half[:-1] == 1).all()


def test_model_without_its_head_encodes(tmp_path: Path) -> None:
    """Loaded without its head, a model has the same encodings; the head is not read."""
    network = saved(tmp_path, configured())
    _, loaded = artifact.load(tmp_path, with_head=False)
    assert loaded.head is None
    assert torch.equal(network.encode(0, tokens_of([1, 2])), loaded.encode(0, tokens_of([1, 2])))


def test_vocabularies_are_copied(tmp_path: Path) -> None:
    """Vocabulary files are copied under their names."""
    (tmp_path / "words.json").write_text('{"a": 1}')
    hyperparameters = configured(enc0_vocab_file="words.json")
    model = tmp_path / "model"
    vocabularies = {"words.json": tmp_path / "words.json"}
    artifact.save(model, network_of(hyperparameters), hyperparameters, training={}, vocabularies=vocabularies)
    assert (model / "words.json").read_text() == '{"a": 1}'
    assert artifact.load(model)[0] == hyperparameters


# ----------------------------------------------------------------------------------------------------------------------
# Writing that fails.
# ----------------------------------------------------------------------------------------------------------------------


@contextmanager
def no_room() -> Iterator[None]:
    """Limit files to 200 bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("words", [0, 1000])
def test_full_disk_leaves_no_partial_file(tmp_path: Path, words: int) -> None:
    """If the weights or a vocabulary do not fit, no file is left."""
    vocabulary = tmp_path / "v.json"
    vocabulary.write_text(json.dumps(list(range(words))))
    hyperparameters = configured()
    network = network_of(hyperparameters)
    vocabularies = {"v.json": vocabulary} if words else {}
    with (
        no_room(),
        pytest.raises(AlgorithmError, match=r"model: the model of 0\.000796 MB cannot be written \(.*large"),
    ):
        artifact.save(tmp_path / "model", network, hyperparameters, training={}, vocabularies=vocabularies)
    assert not (tmp_path / "model").exists()


def test_failed_write_keeps_the_previous_model(tmp_path: Path) -> None:
    """If the last file cannot be written, the previous model stays complete, without other files."""
    hyperparameters = configured()
    saved(tmp_path, hyperparameters)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = network_of(hyperparameters, seed=2)
    with pytest.raises(TypeError):
        artifact.save(tmp_path, other, hyperparameters, training={"epoch": object()}, vocabularies={})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_directory_is_checked_before_the_model_exists(tmp_path: Path) -> None:
    """A writable or missing directory is not changed; a file in its place is refused."""
    artifact.check_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a" / "b").exists()
    (tmp_path / "config.json").write_text("x")
    artifact.check_writable(tmp_path)
    assert (tmp_path / "config.json").read_text() == "x"
    for path in (tmp_path / "config.json", tmp_path / "config.json" / "below"):
        with pytest.raises(UserError, match=r"config\.json.*, wanted a folder that a model can be written to$"):
            artifact.check_writable(path)


def test_saving_again_replaces_the_model(tmp_path: Path) -> None:
    """A second save to the same path gives the second model."""
    saved(tmp_path, configured(), seed=1)
    second = saved(tmp_path, configured(), seed=2)
    assert torch.equal(scores(artifact.load(tmp_path)[1].eval()), scores(second))


# ----------------------------------------------------------------------------------------------------------------------
# What is not loaded.
# ----------------------------------------------------------------------------------------------------------------------

MODEL = "wanted a model directory with config.json and model.safetensors"


def config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Return a function that damages a directory by changing its config.json."""

    def spoil(directory: Path) -> None:
        path = directory / "config.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return spoil


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """Return a function that damages a directory by changing its tensors."""

    def spoil(directory: Path) -> None:
        path = directory / "model.safetensors"
        named = load_file(path)
        change(named)
        save_file(named, path)

    return spoil


def text(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda directory: (directory / name).write_bytes(content)


def cut(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def grown(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"more")


def folder(name: str) -> Callable[[Path], None]:
    def spoil(directory: Path) -> None:
        (directory / name).unlink()
        (directory / name).mkdir()

    return spoil


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), f"config.json: No such file or directory, {MODEL}"),
    "config a folder": (folder("config.json"), f"config.json: Is a directory, {MODEL}"),
    "config no JSON": (text("config.json", b"{"), "config.json: not JSON (Expecting property name"),
    "config no text": (text("config.json", b"\xff\xfe{"), "config.json: not JSON ("),
    "config too deep": (text("config.json", b"[" * 100_000), "config.json: not JSON ("),
    "config a list": (text("config.json", b"[1]"), f"config.json: not an object, {MODEL}"),
    "config of another": (
        text("config.json", b'{"model_type": "bert"}'),
        f"config.json: no format_version, {MODEL} written by object2vec",
    ),
    "version as text": (config(lambda c: c.update(format_version="1")), f"config.json: no format_version, {MODEL}"),
    "version true": (config(lambda c: c.update(format_version=True)), f"config.json: no format_version, {MODEL}"),
    "newer": (
        config(lambda c: c.update(format_version=2, object2vec_version="9.1")),
        "config.json: written by object2vec 9.1 in format 2, wanted format 1 or older; use a newer object2vec",
    ),
    "no hyperparameters": (config(lambda c: c.pop("hyperparameters")), "config.json: its hyperparameters cannot be"),
    "null hyperparameters": (
        config(lambda c: c.update(hyperparameters=None)),
        "config.json: its hyperparameters cannot be read",
    ),
    "listed hyperparameters": (
        config(lambda c: c.update(hyperparameters=[1])),
        "config.json: its hyperparameters cannot be read",
    ),
    "unknown hyperparameter": (
        config(lambda c: c["hyperparameters"].update(heads=1, layers=2)),
        "config.json: its hyperparameters cannot be read (heads: no such hyperparameter, the nearest is ",
    ),
    "no weights": (
        lambda d: (d / "model.safetensors").unlink(),
        "model.safetensors: truncated, damaged or missing (No such file or directory",
    ),
    "weights a folder": (folder("model.safetensors"), "model.safetensors: truncated, damaged or missing ("),
    "weights cut": (cut, "model.safetensors: truncated, damaged or missing ("),
    "weights grown": (grown, "model.safetensors: truncated, damaged or missing ("),
    "weights empty": (text("model.safetensors", b""), "model.safetensors: truncated, damaged or missing ("),
    "weights pickled": (
        lambda d: torch.save({"a": torch.ones(1)}, d / "model.safetensors"),
        "model.safetensors: truncated, damaged or missing (",
    ),
    "a tensor missing": (
        tensors(lambda t: t.pop("head.output.bias")),
        "model.safetensors: does not fit config.json, the tensors differ in head.output.bias",
    ),
    "a tensor more": (
        tensors(lambda t: t.update(extra=torch.ones(1))),
        "model.safetensors: does not fit config.json, the tensors differ in extra",
    ),
    "another shape": (
        tensors(lambda t: t.update({"head.output.bias": torch.ones(3)})),
        "model.safetensors: does not fit config.json, head.output.bias is (3,) of torch.float32, "
        "wanted (2,) of torch.float32",
    ),
    "another type": (
        tensors(lambda t: t.update({"head.output.bias": torch.ones(2).half()})),
        "model.safetensors: does not fit config.json, head.output.bias is (2,) of torch.float16, "
        "wanted (2,) of torch.float32",
    ),
    "another configuration": (
        config(lambda c: c["hyperparameters"].update(enc0_vocab_size=10)),
        "model.safetensors: does not fit config.json, enc0.embedding.weight is (9, 4) of torch.float32, "
        "wanted (10, 4) of torch.float32",
    ),
}


@pytest.mark.parametrize(("spoil", "sentence"), SPOILED.values(), ids=list(SPOILED))
def test_invalid_model_is_refused(tmp_path: Path, spoil: Callable[[Path], object], sentence: str) -> None:
    """The error of a truncated, foreign, newer or incompatible file names the file and the fault."""
    saved(tmp_path, configured())
    spoil(tmp_path)
    with pytest.raises(ArtifactError) as caught:
        artifact.load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/{sentence}")
    assert "\n" not in str(caught.value)


def test_missing_directory_is_refused(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(ArtifactError, match=r"none/config\.json: No such file or directory"):
        artifact.load(tmp_path / "none")
