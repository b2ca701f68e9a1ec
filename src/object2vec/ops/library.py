"""Call the kernels: the library's functions, and checks of what they are given.

C cannot check an address. So every array is checked here: it has the kernel's type, is contiguous, is on the CPU,
and can be written if the kernel writes. Wrappers check shapes and ranges.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from ctypes import addressof, c_float, c_int64, c_uint32, c_uint64, c_void_p
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from object2vec.ops import native
from object2vec.ops.build import LIBRARY
from object2vec.ops.native import PREFIX, Native

if TYPE_CHECKING:  # importing torch takes seconds
    import torch
    from torch import Tensor
    from typing_extensions import TypeIs

    Array = Tensor | npt.NDArray[Any]

#: What each kernel returns and takes. v is nothing, n an int64, f a float, u a uint64, w a uint32. Of arrays F is
#: float32, D float64, L int64, I int32, B bytes or booleans. + marks an array that is written, ? one that may be None.
#: P is a struct, or an array of addresses; a Slot of objects.c is passed as an int64.
SIGNATURES = {
    "bad_class": "n labels:F n:n classes:n",
    "bad_offset": "n offsets:L n:n limit:n",
    "beside": "n rows:L n:n rate:n which0:I? labels:F drawn:L row0:L+ row1:L+ label:F+",
    "correct": "n scores:F labels:F pairs:n classes:n",
    "cross_entropy": "v scores:F labels:F pairs:n classes:n losses:F+ slope:F+",
    "distinct": "n values:I offsets:L from:n n:n slots:L+ mask:n which:I+ first:I+ found:L+",
    "draw_negatives": "n rows:L n:n positive:B rate:n seed:u rounds:n sources:L? count:n which0:I which1:I starts:L "
    "partners:I bits:B each:n size:n give_objects:n out:L+",
    "dropout": "v x:F out:F+ n:n seed:u threshold:w scale:f",
    "encode_convolved": "v table:P values:L offsets:L n:n taps:n levels:n weights:P biases:P widths:L line:F+ next:F+ "
    "dim:n encodings:F+",
    "group": "n values:L origin:L n:n lut:I+ rows:L+ starts:L+ origins:L+",
    "linear": "v rows:n in:n out:n w:F bias:F x:F y:F+",
    "lstm_backward": "v n:n going_on:n units:n gates:F+ before:F cell:F d_hidden:F d_cell:F+",
    "lstm_forward": "v n:n going_on:n units:n gates:F+ before:F cell:F+ hidden:F+",
    "lstm_run": "v steps:n starts:L backward:n units:n gates:F+ w:F cell:F+ hidden:F+",
    "mark_pairs": "v object0:I object1:I n:n bits:B+ each:n count:n",
    "number": "v rows0:L rows1:L n:n which0:I which1:I lut0:I+ lut1:I+ first:L+ place:L+ found:L+",
    "number_tokens": "v rows0:L rows1:L n:n tokens0:I tokens1:I lut0:I+ lut1:I+ first:L+ place:L+ found:L+ tokens:I+",
    "outside32": "n values:I n:n low:n high:n",
    "outside64": "n values:L n:n low:n high:n",
    "place_objects": "v values:I offsets:L first:I found:n slots:L+ mask:n",
    "pool": "v table:P values:L offsets:L n:n out:F+ scale:F+",
    "read_instances": "n bytes:B size:n document:n places:L+ most:n tokens:n",
    "read_lines": "n bytes:B size:n most:L values:P lengths:P labels:D+ cut:L+ lines:L+ consumed:L+",
    "score_pairs": "v u:F v:F left:L right:L pairs:n weight:F classes:n dim:n width:n at:L bias:F out:F+",
    "score_pairs_backward": "v left:n u:F n:n others:F mine:L partner:L pairs:n slope:F weight:F classes:n dim:n "
    "width:n at:L parts:n sums:F+ starts:L+ places:L+ d_u:F+ d_weight:F+",
    "score_tokens": "v head:P tokens0:I tokens1:I pairs:n out:F+",
    "segment_maximum": "v x:F dim:n rows:L starts:L n:n highest:F+ where:I+",
    "segment_maximum_backward": "v gradient:F dim:n where:I n:n d_x:F+",
    "spread": "n values:L offsets:L n:n out:L+ origin:L+",
    "starts_of": "v offsets:L index:L n:n out:L+",
    "step_pairs": "v way:P moved:P batches:P count:n",
    "step_rows": "v kind:n table:F+ first:F+ second:F+ dim:n rows:L n:n starts:L origins:L scale:F gradient:F rate:f "
    "decay:f c1:f c2:f",
    "step_table": "v kind:n table:F+ first:F+ second:F+ dim:n size:n lut:I+ rows:L n:n starts:L origins:L scale:F "
    "gradient:F rate:f decay:f c1:f c2:f",
    "take": "n values:I offsets:L size:n index:L n:n out_offsets:L out:I+",
}
#: Numbers in a row that kernels have room for; kernels.h says the same.
MAX_DIM = 1000
SCALARS = {"v": None, "n": c_int64, "f": c_float, "u": c_uint64, "w": c_uint32}
ARRAYS: dict[str, tuple[str, tuple[np.dtype[Any], ...]]] = {
    "F": ("float32", (np.dtype(np.float32),)),
    "D": ("float64", (np.dtype(np.float64),)),
    "L": ("int64", (np.dtype(np.int64),)),
    "I": ("int32", (np.dtype(np.int32),)),
    "B": ("uint8", (np.dtype(np.uint8), np.dtype(np.bool_))),
}


class Parameter(NamedTuple):
    """An array that a kernel takes."""

    kernel: str
    name: str
    dtype: str
    numpy: tuple[np.dtype[Any], ...]
    is_written: bool
    is_optional: bool


def _parameters(kernel: str) -> dict[str, Parameter | None]:
    """Return the arrays among the parameters of a kernel by name; None for what is not an array."""
    parameters: dict[str, Parameter | None] = {}
    for word in SIGNATURES[kernel].split()[1:]:
        name, _, type_ = word.partition(":")
        kinds = ARRAYS.get(type_[0])
        parameters[name] = Parameter(kernel, name, *kinds, "+" in type_, "?" in type_) if kinds else None
    return parameters


PARAMETERS = {kernel: _parameters(kernel) for kernel in SIGNATURES}
_LISTED = {kernel: tuple(parameters.values()) for kernel, parameters in PARAMETERS.items()}


def check_library(found: Native, structs: Iterable[type[ctypes.Structure]]) -> Native:
    """Return the library if it has every kernel, and `structs` of the sizes that Python declares; else a reason."""
    if found.library is None:
        return found
    prefix = f"{PREFIX}{found.level}_"
    for name in SIGNATURES:
        if not hasattr(found.library, prefix + name):
            return Native(None, reason=f"{LIBRARY} has no {prefix}{name}")
    for struct in structs:
        name, wanted = f"{prefix}sizeof_{struct.__name__}", ctypes.sizeof(struct)
        function = getattr(found.library, name, None)
        size = None if function is None else function()
        if size != wanted:
            return Native(None, reason=f"{LIBRARY} says {size} for {name}, wanted {wanted}")
    return found


@cache
def functions(kind: type[ctypes.CDLL] = ctypes.CDLL) -> dict[str, Callable[..., Any]]:
    """Return the kernels of the loaded library by name; those of a `PyDLL` keep the interpreter's lock."""
    found = native.load()
    library = kind(str(LIBRARY))
    made = {}
    for name, signature in SIGNATURES.items():
        result, *arguments = signature.split()
        made[name] = getattr(library, f"{PREFIX}{found.level}_{name}")
        made[name].restype = SCALARS[result]
        made[name].argtypes = [SCALARS.get(argument.partition(":")[2], c_void_p) for argument in arguments]
    return made


