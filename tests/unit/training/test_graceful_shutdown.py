"""Signals: heard while the main thread is deep in a call that takes minutes, and what was before is back afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from object2vec.training.graceful_shutdown import Stop, handle_termination_signals

#: A process that says when it is in its long call, which lets no handler of Python's run.
DEEP = """
import hashlib, signal, sys, time
from object2vec.training.graceful_shutdown import handle_termination_signals
from object2vec.training import graceful_shutdown
graceful_shutdown.GRACE_SECONDS = 0.3
stop = graceful_shutdown.Stop()
{before}
def write():
    with open(sys.argv[1], "a") as file: file.write("model")
    {more}
with handle_termination_signals(stop, signal.SIGTERM, signal.SIGINT):
    stop.emergency_save = write
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


@contextmanager
def deep(path: Path, *, before: str = "", more: str = "") -> Iterator[subprocess.Popen[str]]:
    """Start a process that is inside a long call; kill it at the end of the test."""
    code = DEEP.format(before=before, more=more)
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_stop_does_not_wait_for_a_long_step(tmp_path: Path, number: int, status: int) -> None:
    """After the grace period the model is written; a second SIGTERM changes nothing."""
    with deep(tmp_path / "model", before="stop.training = True") as process:
        process.send_signal(number)
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == status
    assert (tmp_path / "model").read_text() == "model"


def test_interrupt_in_a_long_call_before_training_writes_no_model(tmp_path: Path) -> None:
    with deep(tmp_path / "model") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (130, -signal.SIGINT)  # it may arrive just before the call
    assert not (tmp_path / "model").exists()


def test_failed_emergency_save_has_a_nonzero_status(tmp_path: Path) -> None:
    """The log has the reason."""
    with deep(tmp_path / "model", more="raise OSError('no room')") as process:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no room" in errors


def test_stop_requested_before_the_handlers_is_enforced(tmp_path: Path) -> None:
    """The grace period also applies to an earlier request."""
    with deep(tmp_path / "model", before="stop.request()") as process:
        assert process.wait(60) == 0
    assert (tmp_path / "model").read_text() == "model"


def test_job_that_ends_in_time_is_not_forced_to_exit() -> None:
    """The earlier signal handlers are restored."""
    before = signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before[1])
    stop, threads = Stop(), threading.active_count()
    with handle_termination_signals(stop, signal.SIGTERM):
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
    assert (signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)) == before
    end = time.monotonic() + 60
    while threading.active_count() > threads and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() <= threads  # those of other tests may have ended


def test_other_signals_do_not_request_a_stop() -> None:
    """Another signal wakes the thread, but requests nothing."""
    stop, seen = Stop(), []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        with handle_termination_signals(stop, signal.SIGTERM):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.05)
            assert seen == [1]
            assert not stop()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is left when the process ends can end it with SIGABRT."""
    read = os.read

    def slowly(descriptor: int, count: int) -> bytes:
        heard = read(descriptor, count)
        time.sleep(0.2)
        return heard

    monkeypatch.setattr(os, "read", slowly)
    with handle_termination_signals(Stop(), signal.SIGTERM):
        pass
    assert "signals" not in {thread.name for thread in threading.enumerate()}
