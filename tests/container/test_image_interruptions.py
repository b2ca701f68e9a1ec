"""`train` in containers that are stopped, killed and started again, as process 1, with checkpoints on a mount."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from containers import HYPERPARAMETERS, VOCABULARY, Container, OptMl, Start, docker, pairs

pytestmark = pytest.mark.docker

ENDLESS = {"epochs": "100", "early_stopping_patience": "5", "early_stopping_tolerance": "0.000001"}


def job(root: Path, **hyperparameters: str) -> OptMl:
    """A tree whose platform keeps checkpoints, in the folder that it names."""
    channels = {
        name: pairs(count, seed) for seed, (name, count) in enumerate({"train": 4000, "validation": 200}.items())
    }
    opt_ml = OptMl(root, HYPERPARAMETERS | hyperparameters, channels)
    opt_ml.config("checkpointconfig", {"S3Uri": "s3://bucket/prefix", "LocalPath": "/opt/ml/checkpoints"})
    return opt_ml


def train(start: Start, opt_ml: OptMl, *options: str) -> Container:
    return start("--network", "none", "--volume", opt_ml.mount, *options, command=("train",))


def terminate_twice(container: Container) -> None:
    """Send SIGTERM twice; the container must end with status 0."""
    began = time.monotonic()
    docker("kill", "--signal", "TERM", container.id)
    docker("kill", "--signal", "TERM", container.id, check=False)  # which may have ended
    assert container.wait() == 0, container.log()
    print(f"ended {time.monotonic() - began:.1f} s after SIGTERM")


def serve_one(start: Start, opt_ml: OptMl) -> int:
    server = start("--publish", "127.0.0.1::8080", "--volume", f"{opt_ml.model}:/opt/ml/model:ro", command=("serve",))
    reply = server.until_ping().send("/invocations", b'{"in0": [1], "in1": [3]}', "application/jsonlines")
    return reply.status


def test_a_stopped_job_s_model_serves_and_the_job_goes_on(start: Start, tmp_path: Path) -> None:
    """After two SIGTERMs: status 0, a model that answers; the next container goes on where this one stopped."""
    opt_ml = job(tmp_path / "ml", **ENDLESS)
    container = train(start, opt_ml)
    container.until(lambda: "epoch=1, train" in container.log())
    terminate_twice(container)
    assert serve_one(start, opt_ml) == 200
    again = train(start, opt_ml)
    again.until(lambda: "Going on from checkpoint-" in again.log() and "#quality_metric" in again.log())
    assert "Completed Epoch: 0" not in again.log()
    again.stop()


def test_a_step_of_a_minute_is_not_waited_for(start: Start, tmp_path: Path) -> None:
    """As process 1 too, a job whose step takes longer than it has ends with status 0 before that, with a model."""
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


def test_a_killed_job_goes_on_as_if_it_never_was(start: Start, tmp_path: Path) -> None:
    """SIGKILL in the third of six epochs: the second container's losses are those of one that was left alone."""
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


def test_checkpoints_that_cannot_be_written_are_known_at_once(start: Start, tmp_path: Path) -> None:
    """A read-only mount: the job fails before it reads any data, and says which folder it was."""
    opt_ml = job(tmp_path / "ml")
    (tmp_path / "kept").mkdir()
    container = train(start, opt_ml, "--volume", f"{tmp_path / 'kept'}:/opt/ml/checkpoints:ro")
    assert container.wait() != 0
    sentence = "ClientError: /opt/ml/checkpoints: no checkpoint can be written here (Read-only file system)"
    assert opt_ml.failure.startswith(sentence)
    assert "Creating data iterator" not in container.log()
    assert list(opt_ml.model.iterdir()) == []


def test_a_full_disk_for_checkpoints_ends_no_job(start: Start, tmp_path: Path) -> None:
    """Each that found no room is a warning that says so; the job ends well, and leaves no half checkpoint."""
    opt_ml = job(tmp_path / "ml", enc0_vocab_size=str(100 * VOCABULARY))
    container = train(start, opt_ml, "--tmpfs", "/opt/ml/checkpoints:size=64k")
    assert container.wait() == 0, container.log()
    assert container.log().count("No space left on device") == 3
    assert "training goes on, and a restart begins anew" in container.log()
    assert (opt_ml.model / "model.safetensors").exists()


def test_another_job_s_checkpoints_are_refused(start: Start, tmp_path: Path) -> None:
    """A prefix that an earlier job has used: the sentence names what differs."""
    opt_ml = job(tmp_path / "ml", epochs="1")
    assert train(start, opt_ml).wait() == 0
    opt_ml.config("hyperparameters", HYPERPARAMETERS | {"epochs": "1", "learning_rate": "0.02"})
    container = train(start, opt_ml)
    assert container.wait() != 0
    assert "is a checkpoint of another job: learning_rate is 0.01 there and 0.02 here; wanted" in opt_ml.failure
