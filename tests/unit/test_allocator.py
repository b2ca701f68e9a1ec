"""Tables whose memory is taken as it is used, and memory that is kept."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from object2vec import allocator

#: Asks for 40 MB, more than glibc keeps by itself, and frees them; prints how many pages that costs in the end.
CHURN = """
import resource, sys
import torch
from object2vec import allocator
if sys.argv[1] == "keep":
    allocator.keep_freed()
def pages(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
pages(30)
print(pages(10))
"""


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("shape", [(3, 5), (0, 4), (700_000, 3)])
def test_a_table_starts_as_zeros_and_holds_what_is_written(shape: tuple[int, int]) -> None:
    """It is float32 of the shape asked for, and a tensor like any other."""
    table = allocator.zeros(*shape)
    assert (tuple(table.shape), table.dtype) == (shape, torch.float32)
    assert not table.any()
    assert torch.equal(table.add_(1.5), torch.full(shape, 1.5))


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for a process's memory")
def test_a_table_takes_no_memory_before_it_is_used() -> None:
    """A gigabyte of zeros can be asked for; a row that is written to takes its pages, and no more than that."""
    before = resident()
    table = allocator.zeros(2**18, 1000)
    table[2**17] += 1
    assert table[2**17].sum() == 1000
    assert resident() - before < 16 * 2**20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_freed_memory_is_kept() -> None:
    """Asking for the same size again costs no page of the system's, as it does without."""
    run = [sys.executable, "-c", CHURN]
    pages = [int(subprocess.check_output([*run, mode], text=True)) for mode in ("keep", "give back")]
    assert pages[0] < 1_000 < 50_000 < pages[1]


def test_no_room_for_a_table_is_a_memory_error() -> None:
    """More than a process can address is refused with the table's size, as any other lack of memory is."""
    with pytest.raises(MemoryError, match=r"no 1.6e\+09 GB for a table of 400000000000 rows and 1000000 columns"):
        allocator.zeros(400_000_000_000, 1_000_000)
