"""CSV in requests: the kernel reads it as Python does, or leaves it to Python."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.errors import Object2VecError
from object2vec.ops import library
from object2vec.schema.columns import List, Text, Token
from object2vec.schema.schema import Schema
from object2vec.serving import codec
from object2vec.serving.headers import Content
from raw_models import asked, film_schema, schema_of, text_schema

pytestmark = pytest.mark.skipif(not library.available(), reason="there is one way to read CSV without kernels")
CSV = Content(type="text/csv")


def mixed_schema() -> Schema:
    """Return a schema with a hashed column, a list without separator, and a column of both sides."""
    left = ((Token("user"), Token("word", buckets=5)), [{"1": 1, "a": 1}, {}])
    return schema_of(left, ((Text("title"), Token("user"), List("tags")), [{"a": 2, "été": 1}, {"1": 1}, {}]))


SCHEMAS = [film_schema(), text_schema(), mixed_schema()]
cell = st.sampled_from(["1", "a", "fun|war", " fun |\u00a0war", "", "A été", 'a "b"', "x,y", "a\nb", "9", "\x1c", "-0"])


@given(st.sampled_from(SCHEMAS), st.data())
def test_kernel_and_python_read_the_same_rows(schema: Schema, data: st.DataObject) -> None:
    names = list(dict.fromkeys([*schema["in0"].names, *schema["in1"].names]))
    if has_header := data.draw(st.booleans()):
        label = [schema.label.name] if schema.label else []
        names = data.draw(st.lists(st.sampled_from([*names, *label]), min_size=1, unique=True))
    rows = data.draw(st.lists(st.lists(cell, min_size=len(names), max_size=len(names)), max_size=4))
    text = io.StringIO(newline="")
    quoting = data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer = csv.writer(text, quoting=quoting, lineterminator=data.draw(st.sampled_from(["\n", "\r\n", "\n\n"])))
    writer.writerows([names, *rows] if has_header else rows)
    compare(text.getvalue().encode(), schema)


@given(
    st.sampled_from(SCHEMAS),
    st.text(alphabet='a1,"|\r\n \0é', max_size=30),
    st.sampled_from(["", "user,film\n", "title\r\n"]),
)
def test_kernel_leaves_malformed_csv_to_python(schema: Schema, text: str, header: str) -> None:
    compare((header + text).encode(), schema)


def compare(body: bytes, schema: Schema) -> None:
    """Check that the kernel accepts only what Python reads equally."""
    found = codec.decode_plain(body, CSV, 3, schema)
    try:
        wanted = codec.decode_any(body, CSV, 3, schema)
    except Object2VecError:
        assert found is None
    else:
        assert found is None or asked(found) == asked(wanted)


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        ("1,a,fun|war\r\n2,b,\r\n", [1, 2]),
        ('\n1,"a",fun\n\n"2","b\nc",war', []),  # a header could follow a blank line
        ('1,a,fun\n\n2,"b\nc","say ""war"""', [1, 4]),
        ("genres,user\nfun,1\n", [2]),
        ("1,a,é|fun\n3.5,x\ty,zzz\n", [1, 2]),
        ("1,a\rb,fun\n", []),
        ("user,user\n1,2\n", []),
        ("1,%s,fun\n" % ("x" * 2**17), [1]),
        ("1,%s,fun\n" % ("x" * (2**17 + 1)), []),
        (b"1,\xff,fun\n", []),
    ],
)
def test_usual_csv_is_read_by_the_kernel(body: str | bytes, rows: list[int]) -> None:
    found = codec.decode_plain(body.encode() if isinstance(body, str) else body, CSV, 1, film_schema())
    assert (list(found.numbers) if found else []) == rows
