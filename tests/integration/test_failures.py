"""Failures of the machine during a job: one sentence in the failure file, and no partial model."""

from __future__ import annotations

import gzip
import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from object2vec import cli
from object2vec.data import disk_arrays
from object2vec.errors import AlgorithmError
from object2vec.sagemaker import training
from ranks import free_port, start_host, train_with_a_device_that_fails
from trees import failure_of, lines_of, train_within, with_files

#: A job whose weights are larger than the smallest disk.
LARGE = {"enc0_vocab_size": "20000", "enc0_token_embedding_dim": "10"}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / "ml"))
    return tmp_path / "ml"


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[Path, str], None]]:
    """Return `mount(folder, options)`, which mounts a file system in memory over a folder."""
    mounted: list[Path] = []

    def mount(folder: Path, options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting needs root and a system that lets it")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk_keeps_the_previous_model(base: Path, mount: Callable[[Path, str], None]) -> None:
    """If the weights do not fit, the previous files stay, and no partial files are left."""
    mount(with_files(base, LARGE) / "model", "size=100k")
    (base / "model" / "config.json").write_text("before")
    sentence = failure_of(base)
    assert sentence.startswith(f"AlgorithmError: {base}/model: the model of 1.6 MB cannot be written (")
    assert "No space left on device" in sentence
    assert [path.name for path in (base / "model").iterdir()] == ["config.json"]
    assert (base / "model" / "config.json").read_text() == "before"


def test_read_only_model_directory_fails_before_data_is_read(base: Path, mount: Callable[[Path, str], None]) -> None:
    """A read-only mount is an error before data is read."""
    mount(with_files(base, train=b"no JSON") / "model", "ro")
    sentence = f"{base}/model: Read-only file system, wanted a folder that a model can be written to"
    assert failure_of(base) == f"ClientError: {sentence}"


def test_command_reports_the_same_error(
    base: Path, mount: Callable[[Path, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """`object2vec train` prints the same message, and its status is not 0."""
    mount(with_files(base) / "model", "ro")
    words = ["--train", str(base / "input/data/train"), "--out", str(base / "model")]
    assert cli.main(["train", *words, "--hyperparameters", str(base / "input/config/hyperparameters.json")]) == 2
    assert f"object2vec: error: {base}/model: Read-only file system" in capsys.readouterr().err


def test_full_temporary_folder_is_named(
    base: Path, tmp_path: Path, mount: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns that do not fit into the temporary folder are an error that names it."""
    with_files(base, train=lines_of(20_000))
    mount(tmp_path / "temporary", "size=100k")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    sentence = (
        f"AlgorithmError: {tmp_path}/temporary: No space left on device; data and the best weights are stored there"
    )
    assert failure_of(base).startswith(sentence)
    assert not list((base / "model").glob("*"))


def test_mapped_array_reserves_its_disk_space(
    tmp_path: Path, mount: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing to an unallocated page of a full disk would kill the process, so space is reserved first."""
    mount(tmp_path / "temporary", "size=1m")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with pytest.raises(
        AlgorithmError, match="temporary: No space left on device; data and the best weights are stored there"
    ):
        disk_arrays.empty(disk_arrays.MIN_DISK_BYTES, "float32")


@pytest.mark.slow
def test_file_size_limit_fails_like_a_full_disk(base: Path) -> None:
    """A limit on file sizes fails like a full disk, and needs no mount."""
    with_files(base, train=lines_of(20_000))
    process = start_host(base, free_port(), partial(train_within, resource.RLIMIT_FSIZE, 2**16))
    process.join(300)
    sentence = (base / "output" / "failure").read_text()
    assert process.exitcode == 1, (base / "log").read_text()
    assert "File too large; data and the best weights are stored there" in sentence


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.jsonl.gz", gzip.compress(lines_of(500))[:-30], "cannot be read past line "),
        ("x.jsonl", lines_of(50)[:-10], "line 50: not JSON (unexpected end of data"),
    ],
    ids=["gzip", "line"],
)
def test_truncated_file_is_named(base: Path, name: str, content: bytes, sentence: str) -> None:
    """A truncated file is an error that names it, however much of it was readable."""
    path = with_files(base) / "input" / "data" / "train" / name
    path.write_bytes(content)
    assert failure_of(base).startswith((f"ClientError: {path}: {sentence}", f"ClientError: {path}, {sentence}"))
    assert not list((base / "model").glob("*"))


# ----------------------------------------------------------------------------------------------------------------------
# Memory: a limit on additional address space of a process.
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_weights_larger_than_memory_fail_before_training(base: Path) -> None:
    """The memory for training is checked before it starts. The error gives sizes and advice."""
    sentence = out_of_memory(base, {"enc0_vocab_size": "1000000", "enc0_token_embedding_dim": "300"})
    assert "(training takes at least 7.2 GB): of " in sentence
    assert " GB the weights take 2.4 GB, 2.4 GB of it for tokens (" in sentence
    assert "enc0_vocab_size=1000000 by enc0_token_embedding_dim=300 and enc1_vocab_size=1000000 by enc1_" in sentence
    assert "optimizer=adam keeps 2 more numbers for each; a smaller token_embedding_dim" in sentence


@pytest.mark.slow
def test_batch_larger_than_memory_names_hyperparameters(base: Path) -> None:
    """The error names the hyperparameters that determine the memory of a batch."""
    sizes = {"mini_batch_size": "10000", "mlp_dim": "10000", "mlp_layers": "10", "enc0_token_embedding_dim": "4"}
    large = sizes | {"mlp_layers": "1", "mlp_dim": "10000", "negative_sampling_rate": "9"}
    sentence = out_of_memory(base, large, lines_of(10_000))
    assert "can't allocate memory" in sentence
    assert "a mini_batch_size below 10000, or a smaller enc0_max_seq_len would help" in sentence


def out_of_memory(base: Path, hyperparameters: dict[str, str], train: bytes = lines_of(30)) -> str:
    """Return the failure of a job with too little memory."""
    with_files(base, hyperparameters, train=train)
    process = start_host(base, free_port(), partial(train_within, resource.RLIMIT_AS, 2**29))
    process.join(300)
    log, failure = (base / "log").read_text(), (base / "output" / "failure").read_text()
    assert process.exitcode == 1, log
    assert failure.startswith("AlgorithmError: Out of memory ("), log
    assert failure.isprintable()
    assert not list((base / "model").glob("*"))
    return failure


@pytest.mark.slow
def test_supervisor_reports_a_killed_job(base: Path) -> None:
    """The system sends SIGKILL if memory runs out; only the supervisor can report it."""
    with_files(base, {"epochs": "100"}, train=lines_of(20_000))
    process = start_host(base, free_port(), training.train)
    while "Completed Epoch: 0" not in (log := (base / "log").read_text() if (base / "log").exists() else ""):
        assert process.is_alive(), log
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    process.join(300)
    assert process.exitcode == 128 + signal.SIGKILL
    sentence = (base / "output" / "failure").read_text()
    assert sentence.startswith(
        "AlgorithmError: Training was killed by SIGKILL, as the system does where memory runs out"
    )
    assert "a mini_batch_size below 8, or a smaller enc0_max_seq_len would help" in sentence
    assert not list((base / "model").glob("*"))


@pytest.mark.slow
def test_toolkit_traceback_is_replaced_by_its_reason(base: Path) -> None:
    """AWS's command fails on some values with a traceback; the failure file has its reason instead."""
    process = start_host(with_files(base, {"sagemaker_container_log_level": "loud"}), free_port(), training.train)
    process.join(300)
    assert process.exitcode == 1, (base / "log").read_text()
    sentence = "AlgorithmError: AWS's command around training failed: Unknown level: 'loud'"
    assert (base / "output" / "failure").read_text() == sentence


@pytest.mark.slow
def test_process_that_ends_before_connecting_fails_the_others(base: Path) -> None:
    """The other processes of its host are notified, instead of waiting for minutes."""
    process = start_host(with_files(base), free_port(), train_with_a_device_that_fails)
    process.join(300)
    log = (base / "log").read_text()
    assert process.exitcode == 1, log
    assert (
        "AlgorithmError: process 1 of this host, for nowhere, ended with status 1 before it connected to the others"
        in log
    )
