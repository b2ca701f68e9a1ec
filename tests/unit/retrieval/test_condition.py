"""SQL conditions on columns: evaluated without access to anything else."""

from __future__ import annotations

import datetime
from contextlib import suppress

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from object2vec.errors import RawValueError
from object2vec.retrieval.condition import MAX_CONDITION_CHARACTERS, evaluate_condition

TABLE = pa.record_batch(
    {
        "year": [1990, None, 1995],
        "title": ["Toy Story", "x", "Ünder"],
        "genres": [["a", "b"], None, []],
        "my col": [1.5, 2.0, 3.0],
        "about": [{"f": 1}, {"f": 2}, None],
        "day": [datetime.date(1970, 1, n) for n in (1, 2, 3)],
    }
)


@pytest.mark.parametrize(
    "condition, rows",
    [
        ("year > 1990", [2]),
        ("YEAR > 1990 or title = 'x'", [1, 2]),
        ("title like '%Toy%'", [0]),
        ("title ilike 'toy%' or year is null", [0, 1]),
        ("list_contains(genres, 'a')", [0]),
        ("genres[1] = 'a'", [0]),
        ('"my col" between 1 and 2', [0, 1]),
        ("year in (1990, 1995) and not (year = 1990)", [2]),
        ("about.f = 1", [0]),
        ("day > date '1970-01-01'", [1, 2]),
        ("year(day) = 1970", [0, 1, 2]),
        ("year::varchar = '1990' -- a comment", [0]),
        ("case when year > 1 then true end", [0, 2]),
        ("title ~ '^T' or lower(title) || 'y' = 'xy'", [0, 1]),
        ("null::boolean", []),
    ],
)
def test_a_condition_chooses_rows(condition: str, rows: list[int]) -> None:
    """A null is no."""
    assert evaluate_condition(TABLE, condition).nonzero()[0].tolist() == rows


@pytest.mark.parametrize(
    "condition, sentence",
    [
        ("", "is empty, wanted one condition such as year > 1990"),
        ("yaer > 1", "there is no column yaer, wanted one such as year"),
        ("met", "there is no column met"),
        ("year", "is a BIGINT, wanted one condition"),
        ("year >", "syntax error at or near"),
        ("title > 1", "Cannot compare values of type VARCHAR"),
        ("true), (true", "is not one expression"),
        ("true) from objects union all select (true", "is not one expression"),
        ("true) from objects where (true", "syntax error"),
        ("true; select 1", "syntax error"),
        ("true); drop table objects; select (true", "Only SELECT statements"),
        ("exists(select 1)", "has a subquery"),
        ("year in (select 1)", "has a subquery"),
        ("count(*) > 1", "uses count_star, wanted an allowed function"),
        ("row_number() over () > 1", "has a window"),
        ("list_filter(genres, lambda e: true) = []", "uses list_filter"),
        ("columns(*) > 1", "has a star"),
        ("year = ?", "has a parameter"),
        ("read_text('/etc/passwd') = 'a'", "uses read_text"),
        ("getenv('HOME') = 'a'", "uses getenv"),
        ("current_setting('threads') = '1'", "uses current_setting"),
        ("repeat(title, 100000000) = 'x'", "uses repeat"),
        ("regexp_matches(title, '(')", "missing"),
        ("/*", "unterminated"),
        ("'", "unterminated"),
        ("year > 1\0", "syntax error"),
        ("\ud800", "wanted"),
        ("(" * 3000 + "true" + ")" * 3000, "depth"),
        ("1 + " * 2000 + "1 = 2", "depth"),
        ("x" * (MAX_CONDITION_CHARACTERS + 1), "has 10,001 characters, wanted at most 10,000"),
    ],
)
def test_what_is_not_a_condition_is_refused_with_a_sentence(condition: str, sentence: str) -> None:
    with pytest.raises(RawValueError, match=sentence) as raised:
        evaluate_condition(TABLE, condition)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    found: object = None
    with suppress(RawValueError):
        found = evaluate_condition(TABLE, text).shape
    assert found in (None, (3,))
