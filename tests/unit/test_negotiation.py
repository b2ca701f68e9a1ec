"""Headers of requests: types of bodies, lengths that come with them, and the type to answer in."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.errors import NotAcceptableError, RequestError, UnsupportedMediaTypeError
from object2vec.serving.negotiation import (
    JSON,
    JSON_LINES,
    REPLY_TYPES,
    TYPES,
    Content,
    Wishes,
    to_content,
    to_reply_type,
    to_wishes,
)

# Content-Type.


def test_no_content_type_is_json() -> None:
    """As the oldest clients send it."""
    assert to_content(None) == to_content("") == Content(type=JSON)


def test_content_type_with_lengths() -> None:
    """The comma in the value is no end of it; names and types are read in either case."""
    content = to_content("Application/JSONLines;Infer_Max_Seqlens=100,50 ; charset=UTF-8")
    assert content == Content(type=JSON_LINES, charset="utf-8", max_seq_lens=(100, 50))
    assert to_content('application/json; infer_max_seqlens="5000, 1"').max_seq_lens == (5000, 1)


@pytest.mark.parametrize("lengths", ["", "10", "10,", "0,10", "10,5001", "-1,10", "1.5,2", "a,b", "1,2,3", "9" * 5000])
def test_bad_lengths(lengths: str) -> None:
    """Anything but two lengths in the range of max_seq_len is told, never guessed."""
    with pytest.raises(RequestError, match="wanted two integers from 1 to 5000"):
        to_content(f"application/json; infer_max_seqlens={lengths}")


@pytest.mark.parametrize(
    "header", ["text/csv", "application/octet-stream", "json", "application/json2", "; charset=utf-8"]
)
def test_other_content_types(header: str) -> None:
    """415 with what was got and what is read."""
    with pytest.raises(UnsupportedMediaTypeError, match="wanted application/json or application/jsonlines"):
        to_content(header)


@pytest.mark.parametrize("charset", ["klingon", "", "\0"])
def test_charsets_that_do_not_exist(charset: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="wanted utf-8"):
        to_content(f"application/json; charset={charset}")


content_types = (
    st.text()
    | st.text().map("application/json;charset={}".format)
    | st.text("0123456789,-. ²").map("application/json;infer_max_seqlens={}".format)
)


@given(content_types)
def test_any_content_type_is_read_or_refused(header: str) -> None:
    """No header makes anything but a content or a RequestError."""
    with contextlib.suppress(RequestError):
        assert to_content(header).type in TYPES


@given(
    st.text() | st.lists(st.sampled_from(["application/json", "*/*", ";", ",", "q=", "0.5", "inf", "1e9"])).map("".join)
)
def test_any_accept_is_read_or_refused(header: str) -> None:
    with contextlib.suppress(NotAcceptableError):
        assert to_reply_type(header, JSON) in REPLY_TYPES


# Accept.


@pytest.mark.parametrize(
    ("accept", "default", "wanted"),
    [
        (None, JSON, JSON),
        (None, JSON_LINES, JSON_LINES),
        ("", JSON_LINES, JSON_LINES),
        ("*/*", JSON_LINES, JSON_LINES),
        ("*/*", JSON, JSON),
        ("application/*", JSON_LINES, JSON_LINES),
        (JSON, JSON_LINES, JSON),
        (JSON_LINES, JSON, JSON_LINES),
        ("Application/JSON; charset=utf-8", JSON_LINES, JSON),
        ("text/csv, application/jsonlines", JSON, JSON_LINES),
        ("application/json;q=0.5, application/jsonlines;q=0.9", JSON, JSON_LINES),
        ("application/json;q=0.5, */*;q=0.1", JSON_LINES, JSON),
        ("application/json;q=0, */*", JSON, JSON_LINES),
        ("application/jsonlines;q=nan, application/json;q=0.1", JSON_LINES, JSON),
    ],
)
def test_reply_types(accept: str | None, default: str, wanted: str) -> None:
    """What a client likes best; where it does not care, the default, which is the request's own type."""
    assert to_reply_type(accept, default) == wanted


@pytest.mark.parametrize(
    "accept", ["text/csv", "text/*", "*/*;q=0", "application/json;q=0", "application/json;q=x", ";;"]
)
def test_no_reply_type(accept: str) -> None:
    """406 with what was got and what can be sent."""
    with pytest.raises(NotAcceptableError, match="wanted application/json, application/jsonlines or application/x-npy"):
        to_reply_type(accept, JSON)


# Custom attributes.


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ("", Wishes()),
        ("c000b4f9-df62; a=b,=,;=", Wishes()),
        ("mode=embedding", Wishes(mode="embedding")),
        ("trace=7; digits = 3 ,mode=regression", Wishes(mode="regression", digits=3)),
        ("digits=0;digits=5", Wishes(digits=0)),
    ],
)
def test_wishes(attributes: str, wanted: Wishes) -> None:
    """Ours are found among others; the first one counts."""
    assert to_wishes(attributes) == wanted


@pytest.mark.parametrize("attributes", ["mode=fast", "digits=10", "digits=-1", "digits=", "digits=x"])
def test_wishes_that_cannot_be_met(attributes: str) -> None:
    with pytest.raises(RequestError, match="in X-Amzn-SageMaker-Custom-Attributes is"):
        to_wishes(attributes)
