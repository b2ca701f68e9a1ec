"""What the image is, before it runs anything of ours."""

from __future__ import annotations

from typing import Any

import pytest

from containers import IMAGE, docker

pytestmark = pytest.mark.docker


def in_image(*command: str) -> tuple[int, str]:
    done = docker("run", "--rm", "--network", "none", IMAGE, *command, check=False)
    return done.returncode, done.stdout.strip()


def test_promises_in_labels_what_it_can_do(image: dict[str, Any]) -> None:
    labels = image["Config"]["Labels"]
    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert labels["com.amazonaws.sagemaker.capabilities.multi-models"] == "true"


def test_says_what_it_is_in_the_open_labels(image: dict[str, Any]) -> None:
    labels = image["Config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == "object2vec"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert in_image("python", "-c", "import object2vec; print(object2vec.__version__)") == (
        0,
        labels["org.opencontainers.image.version"],
    )


def test_is_small(image: dict[str, Any]) -> None:
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


def test_train_is_ours_and_not_the_toolkit_s() -> None:
    assert in_image("bash", "-c", "command -v train serve") == (0, "/opt/program/train\n/opt/program/serve")


def test_nothing_of_it_is_under_opt_ml() -> None:
    assert in_image("sh", "-c", "! ls -A /opt/ml 2>/dev/null | grep .") == (0, "")


def test_dependencies_are_whole() -> None:
    assert in_image("pip", "check") == (0, "No broken requirements found.")


def test_kernels_are_available() -> None:
    """The version names the kernels that run, and they can be loaded together with torch."""
    code, out = in_image("object2vec", "--version")
    assert (code, out.startswith("object2vec "), "(kernels: none)" in out) == (0, True, False)
    program = "import torch; from object2vec.cli import main; main(['--version'])"
    assert in_image("python", "-c", program) == (0, out)


def test_command_helps() -> None:
    code, out = in_image("object2vec", "--help")
    assert code == 0
    assert "train" in out
    assert "serve" in out
