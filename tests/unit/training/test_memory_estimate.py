"""What a configuration needs of memory: sizes that are those of the network, and who is told what would help."""

from __future__ import annotations

import errno

import pytest
import torch

from object2vec import resources
from object2vec.errors import AlgorithmError
from object2vec.training.memory_estimate import check_memory, describe_memory_need, explain_memory_errors
from small import configured, network_of

GB = 10**9
CPU = torch.device("cpu")


@pytest.mark.parametrize("changes", [{}, {"network": "hcnn", "tied_token_embedding_weight": True}])
def test_the_weights_are_as_large_as_the_network(changes: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """What training takes at least is the weights, what the optimizer keeps, and gradients of all but tables."""
    hyperparameters = configured(optimizer="adam", **changes)
    network = network_of(hyperparameters)
    tables = {encoder.embedding.weight for encoder in (network.enc0, network.enc1)}
    needed = 4 * sum((3 if p in tables else 4) * p.numel() for p in network.parameters())
    monkeypatch.setattr(resources, "memory_limit", lambda: needed)
    check_memory(hyperparameters, CPU)
    monkeypatch.setattr(resources, "memory_limit", lambda: needed - 1)
    with pytest.raises(AlgorithmError, match="training takes at least"):
        check_memory(hyperparameters, CPU)


def test_row_sparse_and_sgd_need_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that no batch touches have no gradient and nothing kept for them; sgd keeps nothing at all."""
    large = {"enc0_vocab_size": 1_000_000, "enc0_token_embedding_dim": 250}  # 1 GB a table, and two of them
    monkeypatch.setattr(resources, "memory_limit", lambda: int(2.1 * GB))
    check_memory(configured(**large, token_embedding_storage_type="row_sparse"), CPU)
    with pytest.raises(AlgorithmError, match=r"\(training takes at least 6 GB\).*optimizer=adam keeps 2 more"):
        check_memory(configured(**large), CPU)
    with pytest.raises(AlgorithmError, match=r"\(training takes at least 6 GB\).*optimizer=rmsprop keeps 1 more"):
        check_memory(configured(**large, optimizer="rmsprop"), CPU)
    check_memory(configured(**large, optimizer="sgd"), CPU)
    with pytest.raises(AlgorithmError, match=r"\(training takes at least 4 GB\).*optimizer=sgd keeps no more numbers"):
        check_memory(configured(**large, optimizer="sgd", ema_decay=0.9), CPU)
    check_memory(configured(**large), torch.device("cuda"))  # where the gradients are then


def test_what_would_help_is_what_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small weights leave the batch; else it is the larger part of the weights."""
    monkeypatch.setattr(resources, "memory_limit", lambda: GB)
    assert describe_memory_need(configured()).endswith(
        "a mini_batch_size below 32, or a smaller enc0_max_seq_len would help"
    )
    tables = configured(enc0_vocab_size=500_000, enc0_token_embedding_dim=300)
    assert "; a smaller token_embedding_dim or vocab_size, " in describe_memory_need(tables)
    layers = configured(mlp_dim=10_000, mlp_layers=3)
    assert describe_memory_need(layers).endswith("; a smaller enc_dim or mlp_dim, or optimizer=sgd would help")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no room"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to\nmore"
        ),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("can't start new thread"),
    ],
)
def test_every_needs_of_is_explained(error: Exception) -> None:
    """However it is said, it becomes the sentence of the configuration; one line of what was said is in it."""
    with pytest.raises(AlgorithmError, match=r"^Out of memory \(.*mini_batch_size") as raised:
        failing(error)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), RuntimeError("shape"), ValueError("x")])
def test_other_errors_stay(error: Exception) -> None:
    """What is no lack of memory is not called one."""
    with pytest.raises(type(error)) as raised:
        failing(error)
    assert raised.value is error


def failing(error: Exception) -> None:
    with explain_memory_errors(configured()):
        raise error
