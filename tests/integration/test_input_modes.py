"""Channels as the platform gives them, by the image's `train` on real trees: Pipe mode is File mode in another way."""

from __future__ import annotations

import gzip
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from object2vec.data import files
from object2vec.sagemaker import pipes, training
from object2vec.sagemaker.environment import Directories, TrainingEnvironment
from ranks import free_port, start_host, train_on_two_devices
from trees import failure_of, lines_of, tree

CHANNELS = ("train", "validation", "test")


#: What two files of each channel hold.
CONTENT = {name: (lines_of(30, 7 * n), lines_of(10, 11 * n)) for n, name in enumerate(CHANNELS)}


def piped(*names: str) -> dict[str, dict[str, str]]:
    return {name: {"TrainingInputMode": "Pipe"} for name in names}


class Feeder:
    """The platform's end of pipes: makes each one, late if so wished, and writes parts into it once it is opened."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def feed(self, pipe: Path, parts: Sequence[bytes], *, late: float = 0) -> None:
        self.threads.append(threading.Thread(target=self._feed, args=(pipe, parts, late), daemon=True))
        self.threads[-1].start()

    def _feed(self, pipe: Path, parts: Sequence[bytes], late: float) -> None:
        time.sleep(late)
        os.mkfifo(pipe)
        with pipe.open("wb") as stream:
            for part in parts:
                stream.write(part)
                stream.flush()


@pytest.fixture
def feeder() -> Iterator[Feeder]:
    feeder = Feeder()
    yield feeder
    for thread in feeder.threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / "ml"))
    return tmp_path / "ml"


def metrics(log: str) -> list[str]:
    return re.findall(r"#quality_metric: (.*)", log)


@pytest.fixture
def in_file_mode(tmp_path: Path, base: Path, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The metrics of the job whose channels are folders."""
    data = tree(tmp_path / "file", {name: {"TrainingInputMode": "FastFile"} for name in CHANNELS})
    for name, parts in CONTENT.items():
        (data / f"{name}-manifest").write_text("no channel")
        (data / name).mkdir()
        for number, part in enumerate(parts):
            (data / name / f"{number}.jsonl").write_bytes(part)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / "file"))
        training.main()
    lines = metrics(capfd.readouterr().out)
    assert len(lines) == 3 * 4 + 2
    return lines


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_pipe_mode_is_file_mode(
    base: Path, feeder: Feeder, in_file_mode: list[str], packed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Pipes give the metrics that files give, of all channels and epochs; late ones and packed ones too."""
    data = tree(base, piped(*CHANNELS))
    for number, (name, parts) in enumerate(CONTENT.items()):
        feeder.feed(data / f"{name}_0", [gzip.compress(p) if packed else p for p in parts], late=number / 10)
    training.main()
    assert metrics(capfd.readouterr().out) == in_file_mode


@pytest.mark.slow
def test_pipes_are_read_once_for_all_devices(base: Path, feeder: Feeder, in_file_mode: list[str]) -> None:
    """A host with two devices reads a pipe once, for both of its processes, which see the records of File mode."""
    data = tree(base, piped(*CHANNELS))
    for name, parts in CONTENT.items():
        feeder.feed(data / f"{name}_0", parts)
    process = start_host(base, free_port(), train_on_two_devices)
    process.join(300)
    log = (base / "log").read_text()
    assert process.exitcode == 0, log
    found, wanted = ([float(line.partition(">=")[2]) for line in lines] for lines in (metrics(log), in_file_mode))
    assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("cut", [0, 20], ids=["whole", "cut off"])
def test_a_pipe_for_several_processes_is_copied_as_it_is(base: Path, feeder: Feeder, cut: int) -> None:
    """Damaged gzip is found where the copy is read, and is no fault of the disk."""
    packed = gzip.compress(lines_of(300, 0))
    feeder.feed(tree(base, piped("train")) / "train_0", [packed[: len(packed) - cut]])
    with pipes.opened(TrainingEnvironment.read(Directories(base)), readers=2) as channels:
        assert channels["train"].read_bytes() == packed[: len(packed) - cut]


def test_parts_of_a_pipe_without_a_last_line_break(base: Path, feeder: Feeder, capfd: pytest.CaptureFixture) -> None:
    """The platform joins files without a line break: records, empty files and byte order marks between are read."""
    parts = [lines_of(30, 0).rstrip(), b"", b"\xef\xbb\xbf" + lines_of(10, 30).rstrip(), b"\xef\xbb\xbf"]
    feeder.feed(tree(base, piped("train")) / "train_0", parts)
    training.main()
    assert "Total: 40 samples" in capfd.readouterr().out


def test_a_pipe_of_another_format(base: Path, feeder: Feeder) -> None:
    """The format is named as it is of a file."""
    feeder.feed(tree(base, piped("train")) / "train_0", [lines_of(3, 0).decode().encode("utf-16")])
    assert failure_of(base) == f"ClientError: {base}/input/data/train_0: UTF-16 text; save it as UTF-8"


def test_a_feeder_that_dies_within_a_line(base: Path, feeder: Feeder) -> None:
    """A pipe that is closed in the middle of a line is no channel; the line is named."""
    feeder.feed(tree(base, piped("train")) / "train_0", [lines_of(3, 0) + b'{"in0": [1], "in'])
    assert failure_of(base).startswith(f"ClientError: {base}/input/data/train_0, line 4: not JSON (")


def test_a_feeder_that_dies_within_gz(base: Path, feeder: Feeder) -> None:
    """A pipe that is closed before its gzip is whole is named."""
    feeder.feed(tree(base, piped("train")) / "train_0", [gzip.compress(lines_of(300, 0))[:-20]])
    assert failure_of(base).startswith(f"ClientError: {base}/input/data/train_0: cannot be read past line ")


def none_at_all(pipe: Path) -> None:
    """The platform makes no pipe."""


def pipe_without_writer(pipe: Path) -> None:
    os.mkfifo(pipe)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (none_at_all, "no such pipe after 0.2 s, wanted one for a channel in Pipe mode"),
        (pipe_without_writer, "cannot be read past line 0 (no data has arrived in the pipe for 0.2 s)"),
    ],
)
def test_a_feeder_that_never_comes(
    base: Path, make: Callable[[Path], None], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that does not appear, and one that nobody opens, are waited for as long as is said and no longer."""
    for module in (files, pipes):
        monkeypatch.setattr(module, "PIPE_IDLE_SECONDS", 0.2)
    make(tree(base, piped("train")) / "train_0")
    assert failure_of(base) == f"ClientError: {base}/input/data/train_0: {sentence}"


def test_a_feeder_that_hangs(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is a pipe whose writer sends nothing more, and stays."""
    monkeypatch.setattr(files, "PIPE_IDLE_SECONDS", 0.2)
    pipe = tree(base, piped("train")) / "train_0"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)
    os.write(end, lines_of(3, 0))
    assert "train_0: cannot be read past line 0 (no data has arrived in the pipe for 0.2 s)" in failure_of(base)
    os.close(end)


@pytest.mark.parametrize(
    ("name", "channel", "sentence"),
    [
        ("train", {"TrainingInputMode": "Stream"}, "TrainingInputMode is Stream, wanted File, FastFile, Pipe"),
        ("auxiliary", {"TrainingInputMode": "Pipe"}, "TrainingInputMode is Pipe, wanted File: its files have names"),
        (
            "train",
            {"TrainingInputMode": "Pipe", "RecordWrapperType": "RecordIO"},
            "RecordWrapperType is RecordIO, wanted",
        ),
        ("train", "s3://bucket", 'wanted an object like {"TrainingInputMode": "File"}'),
    ],
)
def test_ways_that_there_are_not(base: Path, name: str, channel: object, sentence: str) -> None:
    """A channel that comes in a way that is not read is named, with what is wanted."""
    tree(base, {name: channel})
    start = f"ClientError: {base}/input/config/inputdataconfig.json: channel {name}: {sentence}"
    assert failure_of(base).startswith(start)
