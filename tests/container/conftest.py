"""Real containers of the image, on `/opt/ml` trees in `tmp_path`; each is removed by its id."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containers import IMAGE, Container, OptMl, Start, Trained, docker


@pytest.fixture(scope="session")
def image() -> dict[str, Any]:
    """Return the image's configuration from `docker inspect`."""
    try:
        found = docker("image", "inspect", IMAGE, check=False)
    except FileNotFoundError:
        pytest.fail("there is no docker on PATH")
    if found.returncode:
        pytest.fail(f"{IMAGE} is not there (`make image` builds it), or no engine answers: {found.stderr}")
    description: dict[str, Any] = json.loads(found.stdout)[0]
    return description


@pytest.fixture(scope="session")
def start(image: dict[str, Any]) -> Iterator[Start]:
    """Return `start(*options, command=(…))`, which runs a container that is removed at the end by its id."""
    started: list[str] = []

    def run(*options: str, command: tuple[str, ...] = ()) -> Container:
        name = f"object2vec-test-{uuid.uuid4().hex[:12]}"
        words = ("run", "--detach", "--name", name, "--label", "object2vec.test", *options, IMAGE, *command)
        started.append(docker(*words).stdout.strip())
        return Container(id=started[-1])

    yield run
    if started:
        docker("rm", "--force", "--volumes", *started)


@pytest.fixture
def opt_ml(tmp_path: Path) -> OptMl:
    """Create the tree of a valid job, which tests modify."""
    return OptMl(tmp_path / "ml")


@pytest.fixture(scope="session")
def trained(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Run one job without a network, for all tests that need a model."""
    tree = OptMl(tmp_path_factory.mktemp("trained") / "ml")
    container = start("--network", "none", "--volume", tree.mount, command=("train",))
    code = container.wait()
    return Trained(opt_ml=tree, exit_code=code, log=container.log())
