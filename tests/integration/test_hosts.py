"""Two hosts of a job, each a process with the image's command: one model, one log, no endless wait."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import object2vec
from object2vec.hyperparameters import parse
from object2vec.sagemaker.training import train
from object2vec.training.job import Job, run
from ranks import (
    HOSTS,
    REPLICATED,
    SHARDED,
    Host,
    free_port,
    rows_of,
    train_on_two_devices,
    train_with_many_checkpoints,
)
from servers import KILL_SECONDS
from small import SMALL, write_pairs

pytestmark = pytest.mark.slow

HYPERPARAMETERS = SMALL | {"epochs": "3", "mini_batch_size": "8", "learning_rate": "0.01", "dropout": "0"}


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    made = Host(tmp_path / "0", HOSTS[0]), Host(tmp_path / "1", HOSTS[1])
    yield made
    for host in made:
        host.kill()


def start(hosts: tuple[Host, Host], work: Callable[[], None] = train, **hyperparameters: object) -> None:
    port = free_port()
    for host in hosts:
        host.start(port, HYPERPARAMETERS | hyperparameters, work=work)


def losses(lines: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"#quality_metric: .* cross_entropy <loss>=(\S+)", lines)]


@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
def test_two_hosts_equal_one_with_twice_the_batch(
    hosts: tuple[Host, Host], storage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All losses and the weights equal those of one host.

    Only the first host prints and writes. The training data is on both hosts, the validation data only on the second.
    """
    rows = rows_of(60)
    for host, validation in zip(hosts, ([], rows), strict=True):
        host.channel("train", rows).channel("validation", validation, SHARDED).channel("test", rows)
    start(hosts, token_embedding_storage_type=storage)
    assert [host.ends() for host in hosts] == [0, 0], [host.output for host in hosts]

    channels = {name: write_pairs(tmp_path / name, rows) for name in ("train", "validation", "test")}
    doubled = HYPERPARAMETERS | {"mini_batch_size": "16", "token_embedding_storage_type": storage}
    run(Job(configuration=parse(doubled), channels=channels, model_dir=tmp_path / "one"))
    assert losses(hosts[0].output) == pytest.approx(losses("\n".join(caplog.messages)), abs=1e-5)
    assert len(losses(hosts[0].output)) == 7
    assert '"Total Records Seen": {"sum": 60.0' in hosts[0].output
    assert not re.search("#[a-z]+_metric|#metrics|#test_score|Epoch", hosts[1].output)
    assert [host.files for host in hosts] == [["config.json", "model.safetensors"], []]
    weights, wanted = (
        load_file(folder / "model.safetensors") for folder in (hosts[0].base / "model", tmp_path / "one")
    )
    assert {name: pytest.approx(tensor, abs=1e-5) for name, tensor in wanted.items()} == weights


