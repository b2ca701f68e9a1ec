"""The structs of `csrc/api.h`, for ctypes. Their sizes are compared with C's when the library is loaded."""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_float, c_int64, c_void_p
from typing import ClassVar


class Table(ctypes.Structure):
    """A table of embeddings (V, dim), float32 or float16."""

    _fields_: ClassVar = [("rows", c_void_p), ("dim", c_int64), ("is_half", c_int64)]


class ScoringHead(ctypes.Structure):
    """Two tables and the layers over pairs of their rows."""

    _fields_: ClassVar = [
        ("tables", Table * 2),
        ("comparators", c_void_p),
        ("comparator_count", c_int64),
        *((name, c_void_p) for name in ("weights", "biases", "widths")),
        *((name, c_int64) for name in ("layers", "activation", "concat_column")),
        ("cache_rows", c_int64 * 2),
        ("cached_tokens", c_void_p * 2),
        ("cached_parts", c_void_p * 2),
        ("softmax", c_int64),
        ("block_pairs", c_int64),
        ("scratch", c_void_p * 2),
    ]


class ParameterState(ctypes.Structure):
    """A parameter, its optimizer state, and its number of steps."""

    _fields_: ClassVar = [*((name, c_void_p) for name in ("weight", "state1", "state2")), ("steps", c_int64)]


class PairBatch(ctypes.Structure):
    """A batch of pairs of single tokens, and the results of a step on it."""

    _fields_: ClassVar = [
        ("tokens", c_void_p * 2),
        ("index", c_void_p * 2),
        ("n", c_int64 * 2),
        ("labels", c_void_p),
        ("pairs", c_int64),
        ("loss", c_double),
        ("correct", c_int64),
    ]


class StepConfig(ctypes.Structure):
    """Settings of training steps, and their scratch."""

    _fields_: ClassVar = [
        ("kind", c_int64),
        ("learning_rate", c_float),
        ("weight_decay", c_float),
        *((name, c_int64) for name in ("classes", "width", "dim")),
        ("term_columns", c_void_p),
        ("shards", c_int64),
        *((name, c_void_p) for name in ("score_grads", "shard_sums", "row_grads")),
    ]


ALL = (Table, ScoringHead, ParameterState, PairBatch, StepConfig)
#: As csrc/kernels.h numbers them.
OPTIMIZER_KINDS = {"sgd": 0, "adagrad": 1, "adam": 2}
