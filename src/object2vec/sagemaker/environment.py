"""Read and check the platform's configuration files in /opt/ml."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from object2vec.data.files import read_object
from object2vec.errors import UserError

#: The platform's ways to give a channel: a folder that it has filled, one that it fills as files are opened, or pipes.
INPUT_MODES: Final = ("File", "FastFile", "Pipe")
HYPERPARAMETERS: Final = "hyperparameters.json"
INPUTS: Final = "inputdataconfig.json"
RESOURCES: Final = "resourceconfig.json"
CONFIG_FILES: Final = (HYPERPARAMETERS, INPUTS, RESOURCES)
#: Channels whose files are distinguished by their names, which a pipe does not have.
NEVER_PIPES: Final = ("auxiliary", "model")


class Directories:
    """The platform's folders under one base, `/opt/ml` unless `SAGEMAKER_BASE_DIR` says otherwise."""

    def __init__(self, base: Path) -> None:
        self.config = base / "input" / "config"
        self.data = base / "input" / "data"
        self.model = base / "model"
        self.failure = base / "output" / "failure"
        self.checkpoints = base / "checkpoints"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Directories:
        return cls(Path(environment.get("SAGEMAKER_BASE_DIR", "/opt/ml")))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingEnvironment:
    """The configuration of a training job, as the platform describes it.

    The channels in `pipes` are in Pipe mode. Each host has a part of the files of the channels in `sharded`. `hosts`
    has the same order on all hosts. `interface` connects them; it may not exist. `checkpoints` is None if the job has
    none. `warnings` name missing files and the values assumed instead.
    """

    hyperparameters: Mapping[str, object]
    channels: Mapping[str, Path]
    content_types: Mapping[str, str]
    pipes: frozenset[str]
    sharded: frozenset[str]
    host: str
    hosts: Sequence[str]
    interface: str
    checkpoints: Path | None
    warnings: Sequence[str]

    @classmethod
    def read(cls, directories: Directories) -> TrainingEnvironment:
        """Read the configuration files.

        Channels are those that `inputdataconfig.json` names: the data folder has other files next to them.

        Raises:
            UserError: `hyperparameters.json` is missing, or a file is not what the platform writes.
        """
        warnings: list[str] = []
        hyperparameters, inputs, resources = (read_config(directories, name, warnings) for name in CONFIG_FILES)
        _check_inputs(directories.config / INPUTS, inputs)
        pipes = frozenset(name for name, channel in inputs.items() if channel.get("TrainingInputMode") == "Pipe")
        sharding = {name: channel.get("S3DistributionType") for name, channel in inputs.items()}
        return cls(
            hyperparameters=hyperparameters,
            channels={name: directories.data / (f"{name}_0" if name in pipes else name) for name in inputs},
            content_types={name: str(kind) for name, channel in inputs.items() if (kind := channel.get("ContentType"))},
            pipes=pipes,
            sharded=frozenset(name for name in inputs if sharding[name] == "ShardedByS3Key"),
            host=_host(directories.config / RESOURCES, resources),
            hosts=sorted(resources["hosts"]),
            interface=str(resources.get("network_interface_name") or ""),
            checkpoints=_checkpoints(directories),
            warnings=warnings,
        )


def read_config(directories: Directories, name: str, warnings: list[str]) -> dict[str, Any]:
    """Return the object in a configuration file; append a warning if the file is missing or spelt in another way.

    Tests on a laptop, such as AWS's own sample, often lack the files but the hyperparameters.

    Raises:
        UserError: the file is no JSON object, or `hyperparameters.json` is missing.
    """
    path = directories.config / name
    if path.exists() or name == HYPERPARAMETERS:
        return read_object(path, "wanted a JSON object")
    for other in sorted(directories.config.glob("*")):
        if other.name.lower() == name:
            warnings.append(f"{other} is read in place of {name}")
            return read_object(other, "wanted a JSON object")
    if name == RESOURCES:
        warnings.append(f"{path}: No such file or directory; one host is assumed")
        return {"current_host": "algo-1", "hosts": ["algo-1"]}
    folders = sorted(entry.name for entry in directories.data.glob("[!._]*") if entry.is_dir())
    what = f"the channels are the folders in {directories.data}: {', '.join(folders) or 'none'}"
    warnings.append(f"{path}: No such file or directory; {what}")
    return {folder: {"TrainingInputMode": "File"} for folder in folders}


def _check_inputs(path: Path, inputs: Mapping[str, Any]) -> None:
    """Check the configuration of each channel."""
    for name, channel in inputs.items():
        where = f"{path}: channel {name}"
        if not isinstance(channel, dict):
            raise UserError(f'{where}: wanted an object like {{"TrainingInputMode": "File"}}')
        mode, wrapper = channel.get("TrainingInputMode") or "File", channel.get("RecordWrapperType") or "None"
        if mode not in INPUT_MODES:
            raise UserError(f"{where}: TrainingInputMode is {mode}, wanted {', '.join(INPUT_MODES)}")
        if mode == "Pipe" and name in NEVER_PIPES:
            raise UserError(f"{where}: TrainingInputMode is Pipe, wanted File: its files have names")
        if wrapper != "None":
            raise UserError(f"{where}: RecordWrapperType is {wrapper}, wanted None: lines are no records")


def _checkpoints(directories: Directories) -> Path | None:
    """Return the checkpoint folder: the configured one, or the default one if it exists."""
    path = directories.config / "checkpointconfig.json"
    if path.exists():
        return Path(str(read_object(path, "wanted a JSON object").get("LocalPath") or directories.checkpoints))
    return directories.checkpoints if directories.checkpoints.is_dir() else None


def _host(path: Path, resources: Mapping[str, Any]) -> str:
    host, hosts = resources.get("current_host"), resources.get("hosts")
    if not isinstance(hosts, list) or host not in hosts or not all(isinstance(name, str) for name in hosts):
        raise UserError(f'{path}: wanted {{"current_host": "algo-1", "hosts": ["algo-1"]}}, the first among the second')
    return str(host)
