"""A model directory: `config.json`, `model.safetensors`, and vocabulary files.

Other programs can read it. `config.json` has `format_version` and the hyperparameters under the built-in's names.
The documentation lists the names of the tensors. A model directory contains no code and no pickle.
Only functions that need tensors import torch, so that a command can check `config.json` first.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open

import object2vec
from object2vec.atomic_files import write_atomically
from object2vec.data.disk_arrays import empty
from object2vec.data.files import read_object
from object2vec.errors import AlgorithmError, ArtifactError, HyperparameterError, UserError
from object2vec.hyperparameters import INDEX_FILES, MODEL_FILES, SCHEMA_FILES, Hyperparameters, parse
from object2vec.schema.schema import SCHEMA_FILE, Schema

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from object2vec.model.network import Network

FORMAT_VERSION: Final = 1
CONFIG, WEIGHTS = MODEL_FILES
#: Rows of a table that are converted at a time, so that intermediate results stay small.
CHUNK_ROWS: Final = 2**12
#: Bytes of a block that a fingerprint reads, and the number of blocks.
BLOCK_BYTES: Final = 2**16
FINGERPRINT_BLOCKS: Final = 256


def save(
    directory: Path,
    network: Network,
    hyperparameters: Hyperparameters,
    *,
    training: Mapping[str, Any],
    vocabularies: Mapping[str, Path],
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model directory. All files are complete on the disk before the first one replaces an older one.

    `training` describes the training in JSON values. `vocabularies` maps names to files of vocabularies and
    of the schema, which are copied.
    `weights` replace the parameters of the network that have the same names.

    Raises:
        AlgorithmError: the files cannot be written; existing ones are unchanged.
    """
    from safetensors.torch import save_file

    # A tied table belongs to both encoders and is one tensor in the file.
    named = dict(network.named_parameters()) | dict(weights or {})
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
    if hyperparameters.token_embedding_dtype == "float16":
        tensors |= {name: to_float16(tensors[name]) for name in _tables(network)}
    config = {
        "format_version": FORMAT_VERSION,
        "object2vec_version": object2vec.__version__,
        "hyperparameters": hyperparameters.to_dict(),
        "training": dict(training),
    }
    fills: dict[str, Callable[[Path], object]] = {
        **{name: partial(_copy, path) for name, path in vocabularies.items()},
        WEIGHTS: partial(save_file, tensors),
        CONFIG: lambda path: path.write_text(json.dumps(config, indent=2) + "\n"),
    }
    try:
        write_atomically(directory, fills)
        for path in [*(directory / name for name in set(SCHEMA_FILES) - set(fills)), *directory.glob(INDEX_FILES)]:
            path.unlink(missing_ok=True)  # of an older model
    except (OSError, SafetensorError) as error:
        size = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
        raise AlgorithmError(f"{directory}: the model of {size:.3g} MB cannot be written ({error})") from error


def _copy(source: Path, target: Path) -> None:
    """Copy a file, which may be in S3."""
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written)


def check_writable(directory: Path) -> None:
    """Check that a model can be written to a directory.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_atomically(directory, {})
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror}, wanted a folder that a model can be written to") from error


def read_config(directory: Path) -> Hyperparameters:
    """Return the hyperparameters of a model directory. Weights are not read.

    Raises:
        ArtifactError: there is no model, or it is of another program or a newer format.
    """
    path = directory / CONFIG
    wanted = f"wanted a model directory with {CONFIG} and {WEIGHTS}"
    config = read_object(path, wanted, ArtifactError)
    version = config.get("format_version")
    if type(version) is not int:
        raise ArtifactError(f"{path}: no format_version, {wanted} written by object2vec")
    if version > FORMAT_VERSION:
        made = f"written by object2vec {config.get('object2vec_version')} in format {version}"
        raise ArtifactError(f"{path}: {made}, wanted format {FORMAT_VERSION} or older; use a newer object2vec")
    try:
        values = config["hyperparameters"]
        # A later recipe may set hyperparameters that the model's version did not have.
        return replace(parse(values | {"recipe": ""}).hyperparameters, recipe=values.get("recipe", "none"))
    except (KeyError, TypeError, AttributeError, HyperparameterError) as error:
        what = "; ".join(str(error).splitlines())
        raise ArtifactError(f"{path}: its hyperparameters cannot be read ({what}), {wanted}") from error


def fingerprint(directory: Path) -> str:
    """Return a hash of the weights of a model directory: of the file's size, its ends and blocks between them.

    Training changes all layers, so that a part of the file is enough. It takes no time for large models.
    """
    path = directory / WEIGHTS
    with _weights(path, "numpy"), path.open("rb") as file:
        size = path.stat().st_size
        digest = hashlib.blake2b(str(size).encode(), digest_size=16)
        starts = range(0, size, max(BLOCK_BYTES, size // FINGERPRINT_BLOCKS))
        for start in (*starts, max(0, size - BLOCK_BYTES)):
            file.seek(start)
            digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()


def check_model(directory: Path) -> Hyperparameters:
    """Return the hyperparameters of a model directory, and check that its weights are complete, without torch.

    Raises:
        ArtifactError: see `read_config`; or the weights are missing or truncated.
    """
    hyperparameters = read_config(directory)
    with _weights(directory / WEIGHTS, "numpy"):
        return hyperparameters


@contextmanager
def _weights(path: Path, framework: str, device: str = "cpu") -> Iterator[Any]:
    """Open the tensors of a file.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework=framework, device=device) as tensors:
            yield tensors
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: truncated, damaged or missing ({error})") from error


