"""Load the compiled kernels, or say why they cannot be used.

Nothing here imports torch, so `object2vec --version` names the build at once.
"""

from __future__ import annotations

import ctypes
import re
import shlex
import sys
from collections.abc import Callable
from ctypes import c_double, c_float, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from object2vec.ops.build import FOLDER, LIBRARY, source_id

PREFIX = "o2v_"


class Library(NamedTuple):
    """The loaded library and the processor level of its kernels; or no handle, and the reason."""

    handle: ctypes.CDLL | None
    level: str = "none"
    has_threads: bool = True
    reason: str = ""

    @property
    def build(self) -> str:
        """Return `avx512`, `avx2` or `baseline`, with `-1thread` if compiled without OpenMP; or `none`."""
        return self.level if self.has_threads else f"{self.level}-1thread"

    @property
    def warning(self) -> str:
        """Return why there are no kernels, what it costs, and how to compile them; empty if there are."""
        if self.handle:
            return ""
        cost = "work on a CPU takes up to 40 times longer"
        return f"The C kernels are not used ({self.reason}), so {cost}; compile them with: {rebuild_command()}"


def rebuild_command() -> str:
    """Return the command that compiles the kernels of this installation."""
    return f"{shlex.quote(sys.executable)} -m object2vec.ops.build"


@cache
def load(path: Path = LIBRARY) -> Library:
    """Load the library. It counts as missing if it does not fit these sources, or cannot be loaded."""
    if not path.is_file():
        return Library(None, reason=f"{path} is missing")
    _load_openmp()
    try:
        handle = ctypes.CDLL(str(path))
        found, level = (_text(handle, name) for name in ("build_id", "level"))
    except OSError as error:
        return Library(None, reason=f"{path} cannot be loaded: {error}")
    except AttributeError:
        found, level = "", ""
    wanted = source_id()
    if found != wanted:
        return Library(None, reason=f"{path} has the build id {found or 'of an older version'}, wanted {wanted}")
    if reason := _find_mismatch(handle, level):
        return Library(None, reason=reason)
    return Library(handle, level, bool(handle.o2v_has_threads()))


def available() -> bool:
    """Return whether the kernels can be called."""
    return load().handle is not None


def use_one_thread() -> None:
    """Make kernels that this thread calls use one thread."""
    library = load()
    if library.handle and library.has_threads:
        library.handle.omp_set_num_threads(1)  # OpenMP's own, which the library is linked with


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


def _find_mismatch(handle: ctypes.CDLL, level: str) -> str:
    """Return which kernel is missing, or which struct has another size than in Python; empty if all fit."""
    prefix = f"{PREFIX}{level}_"
    for name in signatures():
        if not hasattr(handle, prefix + name):
            return f"{LIBRARY} has no {prefix}{name}"
    for struct, fields in structs().items():
        name, wanted = f"{PREFIX}sizeof_{struct}", ctypes.sizeof(fields)
        size = c_int64.in_dll(handle, name).value
        if size != wanted:
            return f"{LIBRARY} says {size} for {name}, wanted {wanted}"
    return ""


class Parameter(NamedTuple):
    """A parameter of a kernel: an array of a dtype; for anything else the dtype is empty."""

    kernel: str
    name: str
    dtype: str = ""
    is_written: bool = False
    is_optional: bool = False


class Signature(NamedTuple):
    """A kernel's result and parameters; `types` are those of ctypes."""

    result: type[Any] | None
    types: list[type[Any]]
    parameters: dict[str, Parameter]


SCALARS: dict[str, type[Any]] = {
    **{"int32_t": c_int32, "int64_t": c_int64, "uint32_t": c_uint32, "uint64_t": c_uint64},
    **{"float": c_float, "double": c_double},
}
DTYPES = {
    **{"float": "float32", "double": "float64", "int32_t": "int32", "uint8_t": "uint8"},
    **dict.fromkeys(("int64_t", "Slot"), "int64"),
}
_PROTOTYPE = re.compile(r"^KERNEL\((\w+), (\w+)\)\(([^)]*)\);", re.MULTILINE)
_STRUCT = re.compile(r"^typedef struct {(.*?)} (\w+);", re.MULTILINE | re.DOTALL)
_DECLARATION = re.compile(r"(?:const )?(\w+) ([^;]+);")
_FIELD = re.compile(r"(\*?)(?:const \*|NULLABLE )?(\w+)(?:\[(\d+)\])?(?:, |$)")
_PARAMETER = re.compile(r"(const )?(\w+) (\*?)((?:const \*)?)(NULLABLE )?(\w+)")


def _header() -> str:
    return (FOLDER / "api.h").read_text(encoding="utf-8")


@cache
def structs() -> dict[str, type[ctypes.Structure]]:
    """Read the structs of `csrc/api.h`."""
    found: dict[str, type[ctypes.Structure]] = {}
    for body, struct in _STRUCT.findall(_header()):
        fields: list[tuple[str, type[Any]]] = []
        for base, declarators in _DECLARATION.findall(body):
            for star, name, count in _FIELD.findall(declarators):
                kind = c_void_p if star else SCALARS.get(base) or found[base]
                fields.append((name, kind * int(count) if count else kind))
        found[struct] = type(struct, (ctypes.Structure,), {"_fields_": fields})
    return found


@cache
def signatures() -> dict[str, Signature]:
    """Read the signature of each kernel from `csrc/api.h`."""
    found = {}
    for result, kernel, text in _PROTOTYPE.findall(_header()):
        signature = Signature(SCALARS.get(result), [], {})
        for const, base, star, more_stars, optional, name in _PARAMETER.findall(text):
            is_array = star and not more_stars and base in DTYPES
            array = (DTYPES[base], not const, bool(optional)) if is_array else ()
            signature.types.append(c_void_p if star else SCALARS[base])
            signature.parameters[name] = Parameter(kernel, name, *array)
        found[kernel] = signature
    return found


@cache
def functions(kind: type[ctypes.CDLL] = ctypes.CDLL) -> dict[str, Callable[..., Any]]:
    """Return the kernels of the loaded library by name; those of a `PyDLL` keep the interpreter's lock."""
    level = load().level
    library = kind(str(LIBRARY))
    found = {}
    for name, signature in signatures().items():
        found[name] = getattr(library, f"{PREFIX}{level}_{name}")
        found[name].restype, found[name].argtypes = signature.result, signature.types
    return found
