"""A model to go on from: what is in it goes on, and nothing else of an archive is unpacked."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from object2vec import artifact
from object2vec.errors import ArtifactError
from object2vec.hyperparameters import Hyperparameters
from object2vec.training import warm_start
from object2vec.training.warm_start import differences, go_on, unpack
from small import configured, network_of


def saved(folder: Path, hyperparameters: Hyperparameters, *, epochs: object = 7) -> Path:
    """A model directory."""
    network = network_of(hyperparameters)
    artifact.save(folder, network, hyperparameters, training={"epochs": epochs}, vocabularies={})
    return folder


def packed(folder: Path, archive: Path) -> Path:
    """A model directory as the platform packs it."""
    archive.parent.mkdir(exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, ".")
    return archive


def holding(archive: Path, *members: tarfile.TarInfo) -> Path:
    """An archive of these members, each of which has as many zeros as it says."""
    with tarfile.open(archive, "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return archive


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, linkname: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.linkname = kind, size, linkname
    return made


@pytest.mark.parametrize("form", ["directory", "folder with an archive", "archive"])
@pytest.mark.parametrize("changes", [{}, {"tied_token_embedding_weight": True}, {"network": "hcnn", "enc0_layers": 2}])
def test_the_weights_are_the_models(tmp_path: Path, form: str, changes: dict[str, object]) -> None:
    """Bit for bit, in each form that a channel may have; how long they were trained is said."""
    hyperparameters = configured(**changes)
    path = saved(tmp_path / "model", hyperparameters)
    if form != "directory":
        path = packed(path, tmp_path / "channel" / "model.tar.gz")
    network = network_of(hyperparameters, seed=2)
    assert go_on(path.parent if form.startswith("folder") else path, network, hyperparameters) == 7
    wanted = network_of(hyperparameters).state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in network.state_dict().items())


def test_a_model_in_half_precision_goes_on_in_single_precision(tmp_path: Path) -> None:
    """Whichever the new model is to be in."""
    path = saved(tmp_path, configured(token_embedding_dtype="float16"))
    network = network_of(configured(), seed=2)
    go_on(path, network, configured())
    wanted = network_of(configured())
    assert torch.equal(network.enc0.embedding.weight, wanted.enc0.embedding.weight.half().float())
    assert torch.equal(network.enc1.embedding.weight, wanted.enc1.embedding.weight.half().float())


def test_a_vocabulary_may_grow(tmp_path: Path) -> None:
    """The rows of before are the model's, the new ones as they were, in either table."""
    second = {"enc1_network": "pooled_embedding", "enc1_max_seq_len": 6, "enc1_token_embedding_dim": 4}
    path = saved(tmp_path, configured(**second, enc1_vocab_size=5))
    grown = configured(**second, enc1_vocab_size=5, enc0_vocab_size=12)
    network, before = network_of(grown, seed=2), network_of(grown, seed=2)
    go_on(path, network, grown)
    _, model = artifact.load(path)
    table, other = network.enc0.embedding.weight, network.enc1.embedding.weight
    assert torch.equal(table[:9], model.enc0.embedding.weight)
    assert torch.equal(table[9:], before.enc0.embedding.weight[9:])
    assert torch.equal(other, model.enc1.embedding.weight)


@pytest.mark.parametrize(
    ("there", "here", "sentences"),
    [
        ({}, {"enc0_token_embedding_dim": 5}, ["enc0_token_embedding_dim is 4 there and 5 here"]),
        ({"mlp_dim": 6}, {"mlp_layers": 1}, ["mlp_layers is 2 there and 1 here", "mlp_dim is 6 there and 5 here"]),
        ({"network": "hcnn"}, {"network": "hcnn", "enc_dim": 8}, ["enc_dim is 7 there and 8 here"]),
        (
            {"network": "hcnn"},
            {"network": "hcnn", "enc0_cnn_filter_width": 2},
            ["cnn_filter_width is 3 there and"],
        ),
        (
            {"comparator_list": "concat"},
            {"comparator_list": "concat, hadamard"},
            ["list is concat there and "],
        ),
        ({}, {"output_layer": "mean_squared_error"}, ["output_layer is softmax there and mean_squared_error here"]),
        ({}, {"num_classes": 3}, ["num_classes is 2 there and 3 here"]),
        ({"mlp_activation": "tanh"}, {}, ["mlp_activation is tanh there and linear here"]),
        ({}, {"tied_token_embedding_weight": True}, ["tied_token_embedding_weight is False there and True here"]),
        ({}, {"enc0_vocab_size": 8}, ["enc0_vocab_size is 9 there and less here, 8"]),
    ],
)
def test_what_must_agree_is_named(there: dict, here: dict, sentences: list[str], tmp_path: Path) -> None:
    """All of it, in one sentence."""
    path = saved(tmp_path, configured(**there))
    with pytest.raises(ArtifactError) as raised:
        go_on(path, network_of(configured(**here)), configured(**here))
    assert [sentence for sentence in sentences if sentence not in str(raised.value)] == []


