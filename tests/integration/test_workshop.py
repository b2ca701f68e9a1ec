"""The lock files satisfy pyproject.toml, and the programs of the image are executable."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ["cpu", "cuda", "build"]
ENTRY = re.compile(r"^([\w.-]+)==([\w.+-]+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def locked(flavor: str) -> dict[str, Version]:
    text = (ROOT / f"container/requirements-{flavor}.txt").read_text() + "\n"
    entries = ENTRY.findall(text)
    assert len(entries) == len(re.findall(r"^[^#\s]", text, re.MULTILINE)), "an entry has no hash"
    return {canonicalize_name(name): Version(version) for name, version, _ in entries}


def wanted() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["sagemaker"]]


@pytest.mark.parametrize("flavor", ["cpu", "cuda"])
def test_lock_satisfies_pyproject(flavor: str) -> None:
    versions = locked(flavor)
    assert {canonicalize_name(need.name) for need in wanted()} <= versions.keys()
    assert [str(need) for need in wanted() if versions[canonicalize_name(need.name)] not in need.specifier] == []


def test_flavors_differ_only_in_torch_and_cuda() -> None:
    cpu, cuda = locked("cpu"), locked("cuda")
    assert str(cpu.pop("torch")) == f"{cuda.pop('torch')}+cpu"
    assert cpu.items() <= cuda.items()
    assert {name.split("-")[0] for name in cuda.keys() - cpu.keys()} == {"cuda", "nvidia", "triton"}


def test_sdk_tests_use_the_pinned_tools() -> None:
    dev = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    pins = re.findall(r"^\w.*", (ROOT / "tests/sdk/requirements.txt").read_text(), re.MULTILINE)
    assert [pin for pin in pins if pin not in dev and not pin.startswith("sagemaker==2.")] == []


def test_build_requirements_are_locked() -> None:
    assert {"hatchling", "setuptools"} <= locked("build").keys()


@pytest.mark.parametrize("name", ["train", "serve"])
def test_image_programs_are_executable(name: str) -> None:
    path = ROOT / "container" / name
    assert path.stat().st_mode & 0o555 == 0o555  # for everyone
    assert path.read_bytes().startswith(b"#!/opt/venv/bin/python\n")
    assert b"\r" not in path.read_bytes()


def test_make_targets_have_help_and_one_line() -> None:
    makefile = (ROOT / "Makefile").read_text()
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert re.findall(r"^([a-z-]+):.*## \w.*$\n(?:\t.*\n)?(?!\t)", makefile, re.MULTILINE) == phony.split()
