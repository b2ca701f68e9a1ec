"""CPUs and memory that this process may use, by the machine and its control group."""

from __future__ import annotations

import os
import re
import resource
import sys
from pathlib import Path
from typing import Final

#: Memory of the machine, and limits of the control group, on Linux.
MEMINFO: Final = Path("/proc/meminfo")
CGROUP: Final = Path("/sys/fs/cgroup")
#: Mounted file systems, see proc_pid_mountinfo(5).
MOUNTS: Final = Path("/proc/self/mountinfo")
_SIZE: Final = re.compile(r"^(\w+): +(\d+) kB$", re.MULTILINE)


def cpus() -> int:
    """Return how many CPUs this process may use, at least 1: its affinity, within the quota of its control group."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(allowed, _quota())))


def is_in_memory(folder: str) -> bool:
    """Return whether a folder is on a file system in memory, such as tmpfs."""
    try:
        device = Path(folder).stat().st_dev
        mounts = MOUNTS.read_text()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    found = (line.partition(" - ")[2] for line in mounts.splitlines() if line.split()[2] == number)
    return next(found, "").split(" ")[0] in ("tmpfs", "ramfs")


def memory_limit() -> int:
    """Return how many bytes this process can allocate, by machine, control group and resource limits."""
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    machine = _meminfo()
    swap = machine.get("SwapTotal", 0)
    limits.append(machine.get("MemTotal", sys.maxsize) + swap)
    limits.append(_number("memory.max") + min(_number("memory.swap.max"), swap))
    limits.append(_number("memory/memory.limit_in_bytes") + swap)  # version 1 of control groups
    limits.append(_number("memory/memory.memsw.limit_in_bytes"))
    return min(each for each in limits if each != resource.RLIM_INFINITY)


def memory_available() -> int:
    """Return how many bytes are free without swap, at most the limit of the control group."""
    left = _meminfo().get("MemAvailable", 2**40)
    return min(left, _number("memory.max"), _number("memory/memory.limit_in_bytes"))


def _meminfo() -> dict[str, int]:
    """Return the entries of /proc/meminfo, in bytes."""
    return {name: 1024 * int(size) for name, size in _SIZE.findall(_text(MEMINFO))}


def _quota() -> float:
    """Return the CPU quota of the control group, infinite without one; version 1 has two files for it."""
    quota, period = _text(CGROUP / "cpu.max").split() or (
        _text(CGROUP / "cpu" / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
    )
    return float("inf") if quota in ("", "max", "-1") else int(quota) / int(period)


def _number(name: str) -> int:
    """Return the number in a file of the control group; sys.maxsize if there is none."""
    text = _text(CGROUP / name).strip()
    return int(text) if text.isdecimal() else sys.maxsize


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # another system, or another version of control groups
        return ""
