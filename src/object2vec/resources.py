"""What there is to run on: CPUs and memory, of the machine and of the part of it that a control group allows."""

from __future__ import annotations

import os
import re
import resource
import sys
from pathlib import Path
from typing import Final

#: Where Linux says how much memory there is, and how much of all a container may have.
MEMINFO: Final = Path("/proc/meminfo")
CGROUP: Final = Path("/sys/fs/cgroup")
#: What is mounted where: proc_pid_mountinfo(5).
MOUNTS: Final = Path("/proc/self/mountinfo")
_SIZE: Final = re.compile(r"^(\w+): +(\d+) kB$", re.MULTILINE)


def cpus() -> int:
    """How many CPUs this process may keep busy, at least 1: of the host's the ones it may run on, within its quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(allowed, _quota())))


def is_in_memory(folder: str) -> bool:
    """Return whether the files of a folder are in memory, as those of a tmpfs are."""
    try:
        device = Path(folder).stat().st_dev
        mounts = MOUNTS.read_text()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    found = (line.partition(" - ")[2] for line in mounts.splitlines() if line.split()[2] == number)
    return next(found, "").split(" ")[0] in ("tmpfs", "ramfs")


def memory_limit() -> int:
    """Bytes that this process can have at most: those of the machine, of its control group, and of its own limits."""
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    machine = _meminfo()
    swap = machine.get("SwapTotal", 0)
    limits.append(machine.get("MemTotal", sys.maxsize) + swap)
    limits.append(_number("memory.max") + min(_number("memory.swap.max"), swap))
    limits.append(_number("memory/memory.limit_in_bytes") + swap)  # the first version of control groups
    limits.append(_number("memory/memory.memsw.limit_in_bytes"))
    return min(each for each in limits if each != resource.RLIM_INFINITY)


def memory_available() -> int:
    """Bytes that this process may take without swap: what the machine has left, within its control group's limit."""
    left = _meminfo().get("MemAvailable", 2**40)
    return min(left, _number("memory.max"), _number("memory/memory.limit_in_bytes"))


def _meminfo() -> dict[str, int]:
    """What Linux says of the machine's memory, in bytes."""
    return {name: 1024 * int(size) for name, size in _SIZE.findall(_text(MEMINFO))}


def _quota() -> float:
    """CPUs that the control group allows, infinite without a limit: one file in version 2, in version 1 two."""
    quota, period = _text(CGROUP / "cpu.max").split() or (
        _text(CGROUP / "cpu" / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
    )
    return float("inf") if quota in ("", "max", "-1") else int(quota) / int(period)


def _number(name: str) -> int:
    """What a file of the control group says, a very large number where that is nothing."""
    text = _text(CGROUP / name).strip()
    return int(text) if text.isdecimal() else sys.maxsize


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # another system, or another version of control groups
        return ""
