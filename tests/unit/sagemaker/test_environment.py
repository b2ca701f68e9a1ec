"""The platform's configuration files, as different tools write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from object2vec.errors import UserError
from object2vec.sagemaker.environment import Directories, TrainingEnvironment


def read(base: Path, inputs: object, resources: dict[str, object] | None = None) -> TrainingEnvironment:
    """Write the configuration files, and read them."""
    directories = Directories(base)
    directories.config.mkdir(parents=True)
    hosts = {"current_host": "algo-1", "hosts": ["algo-1"]} | (resources or {})
    for name, content in {"hyperparameters": {}, "inputdataconfig": inputs, "resourceconfig": hosts}.items():
        (directories.config / f"{name}.json").write_text(json.dumps(content))
    return TrainingEnvironment.read(directories)


def test_null_counts_as_not_given(tmp_path: Path) -> None:
    """Tools write null for fields that a request does not set."""
    names = ("TrainingInputMode", "RecordWrapperType", "S3DistributionType", "ContentType", "CompressionType")
    environment = read(tmp_path, {"train": dict.fromkeys(names)}, {"network_interface_name": None})
    assert environment.channels == {"train": tmp_path / "input/data/train"}
    assert not environment.pipes
    assert not environment.sharded
    assert environment.content_types == {}
    assert environment.interface == ""
    assert environment.warnings == []


def test_a_checkpoint_folder_of_null_is_the_default(tmp_path: Path) -> None:
    """A `LocalPath` of null names no folder."""
    directories = Directories(tmp_path)
    directories.config.mkdir(parents=True)
    (directories.config / "hyperparameters.json").write_text("{}")
    (directories.config / "checkpointconfig.json").write_text('{"LocalPath": null}')
    assert TrainingEnvironment.read(directories).checkpoints == directories.checkpoints


@pytest.mark.parametrize("host", [None, 1, "algo-2"])
def test_a_current_host_that_is_not_among_the_hosts_is_refused(tmp_path: Path, host: object) -> None:
    with pytest.raises(UserError, match=r"resourceconfig\.json: wanted .*, the first among the second$"):
        read(tmp_path, {}, {"current_host": host})
