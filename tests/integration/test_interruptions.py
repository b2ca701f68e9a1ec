"""`train` processes that are killed or stopped at any moment, and started again."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import object2vec
from object2vec.sagemaker.training import train
from ranks import Host, free_port, train_with_many_checkpoints
from servers import KILL_SECONDS
from small import SMALL

pytestmark = pytest.mark.slow

Row = tuple[list[int], list[int], float]
ENDLESS = {"epochs": 100, "early_stopping_patience": 5, "early_stopping_tolerance": 1e-6}


def rows(count: int, *, tokens: int = 6, seed: int = 0) -> list[Row]:
    draw = random.Random(seed)
    sides = [[draw.choices(range(1, 9), k=draw.randint(1, tokens)) for _ in range(count)] for _ in range(2)]
    return [(in0, in1, float(in0[0] % 2 == in1[0] % 2)) for in0, in1 in zip(*sides, strict=True)]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Return a host whose platform keeps checkpoints."""
    made = Host(tmp_path / "ml", "algo-1")
    (made.base / "checkpoints").mkdir()
    yield made
    made.kill()


def start(
    host: Host, hyperparameters: Mapping[str, object], work: Callable[[], None] = train_with_many_checkpoints
) -> None:
    host.start(free_port(), SMALL | hyperparameters, ["algo-1"], work)


def measured(*logs: str) -> dict[str, str]:
    """Return the printed value of each metric; repeated metrics must be equal."""
    found: dict[str, str] = {}
    for log in logs:
        for name, value in re.findall(r"(#quality_metric: .*)=(\S+)\n", log):
            assert found.setdefault(name, value) == value, name
    return found


@pytest.mark.parametrize(
    "values",
    [
        {"token_embedding_storage_type": "row_sparse", "negative_sampling_rate": 2, "dropout": 0.2},
        {"enc0_network": "hcnn", "bucket_width": 2, "optimizer": "rmsprop", "ema_decay": 0.99},
    ],
    ids=["row sparse", "hcnn"],
)
def test_job_killed_twenty_times_equals_uninterrupted_one(
    host: Host, tmp_path: Path, values: dict[str, object]
) -> None:
    """Killed at twenty random moments, a job has the metrics and scores of an uninterrupted one."""
    hyperparameters = {"epochs": 20, "mini_batch_size": 8, "learning_rate": 0.001, **values}
    hyperparameters |= {"early_stopping_patience": 5, "early_stopping_tolerance": 1e-6}
    whole = Host(tmp_path / "whole", "algo-1")
    for each in (host, whole):
        each.channel("train", rows(600)).channel("validation", rows(100, seed=1)).channel("test", rows(100, seed=2))
    began = time.monotonic()
    start(whole, hyperparameters)
    assert whole.ends(300) == 0, whole.output
    seconds = time.monotonic() - began
    draw, logs = random.Random(7), []
    for _ in range(20):
        start(host, hyperparameters)
        host.until("Provided configuration")
        time.sleep(draw.uniform(0, seconds / 12))
        host.kill()
        logs.append(host.output)
    start(host, hyperparameters)
    assert host.ends(300) == 0, host.output
    resumed = sum("Going on from checkpoint-" in log for log in logs)
    print(f"{seconds:.1f} s uninterrupted; of 20 killed runs {resumed} had gone on from a checkpoint")
    assert resumed
    assert measured(*logs, host.output) == measured(whole.output)
    pairs = [(in0, in1) for in0, in1, _ in rows(200, seed=3)]
    np.testing.assert_array_equal(scores(host, pairs), scores(whole, pairs))


def scores(host: Host, pairs: list[tuple[list[int], list[int]]]) -> np.ndarray:
    return object2vec.load(host.base / "model").score(pairs)


