"""Whether the kernels can be called, and on what."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from object2vec.ops import native
from object2vec.ops.library import Table, check_library

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:

    class _Torch:
        """Import torch at the first use of a name: importing this module must not take seconds."""

        def __getattr__(self, name: str) -> Any:
            value = getattr(import_module("torch"), name)
            setattr(self, name, value)
            return value

    torch = _Torch()

KINDS = {"sgd": 0, "adagrad": 1, "adam": 2}


#: At so many rows, or sequences, and below, `linear` and `lstm_run` are faster than torch's products.
FEW = 16


@cache
def status() -> native.Native:
    """Return the loaded library, or the reason why there is none."""
    from object2vec.ops.fused_step import Moved, PairBatch, Way
    from object2vec.ops.scoring import Head

    return check_library(native.load(), (Table, Moved, PairBatch, Way, Head))


def available() -> bool:
    """Whether the kernels can be called."""
    return status().library is not None


def stay_alone() -> None:
    """Make kernels that this thread calls use one thread."""
    library = status().library
    if library and status().threads:
        library.omp_set_num_threads(1)  # OpenMP's own, which the library is linked with


def usable(tensor: Tensor) -> bool:
    """Whether the kernels can work on tensors like this one."""
    return tensor.dtype == torch.float32 and readable(tensor)


def readable(table: Tensor) -> bool:
    """Whether `pool` and `Head` can read a table like this one, float32 or float16."""
    return table.device.type == "cpu" and table.dtype in (torch.float32, torch.float16) and available()
