"""Pairs as JSON Lines, the format that training reads."""

from __future__ import annotations

import numpy as np

from object2vec.array_types import Float32, Int32
from object2vec.extras import import_extra
from object2vec.ops.text import write_lines
from object2vec.prepare.rows import Rows


def to_json_lines(rows: Rows) -> memoryview:
    """Return a line like `{"in0":[1,2],"in1":[3],"label":1}` for each row."""
    first, second = rows.sides
    codes, texts = _texts(rows.labels)
    if rows.weights is not None:
        weight_codes, weights = _texts(rows.weights)
        found, codes = np.unique(codes.astype(np.int64) * len(weights) + weight_codes, return_inverse=True)
        texts = [f'{texts[code // len(weights)]},"weight":{weights[code % len(weights)]}' for code in found.tolist()]
    return write_lines((first.values, second.values), (first.offsets, second.offsets), codes.astype(np.int32), texts)


def _texts(numbers: Float32) -> tuple[Int32, list[str]]:
    """Return the code of each number (N,), and the text of each code."""
    found = import_extra("pyarrow").array(numbers).dictionary_encode()
    texts = [str(int(number) if number == int(number) else number) for number in found.dictionary.to_numpy()]
    return found.indices.to_numpy(), texts
