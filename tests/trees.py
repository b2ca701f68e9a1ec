"""A small job in the shape of `/opt/ml`, as tests make one to spoil it."""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping
from pathlib import Path

import pytest
from sagemaker_training.errors import ClientError

from object2vec.sagemaker import training

HYPERPARAMETERS: dict[str, str] = {
    "enc0_network": "pooled_embedding",
    "enc0_max_seq_len": "4",
    "enc0_vocab_size": "20",
    "enc0_token_embedding_dim": "4",
    "mlp_dim": "4",
    "epochs": "3",
    "mini_batch_size": "8",
}


def lines_of(count: int, first: int = 0) -> bytes:
    """Lines of a channel; which ones depends on `first`."""
    rows = ({"in0": [n % 20], "in1": [(3 * n) % 20, n % 7], "label": n % 2} for n in range(first, first + count))
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def tree(base: Path, channels: Mapping[str, object], hyperparameters: Mapping[str, str] = HYPERPARAMETERS) -> Path:
    """Make the tree, whose channels are described and have no files yet; returns the folder that is to hold them."""
    config = base / "input" / "config"
    config.mkdir(parents=True)
    (base / "input" / "data").mkdir()
    (base / "output").mkdir()
    for name, document in {
        "hyperparameters": hyperparameters,
        "inputdataconfig": channels,
        "resourceconfig": {"current_host": "127.0.0.1", "hosts": ["127.0.0.1"]},
    }.items():
        (config / f"{name}.json").write_text(json.dumps(document))
    return base / "input" / "data"


def with_files(base: Path, hyperparameters: Mapping[str, str] | None = None, **files: bytes) -> Path:
    """Make the tree with a channel of one file for each of `files`, `train` if none is said."""
    files = files or {"train": lines_of(30)}
    data = tree(
        base, {name: {"TrainingInputMode": "File"} for name in files}, HYPERPARAMETERS | (hyperparameters or {})
    )
    for name, content in files.items():
        (data / name).mkdir()
        (data / name / "part-0.jsonl").write_bytes(content)
    return base


def failure_of(base: Path) -> str:
    """What a job that must fail leaves in its failure file, which is all that its owner is shown: one sentence."""
    with pytest.raises(ClientError):
        training.main()
    sentence = (base / "output" / "failure").read_text()
    assert len(sentence) <= 1024
    assert sentence.isprintable()
    return sentence


def train_within(kind: int, room: int) -> None:
    """The image's `train` in a process that may have no more than `room` bytes of what the resource `kind` limits.

    Of addresses it has those that it has already as well.
    """
    if kind == resource.RLIMIT_AS:
        room += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(kind, (room, resource.RLIM_INFINITY))
    training.train()
