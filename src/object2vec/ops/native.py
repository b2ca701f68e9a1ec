"""Load the library of C kernels, or say why it cannot be used.

Nothing here imports torch, so that `object2vec --version` can say at once which kernels run.
"""

from __future__ import annotations

import ctypes
import shlex
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from object2vec.ops.build import LIBRARY, source_id

PREFIX = "o2v_"


class Native(NamedTuple):
    """The library, and the level of processors whose kernels run; or no library, and the reason."""

    library: ctypes.CDLL | None
    level: str = "none"
    threads: bool = True
    reason: str = ""

    @property
    def build(self) -> str:
        """`avx512`, `avx2` or `baseline`, with `-1thread` if compiled without OpenMP; or `none`."""
        return self.level if self.threads else f"{self.level}-1thread"

    @property
    def warning(self) -> str:
        """Say that there are no kernels, what it costs, and how to compile them; empty if there are."""
        if self.library:
            return ""
        cost = "work on a CPU takes up to 40 times longer"
        return f"The C kernels are not used ({self.reason}), so {cost}; compile them with: {rebuild_command()}"


def rebuild_command() -> str:
    """Return the command that compiles the kernels of this installation."""
    return f"{shlex.quote(sys.executable)} -m object2vec.ops.build"


@cache
def load(path: Path = LIBRARY) -> Native:
    """Load the library. One that was compiled from other sources, or cannot be loaded, counts as missing."""
    if not path.is_file():
        return Native(None, reason=f"{path} is missing")
    _load_openmp()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return Native(None, reason=f"{path} cannot be loaded: {error}")
    try:
        found, level = (_text(library, name) for name in ("build_id", "level"))
        threads = bool(library.o2v_has_threads())
    except AttributeError:
        found, level, threads = "", "", False
    wanted = source_id()
    if found != wanted:
        return Native(None, reason=f"{path} has the build id {found or 'of an older version'}, wanted {wanted}")
    return Native(library, level, threads)


def _text(library: ctypes.CDLL, name: str) -> str:
    function = getattr(library, PREFIX + name)
    function.restype = ctypes.c_char_p
    text: bytes = function()
    return text.decode()


def _load_openmp() -> None:
    """Load torch's OpenMP runtime: the kernels and torch then share their threads, whichever is loaded first."""
    if "torch" in sys.modules:
        return
    spec = find_spec("torch")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder, "lib").glob("libgomp*.so*")):
            ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
