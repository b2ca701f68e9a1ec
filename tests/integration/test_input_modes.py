"""Input modes of channels, with the image's `train`: Pipe mode gives the results of File mode."""

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


#: Contents of two files of each channel.
CONTENT = {name: (lines_of(30, 7 * n), lines_of(10, 11 * n)) for n, name in enumerate(CHANNELS)}


def piped(*names: str) -> dict[str, dict[str, str]]:
    return {name: {"TrainingInputMode": "Pipe"} for name in names}


class PipeWriter:
    """The platform's end of the pipes: creates each one, possibly late, and writes parts after it is opened."""

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
def feeder() -> Iterator[PipeWriter]:
    feeder = PipeWriter()
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
    """Return the metrics of the job in File mode."""
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
def test_pipe_mode_gives_the_metrics_of_file_mode(
    base: Path, feeder: PipeWriter, in_file_mode: list[str], packed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """All metrics of all channels are equal, also for late and compressed pipes."""
    data = tree(base, piped(*CHANNELS))
    for number, (name, parts) in enumerate(CONTENT.items()):
        feeder.feed(data / f"{name}_0", [gzip.compress(p) if packed else p for p in parts], late=number / 10)
    training.main()
    assert metrics(capfd.readouterr().out) == in_file_mode


@pytest.mark.slow
def test_pipe_is_read_once_for_all_devices(base: Path, feeder: PipeWriter, in_file_mode: list[str]) -> None:
    """A host with two devices reads a pipe once for both processes, with the records of File mode."""
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
def test_damaged_gzip_in_a_copied_pipe_is_a_data_error(base: Path, feeder: PipeWriter, cut: int) -> None:
    """Damaged gzip is reported when the copy is read, and not as a disk error."""
    packed = gzip.compress(lines_of(300, 0))
    feeder.feed(tree(base, piped("train")) / "train_0", [packed[: len(packed) - cut]])
    with pipes.open_channels(TrainingEnvironment.read(Directories(base)), readers=2) as channels:
        assert channels["train"].read_bytes() == packed[: len(packed) - cut]


def test_concatenated_parts_without_line_breaks_are_read(
    base: Path, feeder: PipeWriter, capfd: pytest.CaptureFixture
) -> None:
    """The platform concatenates files without line breaks; records, empty files and byte order marks are read."""
    parts = [lines_of(30, 0).rstrip(), b"", b"\xef\xbb\xbf" + lines_of(10, 30).rstrip(), b"\xef\xbb\xbf"]
    feeder.feed(tree(base, piped("train")) / "train_0", parts)
    training.main()
    assert "Total: 40 samples" in capfd.readouterr().out


def test_pipe_in_another_format_is_rejected(base: Path, feeder: PipeWriter) -> None:
    """The error names the format, as for a file."""
    feeder.feed(tree(base, piped("train")) / "train_0", [lines_of(3, 0).decode().encode("utf-16")])
    assert failure_of(base) == f"ClientError: {base}/input/data/train_0: UTF-16 text; save it as UTF-8"


def test_pipe_closed_within_a_line_is_an_error(base: Path, feeder: PipeWriter) -> None:
    """The error names the incomplete line."""
    feeder.feed(tree(base, piped("train")) / "train_0", [lines_of(3, 0) + b'{"in0": [1], "in'])
    assert failure_of(base).startswith(f"ClientError: {base}/input/data/train_0, line 4: not JSON (")


def test_pipe_closed_within_gzip_is_an_error(base: Path, feeder: PipeWriter) -> None:
    """The error names the pipe."""
    feeder.feed(tree(base, piped("train")) / "train_0", [gzip.compress(lines_of(300, 0))[:-20]])
    assert failure_of(base).startswith(f"ClientError: {base}/input/data/train_0: cannot be read past line ")


def no_pipe(pipe: Path) -> None:
    """Create no pipe."""


def pipe_without_writer(pipe: Path) -> None:
    os.mkfifo(pipe)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (no_pipe, "no such pipe after 0.2 s, wanted one for a channel in Pipe mode"),
        (pipe_without_writer, "cannot be read past line 0 (no data has arrived in the pipe for 0.2 s)"),
    ],
)
def test_missing_pipe_or_writer_times_out(
    base: Path, make: Callable[[Path], None], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing pipe, and one without a writer, are an error after the time limit."""
    for module in (files, pipes):
        monkeypatch.setattr(module, "PIPE_IDLE_SECONDS", 0.2)
    make(tree(base, piped("train")) / "train_0")
    assert failure_of(base) == f"ClientError: {base}/input/data/train_0: {sentence}"


def test_idle_pipe_times_out(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe whose writer stays open but sends nothing is an error after the time limit."""
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
def test_unknown_input_mode_is_rejected(base: Path, name: str, channel: object, sentence: str) -> None:
    """The error names the channel and the accepted modes."""
    tree(base, {name: channel})
    start = f"ClientError: {base}/input/config/inputdataconfig.json: channel {name}: {sentence}"
    assert failure_of(base).startswith(start)
