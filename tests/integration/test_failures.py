"""What a machine can do to a job, for real: one sentence in the failure file each, and no half a model left."""

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

#: The job whose weights are larger than the smallest of the disks here.
LARGE = {"enc0_vocab_size": "20000", "enc0_token_embedding_dim": "10"}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / "ml"))
    return tmp_path / "ml"


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[Path, str], None]]:
    """`mount(folder, options)` puts a file system of its own in the place of a folder, in memory."""
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


def test_a_full_disk_for_the_model(base: Path, mount: Callable[[Path, str], None]) -> None:
    """The weights do not fit: the files from before stay as they were, and nothing of the new ones is left."""
    mount(with_files(base, LARGE) / "model", "size=100k")
    (base / "model" / "config.json").write_text("before")
    sentence = failure_of(base)
    assert sentence.startswith(f"AlgorithmError: {base}/model: the model of 1.6 MB cannot be written (")
    assert "No space left on device" in sentence
    assert [path.name for path in (base / "model").iterdir()] == ["config.json"]
    assert (base / "model" / "config.json").read_text() == "before"


def test_a_model_directory_that_cannot_be_written(base: Path, mount: Callable[[Path, str], None]) -> None:
    """A read-only mount is noticed before any data is read."""
    mount(with_files(base, train=b"no JSON") / "model", "ro")
    sentence = f"{base}/model: Read-only file system, wanted a folder that a model can be written to"
    assert failure_of(base) == f"ClientError: {sentence}"


def test_the_command_says_so_too(
    base: Path, mount: Callable[[Path, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """`object2vec train` ends with a status other than 0 and the same sentence."""
    mount(with_files(base) / "model", "ro")
    words = ["--train", str(base / "input/data/train"), "--out", str(base / "model")]
    assert cli.main(["train", *words, "--hyperparameters", str(base / "input/config/hyperparameters.json")]) == 2
    assert f"object2vec: error: {base}/model: Read-only file system" in capsys.readouterr().err


def test_a_full_disk_for_data(
    base: Path, tmp_path: Path, mount: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns that do not fit into the folder for temporary files name that folder."""
    with_files(base, train=lines_of(20_000))
    mount(tmp_path / "temporary", "size=100k")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    sentence = f"AlgorithmError: {tmp_path}/temporary: No space left on device, where data and the best weights lie"
    assert failure_of(base).startswith(sentence)
    assert not list((base / "model").glob("*"))


def test_a_full_disk_for_what_is_mapped(
    tmp_path: Path, mount: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that the disk has no room for would kill the process at the first write: it is asked for before."""
    mount(tmp_path / "temporary", "size=1m")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with pytest.raises(AlgorithmError, match="temporary: No space left on device, where data and the best weights lie"):
        disk_arrays.empty(disk_arrays.MIN_DISK_BYTES, "float32")


@pytest.mark.slow
def test_a_file_of_a_limited_size(base: Path) -> None:
    """A limit on the size of files is met like a full disk, which needs no mount to be made."""
    with_files(base, train=lines_of(20_000))
    process = start_host(base, free_port(), partial(train_within, resource.RLIMIT_FSIZE, 2**16))
    process.join(300)
    sentence = (base / "output" / "failure").read_text()
    assert process.exitcode == 1, (base / "log").read_text()
    assert "File too large, where data and the best weights lie" in sentence


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.jsonl.gz", gzip.compress(lines_of(500))[:-30], "cannot be read past line "),
        ("x.jsonl", lines_of(50)[:-10], "line 50: not JSON (unexpected end of data"),
    ],
    ids=["gzip", "line"],
)
def test_a_truncated_file(base: Path, name: str, content: bytes, sentence: str) -> None:
    """A file that ends too early is named, whatever of it could be read."""
    path = with_files(base) / "input" / "data" / "train" / name
    path.write_bytes(content)
    assert failure_of(base).startswith((f"ClientError: {path}: {sentence}", f"ClientError: {path}, {sentence}"))
    assert not list((base / "model").glob("*"))


# ----------------------------------------------------------------------------------------------------------------------
# Memory: a limit on a process's addresses, beside what it has already.
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_weights_that_memory_cannot_hold(base: Path) -> None:
    """What training takes at least is known before it starts, with its sizes and what would help."""
    sentence = out_of_memory(base, {"enc0_vocab_size": "1000000", "enc0_token_embedding_dim": "300"})
    assert "(training takes at least 7.2 GB): of " in sentence
    assert " GB the weights take 2.4 GB, 2.4 GB of it for tokens (" in sentence
    assert "enc0_vocab_size=1000000 by enc0_token_embedding_dim=300 and enc1_vocab_size=1000000 by enc1_" in sentence
    assert "optimizer=adam keeps 2 more numbers for each; a smaller token_embedding_dim" in sentence


@pytest.mark.slow
def test_a_batch_that_memory_cannot_hold(base: Path) -> None:
    """What a step cannot have is said with the hyperparameters that a batch hangs on."""
    sizes = {"mini_batch_size": "10000", "mlp_dim": "10000", "mlp_layers": "10", "enc0_token_embedding_dim": "4"}
    large = sizes | {"mlp_layers": "1", "mlp_dim": "10000", "negative_sampling_rate": "9"}
    sentence = out_of_memory(base, large, lines_of(10_000))
    assert "can't allocate memory" in sentence
    assert "a mini_batch_size below 10000, or a smaller enc0_max_seq_len would help" in sentence


def out_of_memory(base: Path, hyperparameters: dict[str, str], train: bytes = lines_of(30)) -> str:
    """The failure of a job that must have too little memory."""
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
def test_a_job_that_the_system_kills(base: Path) -> None:
    """SIGKILL, which comes from the system where memory runs out, leaves nobody who could speak but the witness."""
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
def test_what_the_command_around_training_cannot_use(base: Path) -> None:
    """AWS's command fails by itself on some values, with a traceback for a reason; the reason takes its place."""
    process = start_host(with_files(base, {"sagemaker_container_log_level": "loud"}), free_port(), training.train)
    process.join(300)
    assert process.exitcode == 1, (base / "log").read_text()
    sentence = "AlgorithmError: AWS's command around training failed: Unknown level: 'loud'"
    assert (base / "output" / "failure").read_text() == sentence


@pytest.mark.slow
def test_a_process_that_ends_before_it_is_connected(base: Path) -> None:
    """The others of its host would wait for it for minutes, and are told."""
    process = start_host(with_files(base), free_port(), train_with_a_device_that_fails)
    process.join(300)
    log = (base / "log").read_text()
    assert process.exitcode == 1, log
    assert (
        "AlgorithmError: process 1 of this host, for nowhere, ended with status 1 before it came to the others" in log
    )
