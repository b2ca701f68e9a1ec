"""Set how the threads of OpenMP and MKL work, before torch loads these libraries.

Both read the environment once, when they are loaded. This module must not import torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from object2vec.resources import cpus

#: Variables by which a user decides how long a waiting thread spins.
SPIN_VARIABLES: Final = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
#: Variables by which a user decides how many threads there are.
COUNT_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
#: How often a waiting thread of GNU OpenMP looks again before it sleeps. By default it is 300,000 times, several
#: milliseconds: if other processes use the cores, the thread that the others wait for gets no core for so long. With
#: much smaller numbers threads sleep between two operations of a step, and an idle machine loses the second thread.
SPIN_COUNT: Final = "30000"
#: Matrix products then do not depend on the number of threads, which the thread tuner changes at any time. `AUTO` alone
#: does not give that: with one and two threads, (2048, 4096) by (4096, 256) differs. They take about 5 % longer.
STRICT: Final = "AUTO,STRICT"


def set_thread_defaults(environment: MutableMapping[str, str] = os.environ, *, repeatable: bool = False) -> None:
    """Bound how long waiting threads spin, and use no more threads than CPUs are allowed; what the user set stays.

    An empty value counts as not set.

    With `repeatable`, matrix products give the same bits for any number of threads.
    """
    if not any(environment.get(name) for name in SPIN_VARIABLES):
        environment["GOMP_SPINCOUNT"] = SPIN_COUNT
    if not any(environment.get(name) for name in COUNT_VARIABLES):
        environment["OMP_NUM_THREADS"] = str(cpus())  # within the quota of a container, which OpenMP does not know
    if repeatable:
        environment["MKL_CBWR"] = environment.get("MKL_CBWR") or STRICT


def bounded_spinning() -> AbstractContextManager[None]:
    """Bound how long waiting threads spin if torch is imported within; the environment is the same afterwards."""
    if "torch" in sys.modules or any(os.environ.get(name) for name in SPIN_VARIABLES):
        return nullcontext()
    return _default("GOMP_SPINCOUNT", SPIN_COUNT)


def repeatable_products() -> AbstractContextManager[None]:
    """Give matrix products the same bits for any number of threads, if the process has computed none before."""
    return _default("MKL_CBWR", STRICT)


@contextmanager
def _default(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment within, unless the user did."""
    if os.environ.get(name):
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