def read_training(directory: Path) -> dict[str, Any]:
    """Return what a model directory records about its training; empty if it records nothing."""
    training = read_object(directory / CONFIG, "wanted a model directory", ArtifactError).get("training")
    return training if isinstance(training, dict) else {}


def read_schema(directory: Path) -> Schema | None:
    """Return the schema of a model directory; None for a model that was trained on token ids.

    Raises:
        ArtifactError: a file of the schema is missing or damaged.
    """
    return Schema.load(directory) if (directory / SCHEMA_FILE).exists() else None


def read_epochs(directory: Path) -> int:
    """Return the number of epochs that a model was trained, at least 1; 1 if it is not recorded."""
    epochs = read_training(directory).get("epochs")
    return min(max(epochs, 1), 10**6) if type(epochs) is int else 1


def load(
    directory: Path, *, with_head: bool = True, device: torch.device | None = None
) -> tuple[Hyperparameters, Network]:
    """Load a model directory.

    Raises:
        ArtifactError: see `read_config`; or the weights are missing, truncated, or do not fit the configuration.
    """
    from object2vec.model.network import network_of_shapes

    hyperparameters = read_config(directory)
    path = directory / WEIGHTS
    network = network_of_shapes(hyperparameters, with_head=with_head)
    with _weights(path, "pt", str(device or "cpu")) as tensors:
        _fill(path, network, tensors)
    return hyperparameters, network


def to_float16(table: Tensor) -> Tensor:
    """Return a table of token embeddings (V, E), on the CPU, in float16; values outside its range are clamped."""
    import torch

    largest = torch.finfo(torch.float16).max
    half = torch.from_numpy(empty(table.numel(), np.float16)).view_as(table)
    for start in range(0, len(table), CHUNK_ROWS):
        half[start : start + CHUNK_ROWS] = table[start : start + CHUNK_ROWS].clamp(-largest, largest)
    return half


def _fill(path: Path, network: Network, tensors: Any) -> None:
    """Replace the parameters by the tensors of the file. Names, shapes and types must agree."""
    import torch

    parameters = dict(network.named_parameters())
    stored = {name for name in tensors.keys() if network.head is not None or not name.startswith("head.")}  # noqa: SIM118
    if stored != set(parameters):
        names = ", ".join(sorted(stored ^ set(parameters)))
        raise ArtifactError(f"{path}: does not fit {CONFIG}, the tensors differ in {names}")
    tables = _tables(network)
    for name, parameter in parameters.items():
        tensor = tensors.get_tensor(name)
        half = name in tables and tensor.dtype == torch.float16
        if tensor.shape != parameter.shape or (tensor.dtype != parameter.dtype and not half):
            got, wanted = (f"{tuple(t.shape)} of {t.dtype}" for t in (tensor, parameter))
            raise ArtifactError(f"{path}: does not fit {CONFIG}, {name} is {got}, wanted {wanted}")
        parameters[name] = tensor
    network.load_state_dict(parameters, strict=False, assign=True)  # a tied table has one of its two names


def _tables(network: Network) -> set[str]:
    """Return the names of the parameters that are tables of token embeddings."""
    tables = {table.weight for table in network.tables}
    return {name for name, parameter in network.named_parameters() if parameter in tables}
