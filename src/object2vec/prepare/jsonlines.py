"""Pairs as JSON Lines, the format that training reads."""

from __future__ import annotations

from object2vec.extras import import_extra
from object2vec.ops.text import write_lines
from object2vec.prepare.rows import Rows


def to_json_lines(rows: Rows) -> memoryview:
    """Return a line like `{"in0":[1,2],"in1":[3],"label":1}` for each row."""
    labels = import_extra("pyarrow").array(rows.labels).dictionary_encode()
    texts = [str(int(label) if label == int(label) else label) for label in labels.dictionary.to_numpy()]
    first, second = rows.sides
    return write_lines((first.values, second.values), (first.offsets, second.offsets), labels.indices.to_numpy(), texts)
