"""Kernels of text against their plain forms, and texts that need a larger hash table."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.data.sequences import Sequences
from object2vec.ops import library
from object2vec.ops import text as text_ops
from object2vec.ops.text import TextTable, split_pieces, write_lines


def buffers(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    encoded = [text.encode() for text in texts]
    return np.frombuffer(b"".join(encoded) or b" ", np.uint8), np.cumsum([0, *map(len, encoded)])


@pytest.mark.parametrize("kernels", [True, False])
def test_texts_are_numbered_by_first_occurrence(kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the table grows, and for texts of many lengths."""
    monkeypatch.setattr(library, "available", lambda: kernels)
    chances = random.Random(0)
    texts = ["é" * chances.randrange(1, 40) + str(chances.randrange(3000)) for _ in range(9000)]
    table, wanted, found = TextTable(), {}, []
    for start in range(0, len(texts), 700):
        found += table.number(*buffers(texts[start : start + 700])).tolist()
    assert found == [wanted.setdefault(text, len(wanted)) for text in texts]
    assert table.texts() == list(wanted)
    assert len(table) == len(wanted)


def test_more_pieces_than_the_first_hash_table_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_ops, "PIECE_SLOTS", 2**4)
    rows = [" ".join(f"W{n}, x" for n in range(row, 3 * row)) for row in range(60)]
    lengths, numbers, pieces = split_pieces(*buffers(rows))  # type: ignore[misc]
    texts = pieces.texts()
    words = [row.lower().replace(",", "").split() for row in rows]
    assert lengths.tolist() == list(map(len, words))
    assert [texts[number] for number in numbers] == [word for row in words for word in row]


@given(st.lists(st.tuples(*[st.lists(st.integers(0, 2**31 - 1), max_size=4)] * 2, st.integers(0, 2))), st.booleans())
def test_lines_are_the_pairs_as_json(pairs: list[tuple[list[int], list[int], int]], kernels: bool) -> None:
    labels = ["0", "1.5", "-30"]
    sides = [Sequences.from_lists(lists) for lists in ([pair[0] for pair in pairs], [pair[1] for pair in pairs])]
    codes = np.array([code for _, _, code in pairs], np.int32)
    with pytest.MonkeyPatch.context() as patch:
        if not kernels:
            patch.setattr(library, "available", lambda: False)
        text = bytes(
            write_lines((sides[0].values, sides[1].values), (sides[0].offsets, sides[1].offsets), codes, labels)
        )
    records = [{"in0": in0, "in1": in1, "label": float(labels[code])} for in0, in1, code in pairs]
    assert [json.loads(line) for line in text.splitlines()] == records
    assert text == b"".join(
        json.dumps(json.loads(line)).replace(" ", "").encode() + b"\n" for line in text.splitlines()
    )
