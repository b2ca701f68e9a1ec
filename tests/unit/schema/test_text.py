"""Words of texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.schema.arrays import column_codes
from object2vec.schema.columns import Text
from object2vec.schema.text import split_words

pa = pytest.importorskip("pyarrow")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Lion King (1994)", ["the", "lion", "king", "1994"]),
        ("don't stop_it", ["don", "t", "stop_it"]),
        ("“Straße” — ÉTÉ…", ["straße", "été"]),
        ("E\u0301te\u0301", ["été"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("я—ты", ["я", "ты"]),
        ("😀 ok", ["ok"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=("Cs",))) | st.text("aB é—\u0301İ'Σ.")))
def test_a_column_has_the_words_of_its_rows(texts: list[str | None]) -> None:
    """Also for a slice of a larger column."""
    for array in (pa.array(texts, pa.string()), pa.array(["x y", *texts, "z"], pa.large_string())[1:-1]):
        found = column_codes(Text("t"), array)
        words = iter(found.texts.take(pa.array(found.codes)).to_pylist())
        rows = [[next(words) for _ in range(length)] for length in found.lengths.tolist()]
        assert rows == [split_words(text or "") for text in texts]