def test_processes_of_one_host_share_its_batch(
    hosts: tuple[Host, Host], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two devices of a host have the losses of one; only the first process prints and writes."""
    rows = rows_of(60)
    host = hosts[0].channel("train", rows).channel("validation", rows)
    host.start(free_port(), HYPERPARAMETERS, HOSTS[:1], train_on_two_devices)
    assert host.ends() == 0, host.output
    channels = {name: write_pairs(tmp_path / name, rows) for name in ("train", "validation")}
    run(Job(configuration=parse(HYPERPARAMETERS), channels=channels, model_dir=tmp_path / "one"))
    assert losses(host.output) == pytest.approx(losses("\n".join(caplog.messages)), abs=1e-5)
    assert host.output.count("Final configuration") == 1
    assert host.files == ["config.json", "model.safetensors"]


def test_host_without_data_takes_part(hosts: tuple[Host, Host]) -> None:
    """The first host has no training file, and writes the model trained on data of the second."""
    hosts[0].channel("train", [], SHARDED)
    hosts[1].channel("train", rows_of(60), SHARDED)
    start(hosts)
    assert [host.ends() for host in hosts] == [0, 0], [host.output for host in hosts]
    assert object2vec.load(hosts[0].base / "model").score([([1], [3])]).shape == (1, 2)
    assert len(losses(hosts[0].output)) == 3


def test_sigterm_on_one_host_stops_both(hosts: tuple[Host, Host]) -> None:
    """Both end with status 0 soon after, the first with the best model so far."""
    for host in hosts:
        host.channel("train", rows_of(60) * 20)
    start(hosts, epochs="100", early_stopping_patience="5", early_stopping_tolerance="0.000001")
    hosts[0].until("epoch=0, train")
    hosts[1].process.terminate()
    assert [host.ends(20) for host in hosts] == [0, 0], [host.output for host in hosts]
    assert [host.files for host in hosts] == [["config.json", "model.safetensors"], []]
    assert "epoch=99" not in hosts[0].output


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_two_hosts_resume_together(hosts: tuple[Host, Host], end: str, tmp_path: Path) -> None:
    """Two hosts that are interrupted within an epoch have exactly the losses of an uninterrupted job.

    This includes dropout and unequal shards. Only the first host keeps checkpoints; the second gets them from it.
    """
    rows = rows_of(60)
    given = {"dropout": "0.3", "epochs": "8", "mini_batch_size": "4", "early_stopping_patience": "5"}
    given |= {"optimizer": "adagrad", "token_embedding_storage_type": "row_sparse", "early_stopping_tolerance": "1e-6"}
    alone = Host(tmp_path / "alone 0", HOSTS[0]), Host(tmp_path / "alone 1", HOSTS[1])
    for pair in (hosts, alone):
        for number, host in enumerate(pair):
            host.channel("train", (rows[:40], rows[40:])[number] * 5, SHARDED).channel("validation", rows)
    start(alone, **given)
    assert [host.ends() for host in alone] == [0, 0], [host.output for host in alone]
    (hosts[0].base / "checkpoints").mkdir()
    start(hosts, train_with_many_checkpoints, **given)
    hosts[0].until("epoch=2, validation")
    hosts[1].process.terminate() if end == "stopped" else [host.kill() for host in hosts]
    for host in hosts:
        host.ends()
    first = hosts[0].output
    start(hosts, train_with_many_checkpoints, **given)
    assert [host.ends() for host in hosts] == [0, 0], [host.output for host in hosts]
    assert "Going on from checkpoint-" in hosts[0].output
    assert "Completed Epoch: 0" not in hosts[0].output
    assert measured(first + hosts[0].output) == measured(alone[0].output)
    assert weights_in(hosts[0]) == weights_in(alone[0])
    assert not (hosts[1].base / "checkpoints").exists()


def test_sigterm_in_a_long_step_of_two_hosts_writes_a_model_in_time(hosts: tuple[Host, Host]) -> None:
    """SIGTERM on both hosts in a common step gives status 0 on both, though one ends first."""
    rows = [(in0 * 50, in1 * 50, label) for in0, in1, label in rows_of(1_500) if in0 and in1]
    for host in hosts:
        host.channel("train", rows, SHARDED)
    big = {"enc0_network": "hcnn", "enc0_max_seq_len": "300", "enc0_token_embedding_dim": "300", "enc_dim": "1024"}
    start(hosts, **big | {"mini_batch_size": "10000"})
    hosts[1].until("Number of GPUs being used")
    time.sleep(3)
    for host in hosts:
        host.process.terminate()
    assert [host.ends(KILL_SECONDS) for host in hosts] == [0, 0], [host.output for host in hosts]
    assert [host.files for host in hosts] == [["config.json", "model.safetensors"], []]
    assert "Completed Epoch" not in hosts[0].output


def measured(lines: str) -> dict[str, str]:
    """Return the printed value of each metric; repeated metrics must be equal."""
    found: dict[str, str] = {}
    for name, value in re.findall(r"(#quality_metric: .*)=(\S+)", lines):
        assert found.setdefault(name, value) == value, name
    return found


def weights_in(host: Host) -> bytes:
    return (host.base / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("killed", "left"), [(0, 1), (1, 0)])
def test_killed_host_ends_the_other(hosts: tuple[Host, Host], killed: int, left: int) -> None:
    """The remaining host ends with status 1 and an error that names the lost one.

    The first host keeps the best model so far.
    """
    for host in hosts:
        host.channel("train", rows_of(60) * 20)
    start(hosts, epochs="100", early_stopping_patience="5", early_stopping_tolerance="0.000001")
    hosts[0].until("epoch=0, train")
    hosts[killed].kill()
    assert hosts[left].ends(20) == 1, hosts[left].output
    assert hosts[left].failure.startswith(
        f"AlgorithmError: {HOSTS[killed]} has ended, or did not answer within 900 s: "
    )
    assert "\n" not in hosts[left].failure
    assert hosts[left].files == (["config.json", "model.safetensors"] if left == 0 else [])


@pytest.mark.parametrize("bad", [0, 1])
def test_invalid_line_on_one_host_ends_both(hosts: tuple[Host, Host], bad: int) -> None:
    """Both failure files name the line."""
    for number, host in enumerate(hosts):
        host.channel("train", [*rows_of(10), *([([1], [9], 1.0)] if number == bad else [])], SHARDED)
    start(hosts)
    assert [host.ends() for host in hosts] == [1, 1], [host.output for host in hosts]
    said = f"{hosts[bad].base}/input/data/train/part-0.jsonl, line 11: "
    assert hosts[bad].failure.startswith(f"ClientError: {said}")
    assert hosts[1 - bad].failure.startswith(f"AlgorithmError: {HOSTS[bad]} failed with ClientError: {said}")


@pytest.mark.parametrize(
    ("distribution", "counts", "sentence"),
    [
        (SHARDED, (0, 0), "channel train: not able to find any data/records on any of the 2 hosts"),
        (REPLICATED, (7, 9), "channel train has {} of the 16 records that the 2 hosts have together, wanted the same"),
    ],
    ids=["no host has any", "not the same"],
)
def test_unequal_or_empty_channels_are_rejected_on_both_hosts(
    hosts: tuple[Host, Host], distribution: str, counts: tuple[int, int], sentence: str
) -> None:
    """Both hosts report the data error."""
    for host, count in zip(hosts, counts, strict=True):
        host.channel("train", rows_of(count) if count else [], distribution)
    start(hosts)
    assert [host.ends() for host in hosts] == [1, 1]
    for host, count in zip(hosts, counts, strict=True):
        assert host.failure.startswith(f"ClientError: {sentence.format(count)}"), host.output
