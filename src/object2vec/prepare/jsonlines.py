"""Pairs as JSON Lines, the format that training reads."""

from __future__ import annotations

import numpy as np

from object2vec.array_types import Float32, Int32
from object2vec.data.sequences import Sequences
from object2vec.extras import import_extra
from object2vec.ops.text import write_lines
from object2vec.prepare.rows import Rows


def to_json_lines(rows: Rows, *, one_sided: bool = False) -> memoryview | bytes:
    """Return a line like `{"in0":[1,2],"in1":[3],"label":1}` for each row; without in1 if it is `one_sided`."""
    first, second = rows.sides
    codes, texts = _texts(rows.labels) if rows.classes is None else _set_texts(rows.classes)
    if rows.weights is not None:
        weight_codes, weights = _texts(rows.weights)
        found, codes = np.unique(codes.astype(np.int64) * len(weights) + weight_codes, return_inverse=True)
        texts = [f'{texts[code // len(weights)]},"weight":{weights[code % len(weights)]}' for code in found.tolist()]
    if one_sided:
        second = Sequences(second.values[:0], np.zeros(len(second) + 1, np.int64))
    values, offsets = (first.values, second.values), (first.offsets, second.offsets)
    lines = write_lines(values, offsets, codes.astype(np.int32), texts)
    return bytes(lines).replace(b',"in1":[]', b"") if one_sided else lines


def _set_texts(classes: Sequences) -> tuple[Int32, list[str]]:
    """Return the code of each list of classes (N,), and the text of each code."""
    first_index, codes = classes.unique()
    found = classes.take(first_index)
    lists = np.split(found.values, found.offsets[1:-1])
    return codes, [f"[{','.join(map(str, own.tolist()))}]" for own in lists]


def _texts(numbers: Float32) -> tuple[Int32, list[str]]:
    """Return the code of each number (N,), and the text of each code."""
    found = import_extra("pyarrow").array(numbers).dictionary_encode()
    texts = [str(int(number) if number == int(number) else number) for number in found.dictionary.to_numpy()]
    return found.indices.to_numpy(), texts
