"""Training starts from a given model, and only its files are extracted from an archive."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch

from object2vec import archive, artifact
from object2vec.errors import ArtifactError
from object2vec.hyperparameters import Hyperparameters
from object2vec.training.warm_start import incompatible_settings, load_initial_weights
from small import configured, network_of


def saved(folder: Path, hyperparameters: Hyperparameters, *, epochs: object = 7) -> Path:
    """A model directory."""
    network = network_of(hyperparameters)
    artifact.save(folder, network, hyperparameters, training={"epochs": epochs}, vocabularies={})
    return folder


def packed(folder: Path, file: Path) -> Path:
    """A model directory as the platform packs it."""
    file.parent.mkdir(exist_ok=True)
    with tarfile.open(file, "w:gz") as tar:
        tar.add(folder, ".")
    return file


@pytest.mark.parametrize("form", ["directory", "folder with an archive", "archive"])
@pytest.mark.parametrize(
    "changes",
    [
        *({}, {"tied_token_embedding_weight": True}, {"network": "hcnn", "enc0_layers": 2}),
        {"tied_encoder_weight": True, "network": "bilstm"},
    ],
)
def test_the_weights_are_the_models(tmp_path: Path, form: str, changes: dict[str, object]) -> None:
    """Bit for bit, in each form that a channel may have; how long they were trained is said."""
    hyperparameters = configured(**changes)
    path = saved(tmp_path / "model", hyperparameters)
    if form != "directory":
        path = packed(path, tmp_path / "channel" / "model.tar.gz")
    network = network_of(hyperparameters, seed=2)
    assert load_initial_weights(path.parent if form.startswith("folder") else path, network, hyperparameters) == 7
    wanted = network_of(hyperparameters).state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in network.state_dict().items())


def test_a_model_in_half_precision_goes_on_in_single_precision(tmp_path: Path) -> None:
    """Whichever the new model is to be in."""
    path = saved(tmp_path, configured(token_embedding_dtype="float16"))
    network = network_of(configured(), seed=2)
    load_initial_weights(path, network, configured())
    wanted = network_of(configured())
    assert torch.equal(network.enc0.embedding.weight, wanted.enc0.embedding.weight.half().float())
    assert torch.equal(network.enc1.embedding.weight, wanted.enc1.embedding.weight.half().float())


def test_a_vocabulary_may_grow(tmp_path: Path) -> None:
    """The rows of before are the model's, the new ones as they were, in either table."""
    second = {"enc1_network": "pooled_embedding", "enc1_max_seq_len": 6, "enc1_token_embedding_dim": 4}
    path = saved(tmp_path, configured(**second, enc1_vocab_size=5))
    grown = configured(**second, enc1_vocab_size=5, enc0_vocab_size=12)
    network, before = network_of(grown, seed=2), network_of(grown, seed=2)
    load_initial_weights(path, network, grown)
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
        ({}, {"token_pooling": "sum"}, ["token_pooling is mean there and sum here"]),
        ({}, {"pooled_projection": "tanh"}, ["pooled_projection is none there and tanh here"]),
        ({}, {"tied_token_embedding_weight": True}, ["tied_token_embedding_weight is False there and True here"]),
        ({}, {"tied_encoder_weight": True}, ["tied_encoder_weight is False there and True here"]),
        (
            {"tied_encoder_weight": True, "mark_common_tokens": True},
            {"tied_encoder_weight": True, "mark_common_tokens": True, "enc0_vocab_size": 12},
            [
                f"enc{side}_vocab_size is 9 there and 12 here, and cannot grow with mark_common_tokens"
                for side in (0, 1)
            ],
        ),
        ({}, {"enc0_vocab_size": 8}, ["enc0_vocab_size is 9 there and less here, 8"]),
    ],
)
def test_what_must_agree_is_named(there: dict, here: dict, sentences: list[str], tmp_path: Path) -> None:
    """All of it, in one sentence."""
    path = saved(tmp_path, configured(**there))
    with pytest.raises(ArtifactError) as raised:
        load_initial_weights(path, network_of(configured(**here)), configured(**here))
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
    assert incompatible_settings(configured(), here) == []
    assert incompatible_settings(configured(mlp_layers=0, mlp_dim=3), configured(mlp_layers=0)) == []


def test_an_archive_without_a_model_is_refused(tmp_path: Path) -> None:
    """The sentence names the file."""
    (tmp_path / "model.tar.gz").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ArtifactError, match=r"model\.tar\.gz: a zip archive, wanted a \.tar\.gz"):
        load_initial_weights(tmp_path, network_of(configured()), configured())


def test_an_archive_with_more_than_this_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of this job's network say how much an archive may hold."""
    monkeypatch.setattr(archive, "EXTRA_BYTES", 2000)
    packed(saved(tmp_path / "model", configured(mlp_dim=500)), tmp_path / "model.tar.gz")
    with pytest.raises(ArtifactError, match="unpacks to more than is allowed here"):
        load_initial_weights(tmp_path / "model.tar.gz", network_of(configured()), configured())


@pytest.mark.parametrize(
    ("said", "epochs"), [(3, 3), (3.0, 3), (0, 1), (-2, 1), ("many", 1), (None, 1), (10**30, 10**6)]
)
def test_how_long_a_model_was_trained(tmp_path: Path, said: object, epochs: int) -> None:
    """What its config.json says, within bounds."""
    assert artifact.read_epochs(saved(tmp_path, configured(), epochs=said)) == epochs
