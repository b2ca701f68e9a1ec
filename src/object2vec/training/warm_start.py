"""A model to go on from: found, unpacked, held against the configuration, and taken over."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final

import torch

from object2vec import artifact
from object2vec.artifact import CONFIG, WEIGHTS
from object2vec.errors import ArtifactError
from object2vec.hyperparameters import Hyperparameters
from object2vec.model.network import Network

PACKED: Final = "model.tar.gz"
#: Bytes that an archive may hold beside the weights: the tar's own, config.json, vocabularies.
BESIDE: Final = 2**30


def go_on(path: Path, network: Network, hyperparameters: Hyperparameters) -> int:
    """Give a network the weights of the model at `path`; the rows of a vocabulary that has grown stay as they are.

    Returns for how many epochs they were trained.

    Raises:
        ArtifactError: there is no model, or one whose hyperparameters do not go with these; all of them are named.
    """
    bytes_ = sum(4 * parameter.numel() for parameter in network.parameters())
    with opened(path, bytes_) as directory:
        theirs, model = artifact.load(directory)
        if faults := differences(theirs, hyperparameters):
            wanted = "wanted the same, or a vocabulary that grows"
            raise ArtifactError(f"the model to go on from does not fit: {'; '.join(faults)}, {wanted}")
        weights = dict(model.named_parameters())
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter[: len(weights[name])] = weights[name]
        return artifact.read_epochs(directory)


def locate(path: Path) -> Path:
    """The model at `path`: the archive that it is or that lies in it, or else itself, a directory."""
    return path / PACKED if (path / PACKED).is_file() and not (path / CONFIG).exists() else path


@contextmanager
def opened(path: Path, most: int) -> Iterator[Path]:
    """Within, the model at `path` as a directory; where it is packed, its weights may have `most` bytes.

    Raises:
        ArtifactError: see `unpack`.
    """
    path = locate(path)
    if path.is_dir():
        yield path
    else:
        with tempfile.TemporaryDirectory(prefix="object2vec-") as directory:
            unpack(path, Path(directory), most)
            yield Path(directory)


def unpack(archive: Path, directory: Path, most: int) -> None:
    """Take the files of a model out of a .tar.gz, and nothing else; no name in it decides where anything is written.

    Raises:
        ArtifactError: it is missing or damaged; or it has what no model has: links and devices, names that lead out of
            it, more bytes than a model of this size.
    """
    try:
        with gzip.open(archive) as stream, _members(stream, most + BESIDE) as members:
            for member in members:
                members.members.clear()  # which else grow with what is read
                name = PurePosixPath(member.name)
                if not (member.isfile() or member.isdir()) or member.issparse() or {"/", ".."} & set(name.parts):
                    raise ArtifactError(f"{archive}: {member.name!r} is no file of a model, wanted {CONFIG}, {WEIGHTS}")
                if str(name) in (CONFIG, WEIGHTS) and (source := members.extractfile(member)):
                    with source, (directory / name).open("wb") as target:
                        shutil.copyfileobj(source, target, 2**20)
    except _TooLarge:
        raise ArtifactError(f"{archive}: unpacks to more than a model of this job has ({most} bytes)") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ArtifactError(f"{archive}: cannot be unpacked ({error}), wanted a {PACKED} that training made") from error


def _members(stream: Any, most: int) -> Any:
    bounded: Any = _Bounded(stream, most)
    return tarfile.open(fileobj=bounded, mode="r|")


class _TooLarge(Exception):  # noqa: N818 -- never leaves this module
    pass


class _Bounded:
    """A stream that ends with an exception past so many bytes: what unpacks to any size is not unpacked."""

    def __init__(self, stream: Any, left: int) -> None:
        self.stream = stream
        self.left = left

    def read(self, size: int) -> bytes:
        block: bytes = self.stream.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise _TooLarge
        return block


def differences(theirs: Hyperparameters, ours: Hyperparameters) -> list[str]:
    """The hyperparameters that keep a configuration from going on with a model of another one.

    A vocabulary may grow; what says how to train may be anything.
    """
    pairs: dict[str, tuple[object, object]] = {}
    for side, (one, other) in enumerate(zip(theirs.encoders, ours.encoders, strict=True)):
        names = ["network", "token_embedding_dim", "layers"]
        names += ["cnn_filter_width"] if one.network == other.network == "hcnn" else []
        pairs |= {f"enc{side}_{name}": (getattr(one, name), getattr(other, name)) for name in names}
    names = ["comparator_list", "tied_token_embedding_weight", "mlp_layers", "output_layer"]
    names += ["enc_dim"] if any(e.network != "pooled_embedding" for e in (*theirs.encoders, *ours.encoders)) else []
    names += ["mlp_dim", "mlp_activation"] if theirs.mlp_layers or ours.mlp_layers else []
    names += [] if theirs.regression and ours.regression else ["num_classes"]
    pairs |= {name: (getattr(theirs, name), getattr(ours, name)) for name in names}
    faults = [
        f"{name} is {_text(there)} there and {_text(here)} here"
        for name, (there, here) in pairs.items()
        if there != here
    ]
    for side, (one, other) in enumerate(zip(theirs.encoders, ours.encoders, strict=True)):
        if one.vocab_size > other.vocab_size:
            faults.append(f"enc{side}_vocab_size is {one.vocab_size} there and less here, {other.vocab_size}")
    return faults


def _text(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