def call(name: str, *arguments: object) -> int:
    """Call a kernel, with checked tensors and arrays for its pointers."""
    given = [
        value if parameter is None else pointer(value, parameter)
        for value, parameter in zip(arguments, _LISTED[name], strict=True)
    ]
    result: int = functions()[name](*given)
    return result


def pointer(value: object, parameter: Parameter) -> int | bytes | None:
    """Return the address of an array.

    Raises:
        TypeError: it is no array of the parameter's type.
        ValueError: it is not contiguous, not on the CPU, or read-only where the kernel writes.
    """
    if isinstance(value, np.ndarray):
        flags = value.flags
        if value.dtype in parameter.numpy and flags.c_contiguous and (flags.writeable or not parameter.is_written):
            return address(value)
    elif isinstance(value, bytes):
        if parameter.dtype == "uint8" and not parameter.is_written:
            return value
    elif value is None:
        if parameter.is_optional:
            return None
    elif _is_tensor(value) and (
        value.dtype is _torch_dtype(parameter.dtype) and value.is_cpu and value.is_contiguous()
    ):
        found: int = value.data_ptr()
        return found
    raise _fault(value, parameter)


def _is_tensor(value: object) -> TypeIs[Tensor]:
    return _is_tensor_type(type(value))  # type: ignore[arg-type]  # it is hashable


