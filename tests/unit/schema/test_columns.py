"""Columns as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.errors import UserError
from object2vec.schema.columns import Column, List, Text, Token, parse_column, written_column


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("user_id", Token("user_id")),
        ("user_id:token", Token("user_id")),
        ("user_id:token(1000)", Token("user_id", buckets=1000)),
        ("user_id:token(buckets=1000,min_count=2)", Token("user_id", buckets=1000, min_count=2)),
        ("genres:list(|)", List("genres", "|")),
        ("genres:list(,)", List("genres", ",")),
        ("genres:list( and )", List("genres", " and ")),
        ("genres:list(separator=;, min_count=2)", List("genres", ";", min_count=2)),
        ("genres:list", List("genres")),
        ("title:text", Text("title")),
        ("title:text(2)", Text("title", min_count=2)),
        ("a:b:text", Text("a:b")),
        ("a:text:token", Token("a:text")),
        ("naïve name", Token("naïve name")),
    ],
)
def test_written_columns(text: str, column: Column) -> None:
    assert parse_column(text) == column
    assert parse_column(written_column(column)) == column


@given(
    st.one_of(
        st.builds(Token, st.text(min_size=1), st.none() | st.integers(2, 10**6), st.integers(1, 9)),
        st.builds(List, st.text(min_size=1), st.none() | st.sampled_from("|,; ="), st.none() | st.integers(2, 9)),
        st.builds(Text, st.text(min_size=1), st.integers(1, 9), st.integers(1, 9)),
    ).filter(lambda column: "=" not in column.name)
)
def test_a_column_survives_a_round_trip(column: Column) -> None:
    assert parse_column(written_column(column)) == column


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "column '': wanted NAME, NAME:token, NAME:list(SEPARATOR) or NAME:text"),
        ("a=b", "column 'a=b': wanted NAME"),
        ("a:token(x=1)", "column 'a:token(x=1)': no option x, wanted one of buckets, min_count"),
        ("a:token(buckets=1)", "column 'a:token(buckets=1)': buckets is '1', wanted an integer from 2"),
        ("a:text(-1)", "column 'a:text(-1)': min_count is '-1', wanted an integer from 1"),
    ],
)
def test_text_that_is_no_column(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_column(text)
    assert str(raised.value).startswith(sentence)