def test_what_says_how_to_train_may_be_anything() -> None:
    """The optimizer, batches, how tables are stored, how long inputs are read; and what has no effect."""
    here = configured(
        optimizer="sgd",
        learning_rate=0.5,
        token_embedding_storage_type="row_sparse",
        enc0_max_seq_len=99,
        dropout=0.5,
        enc_dim=8,
        enc0_cnn_filter_width=5,
    )
    assert differences(configured(), here) == []
    assert differences(configured(mlp_layers=0, mlp_dim=3), configured(mlp_layers=0)) == []


def spoil_end(archive: Path) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])


def spoil_form(archive: Path) -> None:
    archive.write_bytes(b"PK\x03\x04 something else")


def spoil_tar(archive: Path) -> None:
    archive.write_bytes(gzip.compress(b"no tar at all" * 100))


def remove_config(archive: Path) -> None:
    holding(archive, member("model.safetensors", size=10))


@pytest.mark.parametrize("spoil", [spoil_end, spoil_form, spoil_tar, remove_config, Path.unlink, lambda a: holding(a)])
def test_an_archive_without_a_model_is_refused(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    """Truncated, of another form, empty or missing: one sentence that names the file or what is not in it."""
    hyperparameters = configured()
    archive = packed(saved(tmp_path / "model", hyperparameters), tmp_path / "model.tar.gz")
    spoil(archive)
    with pytest.raises(ArtifactError, match=r"model\.tar\.gz: cannot be unpacked \(|config\.json: No such file"):
        go_on(archive, network_of(hyperparameters), hyperparameters)


@pytest.mark.parametrize(
    "bad",
    [
        member("../model.safetensors", size=1),
        member("/etc/passwd", size=1),
        member("a/../../b", size=1),
        member("config.json", tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("config.json", tarfile.LNKTYPE, linkname="model.safetensors"),
        member("config.json", tarfile.CHRTYPE),
        member("config.json", tarfile.BLKTYPE),
        member("config.json", tarfile.FIFOTYPE),
        member("config.json", tarfile.GNUTYPE_SPARSE),
    ],
    ids=lambda bad: f"{bad.name} {bad.type.decode()}",
)
def test_an_archive_with_what_no_model_has_is_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    """Names that lead out of it, links, devices: named, and nothing of it is written anywhere."""
    target = tmp_path / "in" / "target"
    target.mkdir(parents=True)
    archive = holding(tmp_path / "in" / "model.tar.gz", bad)
    with pytest.raises(ArtifactError, match=r"is no file of a model|cannot be unpacked"):
        unpack(archive, target, 1000)
    assert list(target.iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["model.tar.gz", "target"]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_only_a_models_files_are_unpacked(tmp_path: Path) -> None:
    """Those of the top folder; programs, folders and vocabularies stay in the archive."""
    names = ("./config.json", "code/inference.py", "./model.safetensors", "v.json", "sub/config.json")
    archive = holding(tmp_path / "model.tar.gz", member("sub", tarfile.DIRTYPE), *(member(n, size=3) for n in names))
    (tmp_path / "target").mkdir()
    unpack(archive, tmp_path / "target", 1000)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "config.json",
        "model.safetensors",
        "model.tar.gz",
        "target",
    ]


@pytest.mark.parametrize("name", ["model.safetensors", "anything"])
def test_a_bomb_is_not_unpacked(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What unpacks to more than a model of this size ends there, whichever member it is; little of it is written."""
    monkeypatch.setattr(warm_start, "BESIDE", 10_000)
    archive = holding(tmp_path / "model.tar.gz", member(name, size=5_000_000))
    assert archive.stat().st_size < 10_000
    (tmp_path / "target").mkdir()
    with pytest.raises(ArtifactError, match=r"unpacks to more than a model of this job has \(1000 bytes\)"):
        unpack(archive, tmp_path / "target", 1000)
    assert sum(path.stat().st_size for path in (tmp_path / "target").iterdir()) < 20_000


@pytest.mark.parametrize(("said", "epochs"), [(3, 3), (0, 1), (-2, 1), ("many", 1), (None, 1), (10**30, 10**6)])
def test_how_long_a_model_was_trained(tmp_path: Path, said: object, epochs: int) -> None:
    """What its config.json says, within bounds."""
    assert artifact.read_epochs(saved(tmp_path, configured(), epochs=said)) == epochs
