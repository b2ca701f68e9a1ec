"""The image before it runs object2vec."""

from __future__ import annotations

from typing import Any

import pytest

from containers import IMAGE, docker

pytestmark = pytest.mark.docker


def in_image(*command: str) -> tuple[int, str]:
    done = docker("run", "--rm", "--network", "none", IMAGE, *command, check=False)
    return done.returncode, done.stdout.strip()


def test_labels_declare_capabilities(image: dict[str, Any]) -> None:
    labels = image["Config"]["Labels"]
    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert labels["com.amazonaws.sagemaker.capabilities.multi-models"] == "true"


def test_open_container_labels_are_set(image: dict[str, Any]) -> None:
    labels = image["Config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == "object2vec"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert in_image("python", "-c", "import object2vec; print(object2vec.__version__)") == (
        0,
        labels["org.opencontainers.image.version"],
    )


def test_image_is_small(image: dict[str, Any]) -> None:
    if IMAGE.endswith(":cpu"):
        assert image["Size"] < 1.6e9


def test_configuration_is_the_platform_s(image: dict[str, Any]) -> None:
    config = image["Config"]
    assert config["Cmd"] == ["train"]
    assert not config["Entrypoint"]
    assert not config["User"]
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert {"PYTHONUNBUFFERED=1", "SAGEMAKER_TRAINING_MODULE=object2vec.sagemaker.training:main"} <= set(config["Env"])


def test_runs_as_root() -> None:
    assert in_image("id", "-u") == (0, "0")


@pytest.mark.parametrize("program", ["train", "serve", "object2vec", "bash", "sh", "python3", "pip"])
def test_program_is_on_path(program: str) -> None:
    assert in_image("sh", "-c", f"command -v {program}")[0] == 0


@pytest.mark.parametrize("program", ["gcc", "cc", "c++", "ld", "make", "nvidia-smi"])
def test_program_is_absent(program: str) -> None:
    assert in_image("sh", "-c", f"! command -v {program}") == (0, "")


def test_train_is_not_the_toolkits_script() -> None:
    assert in_image("bash", "-c", "command -v train serve") == (0, "/opt/program/train\n/opt/program/serve")


def test_image_has_no_files_under_opt_ml() -> None:
    assert in_image("sh", "-c", "! ls -A /opt/ml 2>/dev/null | grep .") == (0, "")


def test_dependencies_are_complete() -> None:
    assert in_image("pip", "check") == (0, "No broken requirements found.")


def test_kernels_are_available() -> None:
    """The version names the kernels, and they load together with torch."""
    code, out = in_image("object2vec", "--version")
    assert (code, out.startswith("object2vec "), "(kernels: none)" in out) == (0, True, False)
    program = "import torch; from object2vec.cli import main; main(['--version'])"
    assert in_image("python", "-c", program) == (0, out)


def test_command_helps() -> None:
    code, out = in_image("object2vec", "--help")
    assert code == 0
    assert "train" in out
    assert "serve" in out
