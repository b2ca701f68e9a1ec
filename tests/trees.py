"""A small job in the layout of `/opt/ml`, for tests of errors."""

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
    """Return lines of a channel, which depend on `first`."""
    rows = ({"in0": [n % 20], "in1": [(3 * n) % 20, n % 7], "label": n % 2} for n in range(first, first + count))
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def tree(base: Path, channels: Mapping[str, object], hyperparameters: Mapping[str, str] = HYPERPARAMETERS) -> Path:
    """Create the tree with configured channels without files; return the data folder."""
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
    """Create the tree with one file per channel, by default only `train`."""
    files = files or {"train": lines_of(30)}
    data = tree(
        base, {name: {"TrainingInputMode": "File"} for name in files}, HYPERPARAMETERS | (hyperparameters or {})
    )
    for name, content in files.items():
        (data / name).mkdir()
        (data / name / "part-0.jsonl").write_bytes(content)
    return base


def failure_of(base: Path) -> str:
    """Run a job that must fail, and return its failure file, which must be one sentence."""
    with pytest.raises(ClientError):
        training.main()
    sentence = (base / "output" / "failure").read_text()
    assert len(sentence) <= 1024
    assert sentence.isprintable()
    return sentence


def train_within(kind: int, room: int) -> None:
    """Run the image's `train` with at most `room` bytes of the resource `kind`.

    For address space, the current size is added.
    """
    if kind == resource.RLIMIT_AS:
        room += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(kind, (room, resource.RLIM_INFINITY))
    training.train()
