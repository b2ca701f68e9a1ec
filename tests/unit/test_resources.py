"""What the machine and its control group say of CPUs and memory, in either version of control groups."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from object2vec import resources


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Linux says what there is, for a test to write."""
    monkeypatch.setattr(resources, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    return tmp_path


def test_quota_of_cgroup_2(here: Path) -> None:
    """Half a CPU is one worker; no limit is the CPUs that the process may run on."""
    every = resources.cpus()
    for text, wanted in (("50000 100000", 1), ("100000 100000", 1), ("max 100000", every), ("99900000 100000", every)):
        (here / "cpu.max").write_text(f"{text}\n")
        assert resources.cpus() == wanted


def test_quota_of_cgroup_1(here: Path) -> None:
    """The same in the older form, where -1 is no limit."""
    every = resources.cpus()
    (here / "cpu").mkdir()
    (here / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for text, wanted in (("150000", 1), ("-1", every)):
        (here / "cpu" / "cpu.cfs_quota_us").write_text(f"{text}\n")
        assert resources.cpus() == wanted


def test_memory(here: Path) -> None:
    """What the machine has left, within the limit of either version of cgroups."""
    meminfo = here / "meminfo"
    assert resources.memory_available() == 2**40
    meminfo.write_text("MemTotal:        8000 kB\nMemAvailable:    4000 kB\n")
    assert resources.memory_available() == 4000 * 1024
    for text, wanted in (("max\n", 4000 * 1024), ("1000000\n", 1_000_000), ("99999999999\n", 4000 * 1024)):
        (here / "memory.max").write_text(text)
        assert resources.memory_available() == wanted
    (here / "memory.max").unlink()
    (here / "memory").mkdir()
    (here / "memory" / "memory.limit_in_bytes").write_text("2000000\n")
    assert resources.memory_available() == 2_000_000


def test_the_limit_is_the_least_of_all(here: Path) -> None:
    """The memory and swap of the machine, of a control group, and of the process; what is not there says nothing."""
    (here / "meminfo").write_text(
        "MemTotal:       1000 kB\nMemFree:  1 kB\nSwapTotal:       24 kB\nHugePages_Total: 0\n"
    )
    assert resources.memory_limit() == 1024 * 1024
    (here / "memory.max").write_text("max\n")
    assert resources.memory_limit() == 1024 * 1024
    (here / "memory.max").write_text("10000\n")
    (here / "memory.swap.max").write_text("max\n")
    assert resources.memory_limit() == 10_000 + 24 * 1024  # what there is of it
    (here / "memory.swap.max").write_text("0\n")
    assert resources.memory_limit() == 10_000
    (here / "memory").mkdir()
    (here / "memory" / "memory.limit_in_bytes").write_text("5000\n")
    (here / "memory" / "memory.memsw.limit_in_bytes").write_text("9000\n")
    assert resources.memory_limit() == 9000
    shutil.rmtree(here / "memory")
    (here / "meminfo").unlink()
    (here / "memory.max").unlink()
    assert resources.memory_limit() > 2**40


@pytest.mark.parametrize(("kind", "wanted"), [("tmpfs", True), ("ramfs", True), ("ext4", False), ("overlay", False)])
def test_files_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, wanted: bool) -> None:
    """By the kind of the file system that a folder is on, among others that are mounted."""
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:999 / /proc rw shared:12 - proc proc rw\n"
        f"28 1 {os.major(device)}:{os.minor(device)} / /a\\040b rw,nosuid shared:7 - {kind} none rw,size=9k\n"
    )
    monkeypatch.setattr(resources, "MOUNTS", mounts)
    assert resources.is_in_memory(str(tmp_path)) is wanted


def test_files_of_which_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They count as on a disk."""
    monkeypatch.setattr(resources, "MOUNTS", tmp_path / "missing")
    assert not resources.is_in_memory(str(tmp_path))
    (tmp_path / "missing").touch()
    assert not resources.is_in_memory(str(tmp_path))
    assert not resources.is_in_memory(str(tmp_path / "nowhere"))


@pytest.mark.skipif(not Path("/dev/shm").is_mount(), reason="no tmpfs where Linux has one")
def test_shared_memory_is_in_memory() -> None:
    assert resources.is_in_memory("/dev/shm")
