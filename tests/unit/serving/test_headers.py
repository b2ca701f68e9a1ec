"""Headers of requests: types of bodies, lengths that come with them, and the type to answer in."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.data.media_types import JSON, JSON_LINES, JSON_LINES_ALIASES, canonical
from object2vec.errors import NotAcceptableError, RequestError, UnsupportedMediaTypeError
from object2vec.serving.headers import (
    ATTRIBUTES,
    REPLY_TYPES,
    TYPES,
    Content,
    RequestOptions,
    to_content,
    to_options,
    to_reply_type,
)

# Content-Type.


@pytest.mark.parametrize(
    "header",
    [
        "",
        "; charset=utf-8",
        "application/octet-stream",
        "Application/X-WWW-Form-Urlencoded",
        "binary/octet-stream",
        "text/plain; charset=utf-8",
    ],
)
def test_a_generic_content_type_leaves_the_format_open(header: str) -> None:
    """Tools send these, or none, where a user has not set the header."""
    assert to_content(header).type == ""
    assert to_content(None) == to_content("") == Content(type="", name="")


def test_content_type_with_lengths() -> None:
    """The comma in the value is no end of it; names and types are read in either case."""
    content = to_content("Application/JSONLines;Infer_Max_Seqlens=100,50 ; charset=UTF-8")
    assert content == Content(type=JSON_LINES, name=JSON_LINES, charset="utf-8", max_seq_lens=(100, 50))
    assert to_content('application/json; infer_max_seqlens="5000, 1"').max_seq_lens == (5000, 1)


@pytest.mark.parametrize("lengths", ["", "10", "10,", "0,10", "10,5001", "-1,10", "1.5,2", "a,b", "1,2,3", "9" * 5000])
def test_bad_lengths(lengths: str) -> None:
    """Anything but two lengths in the range of max_seq_len is an error."""
    with pytest.raises(RequestError, match="wanted two integers from 1 to 5000"):
        to_content(f"application/json; infer_max_seqlens={lengths}")


@pytest.mark.parametrize(
    "header", ["text/xml", "json", "jsonlines", "application/json2", "application/x-recordio-protobuf", "image/png"]
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
        assert to_content(header).type in ("", *TYPES)


@given(
    st.text() | st.lists(st.sampled_from(["application/json", "*/*", ";", ",", "q=", "0.5", "inf", "1e9"])).map("".join)
)
def test_any_accept_is_read_or_refused(header: str) -> None:
    with contextlib.suppress(NotAcceptableError):
        assert canonical(to_reply_type(header, JSON)) in REPLY_TYPES


@pytest.mark.parametrize("alias", JSON_LINES_ALIASES)
def test_aliases_of_json_lines(alias: str) -> None:
    """Each is read as JSON Lines, in either case and with parameters, and sent by the name that was asked for."""
    content = to_content(f"{alias.upper()}; infer_max_seqlens=1,2")
    assert content == Content(type=JSON_LINES, name=alias, max_seq_lens=(1, 2))
    assert to_reply_type(f"{alias}; charset=utf-8", JSON) == alias
    assert to_reply_type(f"text/csv, {alias};q=0.1", JSON) == alias
    assert to_reply_type("*/*", alias) == alias
    assert canonical(alias) == JSON_LINES


# Accept.


@pytest.mark.parametrize(
    ("accept", "default", "wanted"),
    [
        (None, JSON, JSON),
        (None, JSON_LINES, JSON_LINES),
        ("", JSON_LINES, JSON_LINES),
        ("*/*", JSON_LINES, JSON_LINES),
        ("*/*", JSON, JSON),
        ("*", JSON_LINES, JSON_LINES),
        ("*; q=0.8", JSON, JSON),
        ("text/html, *;q=0.1", JSON, JSON),
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
    "accept", ["text/csv", "text/*", "*/*;q=0", "*;q=0", "application/json;q=0", "application/json;q=x", ";;"]
)
def test_no_reply_type(accept: str) -> None:
    """406 with what was got and what can be sent."""
    with pytest.raises(NotAcceptableError, match="wanted application/json, application/jsonlines or application/x-npy"):
        to_reply_type(accept, JSON)


# Custom attributes.


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ("", RequestOptions()),
        ("c000b4f9-df62; a=b,=,;=", RequestOptions()),
        ("object2vec-mode=embedding", RequestOptions(mode="embedding")),
        ("trace=7; object2vec-digits = 3 ,object2vec-mode=regression", RequestOptions(mode="regression", digits=3)),
        ("Object2Vec-Stream=1", RequestOptions(stream=True)),
        ("object2vec-stream=0,object2vec-warnings=true", RequestOptions(warnings=True)),
    ],
)
def test_options(attributes: str, wanted: RequestOptions) -> None:
    """Names with our prefix are read among others, in either case; the first of equal names counts."""
    assert to_options(attributes) == wanted


@pytest.mark.parametrize(
    "attributes",
    [
        "mode=canary",
        "digits=12",
        "mode=embedding,digits=2",
        "stream=1;warnings=1",
        "my-object2vec-mode=fast",
        "object2vec=1",
        "x=object2vec-mode",
        '{"mode": "canary"}',
    ],
)
def test_other_names_belong_to_the_client(attributes: str) -> None:
    """Names without our prefix have no effect, for any value."""
    assert to_options(attributes) == RequestOptions()


@pytest.mark.parametrize("second", ["0", "5"])
def test_repeated_option_is_refused(second: str) -> None:
    with pytest.raises(RequestError) as raised:
        to_options(f"object2vec-digits=0;a=1;Object2Vec-digits={second}")
    assert str(raised.value) == f"object2vec-digits is in {ATTRIBUTES} twice, wanted one value"


@pytest.mark.parametrize("name", ["mode", "digits", "stream", "warnings"])
@pytest.mark.parametrize("value", ["fast", "10", "-1", "", "x" * 900])
def test_values_that_an_option_does_not_take(name: str, value: str) -> None:
    """The sentence names the option, its value and what it takes."""
    with pytest.raises(RequestError, match=f"^object2vec-{name} in {ATTRIBUTES} is '.*', wanted .") as raised:
        to_options(f"trace=7,object2vec-{name}={value}")
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("object2vec-mod", "mode"),
        ("object2vec-digit", "digits"),
        ("object2vec-", ""),
        ("object2vec-streaming", "stream"),
    ],
)
def test_unknown_option(name: str, nearest: str) -> None:
    """The sentence has the nearest name that is known."""
    with pytest.raises(
        RequestError, match=f"^'{name}' in {ATTRIBUTES} is not known, the nearest name is object2vec-{nearest}"
    ):
        to_options(f"{name}=1")


@given(st.text(max_size=50) | st.text(max_size=20).map("object2vec-{}".format))
def test_any_attributes_are_read_or_refused(attributes: str) -> None:
    with contextlib.suppress(RequestError):
        assert isinstance(to_options(attributes), RequestOptions)
