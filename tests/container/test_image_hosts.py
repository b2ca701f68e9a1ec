"""`train` in two containers as two hosts of one job, on a Docker network."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containers import HYPERPARAMETERS, Container, OptMl, Start, docker

pytestmark = pytest.mark.docker

#: Two hosts of a job, given how many seconds the first, by whose name the other finds it, comes later than the other,
#: and the hyperparameters that differ from those of a small job.
StartHosts = Callable[..., tuple[Container, Container]]


@pytest.fixture
def network() -> Iterator[str]:
    """Create a network in which containers have the names of the hosts."""
    name = f"object2vec-test-{uuid.uuid4().hex[:12]}"
    docker("network", "create", name)
    yield name
    docker("network", "rm", name)


@pytest.fixture
def trees(tmp_path: Path) -> tuple[OptMl, OptMl]:
    """Create the trees of both hosts: the same channels, and each host's own name.

    The second host names an interface that does not exist, as SageMaker's local mode does.
    """
    made = OptMl(tmp_path / "algo-1"), OptMl(tmp_path / "algo-2")
    for tree, host, interface in zip(made, ("algo-1", "algo-2"), ("eth0", "ethwe"), strict=True):
        resources = {"current_host": host, "hosts": ["algo-1", "algo-2"], "network_interface_name": interface}
        tree.config("resourceconfig", resources)
    return made


@pytest.fixture
def start_hosts(start: Start, network: str, trees: tuple[OptMl, OptMl]) -> Iterator[StartHosts]:
    started: list[Container] = []

    def both(late: float = 0, **hyperparameters: str) -> tuple[Container, Container]:
        for number in (2, 1):
            trees[number - 1].config("hyperparameters", HYPERPARAMETERS | hyperparameters)
            name = f"algo-{number}"
            options = "--network", network, "--network-alias", name, "--hostname", name
            time.sleep(late if number == 1 else 0)
            started.append(start(*options, "--volume", trees[number - 1].mount, command=("train",)))
        second, first = started
        return first, second

    yield both
    for container in started:
        docker("kill", container.id, check=False)  # it may have ended already


def losses(log: str) -> list[float]:
    """Return the losses of each channel and epoch; those of the best epoch may be printed twice."""
    return [float(loss) for loss in dict(re.findall(r"(#quality_metric: .*<loss>)=(\S+)", log)).values()]


def test_two_hosts_train_as_one(
    start: Start, start_hosts: StartHosts, trees: tuple[OptMl, OptMl], tmp_path: Path
) -> None:
    """All losses equal those of one host with twice the batch, within 1e-5.

    Only the first host writes the model and prints metrics.
    """
    hosts = start_hosts(mini_batch_size="16")
    for host in hosts:
        assert host.wait() == 0, host.log()
    alone = OptMl(tmp_path / "alone", HYPERPARAMETERS | {"mini_batch_size": "32"})
    one = start("--network", "none", "--volume", alone.mount, command=("train",))
    assert one.wait() == 0, one.log()
    assert losses(hosts[0].log()) == pytest.approx(losses(one.log()), rel=1e-5)
    assert len(losses(hosts[0].log())) == 2 * 3 + 1
    assert losses(hosts[1].log()) == []
    assert (trees[0].model / "model.safetensors").exists()
    assert list(trees[1].model.iterdir()) == []


def test_host_waits_for_an_unknown_host_name(start_hosts: StartHosts, trees: tuple[OptMl, OptMl]) -> None:
    hosts = start_hosts(late=10)
    for host in hosts:
        assert host.wait() == 0, host.log()
    assert len(losses(hosts[0].log())) == 2 * 3 + 1
    assert (trees[0].model / "model.safetensors").exists()
    assert trees[1].failure == ""


@pytest.mark.parametrize("killed", [0, 1])
def test_killed_host_ends_the_other(start_hosts: StartHosts, trees: tuple[OptMl, OptMl], killed: int) -> None:
    """The remaining host ends with an error long before its time limit.

    The first one keeps the model of the best epoch so far; the second one has none.
    """
    hosts = start_hosts(
        epochs="100", mini_batch_size="1", early_stopping_patience="5", early_stopping_tolerance="0.000001"
    )
    hosts[0].until(lambda: "Completed Epoch: 1" in hosts[0].log())
    docker("kill", hosts[killed].id)
    left = 1 - killed
    assert hosts[left].wait() == 1, hosts[left].log()
    assert f"algo-{killed + 1} has ended" in trees[left].failure.splitlines()[0]
    files = sorted(path.name for path in trees[left].model.iterdir())
    assert files == ([] if left else ["config.json", "model.safetensors"])