@cache
def _is_tensor_type(type_: type) -> bool:
    return type_.__module__.partition(".")[0] == "torch" and hasattr(type_, "data_ptr")


@cache
def _torch_dtype(name: str) -> torch.dtype:
    dtype: torch.dtype = getattr(import_module("torch"), name)
    return dtype


def _fault(value: object, parameter: Parameter) -> TypeError | ValueError:
    what, wanted = f"{parameter.kernel}: {parameter.name}", parameter.dtype
    if not (isinstance(value, np.ndarray) or _is_tensor(value)):
        return TypeError(f"{what} is a {type(value).__name__}, wanted an array or tensor of {wanted}")
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype not in {wanted, *map(str, parameter.numpy)}:
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


def addresses(kernel: str, values: Iterable[Array], dtype: str = "F") -> ctypes.Array[c_void_p]:
    """Return the addresses of several arrays of one type."""
    kinds = ARRAYS[dtype]
    found = [pointer(value, Parameter(kernel, f"array {i}", *kinds, False, False)) for i, value in enumerate(values)]
    return (c_void_p * len(found))(*found)  # type: ignore[misc]  # none is bytes


def check_shapes(kernel: str, **given: tuple[Array, tuple[int, ...]]) -> None:
    """Raise ValueError unless each array has the shape given with it."""
    for name, (value, wanted) in given.items():
        if value.shape != wanted:
            raise ValueError(f"{kernel}: {name} has shape {tuple(value.shape)}, wanted {wanted}")


def check_range(kernel: str, name: str, values: Array, high: int, low: int = 0) -> None:
    """Raise ValueError unless all integers in one of a kernel's arrays are from `low` up to `high` - 1."""
    parameter = PARAMETERS[kernel][name]
    if parameter is None:
        raise TypeError(f"{kernel}: {name} is no array")
    at = pointer(values, parameter)
    find = "outside32" if parameter.dtype == "int32" else "outside64"
    size = values.size if isinstance(values, np.ndarray) else values.numel()
    bad = functions(ctypes.PyDLL)[find](at, size, low, high)
    if bad >= 0:
        value = int(values.reshape(-1)[bad])
        raise ValueError(f"{kernel}: {name}[{bad}] is {value}, wanted an integer from {low} to {high - 1}")


def check_offsets(kernel: str, name: str, offsets: Array, limit: int) -> int:
    """Raise ValueError unless offsets are (n + 1,) that ascend from 0 or more up to `limit` at most; return n."""
    parameter = PARAMETERS[kernel][name]
    if parameter is None or offsets.ndim != 1 or not len(offsets):
        raise ValueError(f"{kernel}: {name} has shape {tuple(offsets.shape)}, wanted (n + 1,)")
    bad = functions(ctypes.PyDLL)["bad_offset"](pointer(offsets, parameter), len(offsets), limit)
    if bad >= 0:
        value = int(offsets[bad])
        raise ValueError(f"{kernel}: {name}[{bad}] is {value}, wanted ascending numbers from 0 to {limit}")
    return len(offsets) - 1


def check_classes(kernel: str, labels: Array, classes: int) -> None:
    """Raise ValueError unless all labels are classes."""
    parameter = PARAMETERS[kernel]["labels"]
    if parameter is None:
        raise TypeError(f"{kernel}: it has no labels")
    bad = functions(ctypes.PyDLL)["bad_class"](pointer(labels, parameter), len(labels), classes)
    if bad >= 0:
        label = float(labels[bad])
        raise ValueError(f"{kernel}: labels[{bad}] is {label:g}, wanted a class from 0 to {classes - 1}")


class Table(ctypes.Structure):
    """A table (V, E) of token embeddings, float32 or float16: `Table` of kernels.h."""

    _fields_: ClassVar = [("rows", c_void_p), ("dim", c_int64), ("half", c_int64)]

    def __init__(self, table: Tensor) -> None:
        half = table.dtype is _torch_dtype("float16")
        at = pointer(table, _TABLES[half])
        if table.ndim != 2 or table.shape[1] > MAX_DIM:
            raise ValueError(f"table has shape {tuple(table.shape)}, wanted (V, E) with E up to {MAX_DIM}")
        super().__init__(at, table.shape[1], half)


#: A table of float32, and one of float16.
_TABLES = [
    Parameter("kernels", "table", dtype, (), is_written=False, is_optional=False) for dtype in ("float32", "float16")
]