def test_sigterm_in_a_long_step_writes_a_model_in_time(host: Host) -> None:
    """SIGTERM in a step that is longer than the grace period gives status 0 and a model that loads.

    A second SIGTERM changes nothing.
    """
    many = [(in0 * 50, in1 * 50, label) for in0, in1, label in rows(10_000)]
    host.channel("train", many)
    big = {"enc0_network": "hcnn", "enc0_max_seq_len": 300, "enc_dim": 1024, "mini_batch_size": 10_000}
    start(host, big | {"enc0_token_embedding_dim": 300}, train)
    host.until("Number of GPUs being used")
    time.sleep(3)  # well within the first step
    stopped(host)
    assert "Completed Epoch" not in host.output
    assert object2vec.load(host.base / "model").score([([1], [3])]).shape == (1, 2)


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 0.6, 1.0, 2.0])
def test_sigterm_at_any_moment_leaves_a_model(host: Host, seconds: float) -> None:
    """During start, reading or training: status 0, and a model that loads and scores.

    A second SIGTERM changes nothing.
    """
    host.channel("train", rows(3000)).channel("validation", rows(3000, seed=1)).channel("test", rows(3000, seed=2))
    start(host, {"mini_batch_size": 1} | ENDLESS)
    host.until("Provided configuration")
    time.sleep(seconds)
    stopped(host)
    assert scores(host, [([1], [3])]).shape == (1, 2)
    assert host.failure == ""


def test_sigterm_before_torch_is_imported_leaves_a_model(host: Host) -> None:
    """SIGTERM right after the start gives a model and status 0, not the status of the signal."""
    host.channel("train", rows(300))
    host.configure(SMALL | ENDLESS, ["algo-1"])
    code = "from object2vec.sagemaker.training import train; train()"
    environment = {"SAGEMAKER_BASE_DIR": str(host.base), "OMP_NUM_THREADS": "1"}
    environment |= {"SAGEMAKER_TRAINING_MODULE": "object2vec.sagemaker.training:main", "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=host.base) as process:
        while not handles_sigterm(process.pid):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(KILL_SECONDS) == 0
    assert scores(host, [([1], [3])]).shape == (1, 2)


def handles_sigterm(pid: int) -> bool:
    """Return whether a process has a handler for SIGTERM, according to Linux."""
    caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def stopped(host: Host) -> None:
    """Send SIGTERM twice; the job must end with status 0 before the platform would kill it."""
    host.process.terminate()
    time.sleep(0.2)
    if host.process.is_alive():
        host.process.terminate()
    assert host.ends(KILL_SECONDS) == 0, host.output


def test_stopped_job_resumes(host: Host, tmp_path: Path) -> None:
    """After SIGTERM in the second epoch, the next start ends like an uninterrupted job."""
    whole = Host(tmp_path / "whole", "algo-1")
    for each in (host, whole):
        each.channel("train", rows(2000)).channel("validation", rows(200, seed=1))
    start(whole, {"epochs": 4})
    start(host, {"epochs": 4})
    host.until("epoch=0, validation")
    stopped(host)
    log = host.output
    start(host, {"epochs": 4})
    assert [each.ends() for each in (host, whole)] == [0, 0]
    assert "Going on from" in host.output
    assert measured(log, host.output) == measured(whole.output)


@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "rmsprop"])
def test_job_starts_from_a_packed_model(host: Host, tmp_path: Path, optimizer: str) -> None:
    """Started from model.tar.gz of a converged job, the losses of epoch 0 are within 1 % of its last ones."""
    values = {"optimizer": optimizer, "learning_rate": 0.01, "mini_batch_size": 32, "mlp_activation": "relu"}
    noisy = [(a, b, 1 - label if n % 5 == 0 else label) for n, (a, b, label) in enumerate(rows(3000))]
    first = Host(tmp_path / "first", "algo-1").channel("train", noisy).channel("validation", noisy)
    start(first, values | {"epochs": 60, "early_stopping_tolerance": 0.001, "early_stopping_patience": 5})
    assert first.ends(200) == 0, first.output
    host.channel("train", noisy).channel("validation", noisy)
    host.channel("model", [])
    with tarfile.open(host.base / "input" / "data" / "model" / "model.tar.gz", "w:gz") as archive:
        archive.add(first.base / "model", ".")
    start(host, values | {"epochs": 1})
    assert host.ends() == 0, host.output
    for channel in ("train", "validation"):
        before, after = (losses(each, channel) for each in (first, host))
        print(
            f"{optimizer}, {channel}: {before[-1]:.4f} in the last epoch, {after[0]:.4f} in the first ({len(before)})"
        )
        assert after[0] == pytest.approx(before[-1], rel=0.01)


def losses(host: Host, channel: str) -> list[float]:
    found = dict(re.findall(rf"epoch=(\d+), {channel} cross_entropy <loss>=(\S+)", host.output))
    return [float(loss) for loss in found.values()]
