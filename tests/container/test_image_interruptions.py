"""`train` in containers that are stopped, killed and restarted, as process 1, with mounted checkpoints."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from containers import HYPERPARAMETERS, VOCABULARY, Container, OptMl, Start, docker, pairs
from servers import KILL_SECONDS

pytestmark = pytest.mark.docker

ENDLESS = {"epochs": "100", "early_stopping_patience": "5", "early_stopping_tolerance": "0.000001"}


def job(root: Path, **hyperparameters: str) -> OptMl:
    """Create a tree whose platform keeps checkpoints in a folder."""
    channels = {
        name: pairs(count, seed) for seed, (name, count) in enumerate({"train": 4000, "validation": 200}.items())
    }
    opt_ml = OptMl(root, HYPERPARAMETERS | hyperparameters, channels)
    opt_ml.config("checkpointconfig", {"S3Uri": "s3://bucket/prefix", "LocalPath": "/opt/ml/checkpoints"})
    return opt_ml


def train(start: Start, opt_ml: OptMl, *options: str) -> Container:
    return start("--network", "none", "--volume", opt_ml.mount, *options, command=("train",))


def terminate_twice(container: Container) -> None:
    """Send SIGTERM twice; the container must end with status 0 before the platform would kill it."""
    docker("kill", "--signal", "TERM", container.id)
    docker("kill", "--signal", "TERM", container.id, check=False)  # it may have ended already
    assert container.wait(timeout=KILL_SECONDS) == 0, container.log()


def serve_one(start: Start, opt_ml: OptMl) -> int:
    server = start("--publish", "127.0.0.1::8080", "--volume", f"{opt_ml.model}:/opt/ml/model:ro", command=("serve",))
    reply = server.until_ping().send("/invocations", b'{"in0": [1], "in1": [3]}', "application/jsonlines")
    return reply.status


def test_stopped_job_leaves_a_model_and_resumes(start: Start, tmp_path: Path) -> None:
    """After two SIGTERMs: status 0 and a model that serves; the next container resumes the job."""
    opt_ml = job(tmp_path / "ml", **ENDLESS)
    container = train(start, opt_ml)
    container.until(lambda: "epoch=1, train" in container.log())
    terminate_twice(container)
    assert serve_one(start, opt_ml) == 200
    again = train(start, opt_ml)
    again.until(lambda: "Going on from checkpoint-" in again.log() and "#quality_metric" in again.log())
    assert "Completed Epoch: 0" not in again.log()
    again.stop()


def test_sigterm_in_a_long_step_writes_a_model_in_time(start: Start, tmp_path: Path) -> None:
    """As process 1 too, a job in a long step ends in time with status 0 and a model."""
    big = {"enc0_network": "hcnn", "enc0_max_seq_len": "300", "enc0_token_embedding_dim": "300", "enc_dim": "1024"}
    opt_ml = OptMl(
        tmp_path / "ml",
        HYPERPARAMETERS | big | {"mini_batch_size": "10000"},
        {"train": [line.replace("[", "[" + "1, 2, 3, 4, 5, " * 50) for line in pairs(10_000, 0)]},
    )
    container = train(start, opt_ml)
    container.until(lambda: "Number of GPUs" in container.log())
    time.sleep(3)
    terminate_twice(container)
    assert "Completed Epoch" not in container.log()
    assert serve_one(start, opt_ml) == 200


def test_killed_job_resumes_with_the_same_losses(start: Start, tmp_path: Path) -> None:
    """After SIGKILL in the third of six epochs, the losses equal those of an uninterrupted job."""
    whole, opt_ml = (job(tmp_path / name, epochs="6") for name in ("whole", "ml"))
    alone = train(start, whole)
    container = train(start, opt_ml)
    container.until(lambda: "epoch=1, validation" in container.log())
    docker("kill", container.id)
    again = train(start, opt_ml)
    assert [each.wait() for each in (alone, again)] == [0, 0], again.log()
    losses, wanted = (dict(re.findall(r"(#quality_metric: .*)=(\S+)", each.log())) for each in (again, alone))
    assert not any("epoch=0," in name for name in losses)
    assert losses
    assert losses.items() <= wanted.items()
    weights, others = ((each.model / "model.safetensors").read_bytes() for each in (opt_ml, whole))
    assert weights == others


def test_read_only_checkpoint_folder_fails_at_start(start: Start, tmp_path: Path) -> None:
    """With a read-only mount, the job fails before it reads data, and names the folder."""
    opt_ml = job(tmp_path / "ml")
    (tmp_path / "kept").mkdir()
    container = train(start, opt_ml, "--volume", f"{tmp_path / 'kept'}:/opt/ml/checkpoints:ro")
    assert container.wait() != 0
    sentence = "ClientError: /opt/ml/checkpoints: no checkpoint can be written here (Read-only file system)"
    assert opt_ml.failure.startswith(sentence)
    assert "Creating data iterator" not in container.log()
    assert list(opt_ml.model.iterdir()) == []


def test_full_checkpoint_disk_does_not_end_the_job(start: Start, tmp_path: Path) -> None:
    """Each failed checkpoint is a warning; the job succeeds and leaves no partial checkpoint."""
    opt_ml = job(tmp_path / "ml", enc0_vocab_size=str(100 * VOCABULARY))
    container = train(start, opt_ml, "--tmpfs", "/opt/ml/checkpoints:size=64k")
    assert container.wait() == 0, container.log()
    assert container.log().count("No space left on device") == 3
    assert "training goes on, and a restart begins anew" in container.log()
    assert (opt_ml.model / "model.safetensors").exists()


def test_checkpoints_of_another_job_are_rejected(start: Start, tmp_path: Path) -> None:
    """The error for a prefix of an earlier job lists the differences."""
    opt_ml = job(tmp_path / "ml", epochs="1")
    assert train(start, opt_ml).wait() == 0
    opt_ml.config("hyperparameters", HYPERPARAMETERS | {"epochs": "1", "learning_rate": "0.02"})
    container = train(start, opt_ml)
    assert container.wait() != 0
    assert "is a checkpoint of another job: learning_rate is 0.01 there and 0.02 here; wanted" in opt_ml.failure
