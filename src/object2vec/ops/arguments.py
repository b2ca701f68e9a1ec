"""Check the arguments of kernels, and call them.

C cannot check an address. So every array is checked here: it has the kernel's type, is contiguous and on the CPU, and
is writable if the kernel writes to it. Public functions of the other modules check shapes and ranges.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from ctypes import addressof, c_void_p
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from object2vec.ops import library
from object2vec.ops.library import DTYPES, Parameter, functions, signatures, structs

if TYPE_CHECKING:  # importing torch takes seconds
    import torch
    from torch import Tensor

    Array = Tensor | npt.NDArray[Any]

#: The greatest dim of a row that kernels have room for; `csrc/api.h` has the same.
MAX_DIM = 1000
#: The dtypes of numpy that fit a parameter's.
NUMPY_DTYPES: dict[str, tuple[np.dtype[Any], ...]] = {
    dtype: (np.dtype(dtype), *([np.dtype(bool)] if dtype == "uint8" else [])) for dtype in set(DTYPES.values())
}


def call(name: str, *arguments: object) -> int:
    """Call a kernel, with checked tensors and arrays for its pointers."""
    given = [
        pointer(value, parameter) if parameter.dtype else value
        for value, parameter in zip(arguments, signatures()[name].parameters.values(), strict=True)
    ]
    result: int = functions()[name](*given)
    return result


def pointer(value: Any, parameter: Parameter) -> int | bytes | None:
    """Return the address of an array.

    Raises:
        TypeError: the value is not an array of the parameter's type.
        ValueError: the array is not contiguous, not on the CPU, or read-only although the kernel writes to it.
    """
    # First, and with few calls: a step passes about a hundred tensors.
    if _is_tensor_type(type(value)):  # type: ignore[arg-type]  # it is hashable
        if value.dtype is _torch_dtype(parameter.dtype) and value.is_cpu and value.is_contiguous():
            found: int = value.data_ptr()
            return found
    elif isinstance(value, np.ndarray):
        flags = value.flags
        if (
            value.dtype in NUMPY_DTYPES[parameter.dtype]
            and flags.c_contiguous
            and (flags.writeable or not parameter.is_written)
        ):
            return address(value)
    elif isinstance(value, bytes) and parameter.dtype == "uint8" and not parameter.is_written:
        return value
    elif value is None and parameter.is_optional:
        return None
    raise _argument_error(value, parameter)


@cache
def _is_tensor_type(type_: type) -> bool:
    return type_.__module__.partition(".")[0] == "torch" and hasattr(type_, "data_ptr")


@cache
def _torch_dtype(name: str) -> torch.dtype:
    dtype: torch.dtype = getattr(import_module("torch"), name)
    return dtype


def _argument_error(value: Any, parameter: Parameter) -> TypeError | ValueError:
    what, wanted = f"{parameter.kernel}: {parameter.name}", parameter.dtype
    if not (isinstance(value, np.ndarray) or _is_tensor_type(type(value))):  # type: ignore[arg-type]
        return TypeError(f"{what} is a {type(value).__name__}, wanted an array or tensor of {wanted}")
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype not in {wanted, *map(str, NUMPY_DTYPES[parameter.dtype])}:
        return TypeError(f"{what} is {dtype}, wanted {wanted}")
    if isinstance(value, np.ndarray):
        strides, contiguous = value.strides, value.flags.c_contiguous
    elif not value.is_cpu:
        return ValueError(f"{what} is on {value.device}, wanted the CPU")
    else:
        strides, contiguous = value.stride(), value.is_contiguous()
    if not contiguous:
        return ValueError(f"{what} has shape {tuple(value.shape)} and strides {strides}, wanted a contiguous one")
    return ValueError(f"{what} is read-only, wanted one that can be written")


def address(array: npt.NDArray[Any]) -> int:
    """Return the address of an array, in less time than `array.ctypes` takes where that is possible."""
    if array.flags.writeable:
        return addressof(_ANY.from_buffer(array))  # type: ignore[arg-type]  # a buffer since Python 3.12, for mypy
    return array.ctypes.data


_ANY = ctypes.c_char * 0


def addresses(kernel: str, values: Iterable[Array], dtype: str = "float32") -> ctypes.Array[c_void_p]:
    """Return the addresses of several arrays of one type."""
    found = [pointer(value, Parameter(kernel, f"array {i}", dtype)) for i, value in enumerate(values)]
    return (c_void_p * len(found))(*found)  # type: ignore[misc]  # none is bytes


def check_shapes(kernel: str, **given: tuple[Array, tuple[int, ...]]) -> None:
    """Raise ValueError unless each array has the shape given with it."""
    for name, (value, wanted) in given.items():
        if value.shape != wanted:
            raise ValueError(f"{kernel}: {name} has shape {tuple(value.shape)}, wanted {wanted}")


def check_range(kernel: str, name: str, values: Array, high: int, low: int = 0) -> int | bytes | None:
    """Return the address of an argument; raise ValueError unless all its integers are from `low` to `high` - 1."""
    parameter = signatures()[kernel].parameters[name]
    at = pointer(values, parameter)
    size = values.size if isinstance(values, np.ndarray) else values.numel()
    if size == 1 and low <= values.item() < high:  # a server checks one pair a request; the call would take longer
        return at
    find = "find_out_of_range32" if parameter.dtype == "int32" else "find_out_of_range64"
    bad = functions(ctypes.PyDLL)[find](at, size, low, high)
    if bad >= 0:
        value = int(values.reshape(-1)[bad])
        raise ValueError(f"{kernel}: {name}[{bad}] is {value}, wanted an integer from {low} to {high - 1}")
    return at


def check_offsets(kernel: str, name: str, offsets: Array, limit: int) -> int:
    """Raise ValueError unless offsets are (n + 1,) and ascend within 0 to `limit`; return n."""
    parameter = signatures()[kernel].parameters[name]
    if offsets.ndim != 1 or not offsets.shape[0]:
        raise ValueError(f"{kernel}: {name} has shape {tuple(offsets.shape)}, wanted (n + 1,)")
    size: int = offsets.shape[0]  # `len` of a tensor takes longer
    bad = functions(ctypes.PyDLL)["find_bad_offset"](pointer(offsets, parameter), size, limit)
    if bad >= 0:
        value = int(offsets[bad])
        raise ValueError(f"{kernel}: {name}[{bad}] is {value}, wanted ascending numbers from 0 to {limit}")
    return size - 1


def usable(tensor: Tensor) -> bool:
    """Return whether kernels can work on tensors like this one."""
    return tensor.dtype is _torch_dtype("float32") and tensor.is_cpu and library.available()


def readable(table: Tensor) -> bool:
    """Return whether kernels can read a table like this one, float32 or float16."""
    return table.is_cpu and table.dtype in (_torch_dtype("float32"), _torch_dtype("float16")) and library.available()


def table_struct(table: Tensor) -> ctypes.Structure:
    """Return a table (V, E) of float32 or float16 as a struct."""
    is_half = table.dtype is _torch_dtype("float16")
    rows = pointer(table, _TABLES[is_half])
    if table.ndim != 2 or table.shape[1] > MAX_DIM:
        raise ValueError(f"table has shape {tuple(table.shape)}, wanted (V, E) with E up to {MAX_DIM}")
    return structs()["Table"](rows, table.shape[1], is_half)


#: A table of float32, and one of float16.
_TABLES = [Parameter("kernels", "table", dtype) for dtype in ("float32", "float16")]
