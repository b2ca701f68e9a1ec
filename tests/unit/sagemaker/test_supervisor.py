"""The process that stays behind: it ends as its child does, and knows how that was."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, time
from object2vec.sagemaker import supervisor

def wait():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
    print("ready", os.getpid(), flush=True)
    time.sleep(600)

WORK = {
    "end": lambda: None,
    "exit": lambda: sys.exit(3),
    "say": lambda: sys.exit("why"),
    "raise": lambda: 1 / 0,
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "wait": wait,
}
supervisor.run_supervised(WORK[sys.argv[1]], lambda code: print("failed", code))
"""


def start(work: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, work], text=True, stdout=subprocess.PIPE)


@pytest.mark.parametrize(
    ("work", "status", "said"),
    [
        ("end", 0, ""),
        ("exit", 3, "failed 3\n"),
        ("say", 1, "failed 1\n"),
        ("raise", 1, "failed 1\n"),
        ("die", 128 + signal.SIGKILL, f"failed {-signal.SIGKILL}\n"),
    ],
)
def test_it_ends_as_its_child_does(work: str, status: int, said: str) -> None:
    """With the child's status, or 128 and the number of the signal that ended it; only a failure is told of, once."""
    with start(work) as process:
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (status, said)


def test_sigterm_reaches_the_child() -> None:
    """Who stops the process stops the child, whose answer decides."""
    with start("wait") as process:
        assert process.stdout
        assert process.stdout.readline().startswith("ready ")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (5, "failed 5\n")


@pytest.mark.skipif(sys.platform != "linux", reason="a request of Linux's")
def test_no_child_outlives_it() -> None:
    """Who kills the process kills the child."""
    with start("wait") as process:
        assert process.stdout
        child = int(process.stdout.readline().split()[1])
        process.kill()
    end = time.monotonic() + 60
    while is_running(child):
        assert time.monotonic() < end
        time.sleep(0.01)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False
