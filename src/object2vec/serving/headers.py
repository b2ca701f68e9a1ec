"""Parsing of request headers: the type of the body, the type of the reply, and the request options.

Pure functions over text; nothing here knows a body or a model, and nothing that is slow to import is needed.
"""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, get_args

from object2vec.data.media_types import CSV, JSON, JSON_LINES, JSON_LINES_ALIASES, canonical
from object2vec.errors import NotAcceptableError, RequestError, UnsupportedMediaTypeError, UserError, shortened
from object2vec.serving.top_k import MAX_TOP_K

#: What a pair is answered with. The built-in has one word for each output layer, and both mean scores.
Mode = Literal["classification", "regression", "embedding"]

MODES: Final[tuple[Mode, ...]] = get_args(Mode)
NPY: Final = "application/x-npy"
TYPES: Final = (JSON, JSON_LINES)
REPLY_TYPES: Final = (*TYPES, NPY)
#: Content types that say nothing about a body: tools send them by default.
GENERIC_TYPES: Final = frozenset(
    {
        "",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "binary/octet-stream",
        "text/json",
        "text/plain",
    }
)

MAX_SEQ_LEN: Final = 5000  # of infer_max_seqlens, as of max_seq_len
ATTRIBUTES: Final = "X-Amzn-SageMaker-Custom-Attributes"
#: Names in the custom attributes that begin with this are ours. All others belong to the client.
OPTION_PREFIX: Final = "object2vec-"
FLAGS: Final = {"0": False, "1": True, "false": False, "true": True}
#: The options of a request: what their texts mean, and how an error calls these texts.
OPTIONS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "digits": ({str(digits): digits for digits in range(10)}, "an integer from 0 to 9"),
    "mode": ({mode: mode for mode in MODES}, f"one of {', '.join(MODES)}"),
    "neighbors": (FLAGS, "0 or 1"),
    "strict": (FLAGS, "0 or 1"),
    "stream": (FLAGS, "0 or 1"),
    "top-k": ({str(k): k for k in range(1, MAX_TOP_K + 1)}, f"an integer from 1 to {MAX_TOP_K:,}"),
    "warnings": (FLAGS, "0 or 1"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A Content-Type header."""

    #: The format of the body; empty where the header leaves it open.
    type: str = JSON
    #: The type as the header calls it: an alias, or the same.
    name: str = JSON
    charset: str = "utf-8"
    #: Tokens to keep of in0 and of in1, in place of the model's own max_seq_len.
    max_seq_lens: tuple[int, int] | None = None

    @property
    def reply_name(self) -> str:
        """Return the type of the reply where a request names none: its own, or JSON Lines for CSV."""
        return JSON_LINES if self.type == CSV else self.name


@lru_cache(maxsize=256)  # nearly all requests have the same headers
def to_content(header: str | None) -> Content:
    """Read a Content-Type. A missing or generic one leaves the format open.

    Raises:
        UnsupportedMediaTypeError: another type, or a charset that does not exist.
        RequestError: `infer_max_seqlens` is not two lengths.
    """
    name, parameters = _parameters(header or "")
    if canonical(name) not in (*TYPES, CSV) and name not in GENERIC_TYPES:
        raise unsupported(name)
    lengths = parameters.get("infer_max_seqlens")
    return Content(
        type="" if name in GENERIC_TYPES else canonical(name),
        name=name,
        charset=_charset(parameters.get("charset", "utf-8")),
        max_seq_lens=None if lengths is None else _max_seq_lens(lengths),
    )


def unsupported(name: str) -> UnsupportedMediaTypeError:
    """Return the error for a body of a type that is not read."""
    return UnsupportedMediaTypeError(f"Content-Type {name!r} is not supported, wanted {' or '.join(TYPES)}")


@lru_cache(maxsize=256)
def to_reply_type(accept: str | None, default: str) -> str:
    """Return the type to answer in, by the name that `accept` has for it; `default` where it has no preference.

    Raises:
        NotAcceptableError: it allows none of the types.
    """
    if accept is None or not accept.strip():
        return default
    ranges = [_parameters(part) for part in accept.split(",") if part.strip()]
    qualities = {kind: _quality(kind, ranges) for kind in (default, *REPLY_TYPES, *JSON_LINES_ALIASES)}
    best = max(qualities, key=lambda kind: qualities[kind])  # the first of equals, so `default` before others
    if not qualities[best]:
        wanted = f"{', '.join(REPLY_TYPES[:-1])} or {REPLY_TYPES[-1]}"
        raise NotAcceptableError(f"Accept {accept!r} allows no reply that can be sent, wanted {wanted}")
    return best


def to_mode(text: str, source: str) -> Mode:
    """Return the mode that `text` names. The error says that it was in `source`.

    Raises:
        UserError: there is no such mode.
    """
    for mode in MODES:
        if text == mode:
            return mode
    raise UserError(f"{source} is {shortened(text)!r}, wanted one of {', '.join(MODES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """What a request asks for in its custom attributes."""

    #: What to answer pairs with; None for the server's own mode.
    mode: Mode | None = None
    #: Decimal places of the numbers in the reply; None for all of them.
    digits: int | None = None
    #: Refuse raw values that are unknown.
    strict: bool = False
    #: Send a long reply in parts, without Content-Length.
    stream: bool = False
    #: Add warnings to the answers.
    warnings: bool = False
    #: What instances without `top_k` and `neighbors` ask of an index; None for nothing.
    top_k: int | None = None
    neighbors: bool = False


@lru_cache(maxsize=256)
def to_options(attributes: str) -> RequestOptions:
    """Read our names in the custom attributes. Everything else in them belongs to the client.

    Raises:
        RequestError: an unknown name with our prefix, or a value that the name does not take.
    """
    given: dict[str, str] = {}
    for attribute in re.split("[,;]", attributes):
        full_name, _, value = attribute.partition("=")
        full_name = full_name.strip().lower()
        if not full_name.startswith(OPTION_PREFIX):
            continue
        name = full_name.removeprefix(OPTION_PREFIX)
        if name not in OPTIONS:
            [nearest] = difflib.get_close_matches(name, OPTIONS, n=1, cutoff=0.0)
            named = shortened(full_name)
            raise RequestError(f"{named!r} in {ATTRIBUTES} is not known, the nearest name is {OPTION_PREFIX}{nearest}")
        if name in given:
            raise RequestError(f"{full_name} is in {ATTRIBUTES} twice, wanted one value")
        given[name] = value.strip()
    return RequestOptions(**{name.replace("-", "_"): _option(name, value) for name, value in given.items()})


def _option(name: str, text: str) -> Any:
    values, wanted = OPTIONS[name]
    key = text.lower() if values is FLAGS else text
    if key not in values:
        raise RequestError(f"{OPTION_PREFIX}{name} in {ATTRIBUTES} is {shortened(text)!r}, wanted {wanted}")
    return values[key]


def _parameters(header: str) -> tuple[str, dict[str, str]]:
    """`type; name=value; …` in its parts. A value may hold a comma, as that of infer_max_seqlens does."""
    kind, *rest = header.split(";")
    pairs = (part.partition("=") for part in rest)
    return kind.strip().lower(), {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _charset(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        raise UnsupportedMediaTypeError(f"charset {name!r} is not known, wanted utf-8") from None


def _max_seq_lens(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d{1,4})\s*,\s*(\d{1,4})\s*", text)
    lengths = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(1 <= length <= MAX_SEQ_LEN for length in lengths):
        raise RequestError(f"infer_max_seqlens is {text!r}, wanted two integers from 1 to {MAX_SEQ_LEN}, like 100,50")
    return lengths


def _quality(kind: str, ranges: Sequence[tuple[str, dict[str, str]]]) -> float:
    """How much an Accept header wants a type: the q of the range that names it most closely (RFC 9110, 12.5.1)."""
    for wanted in (kind, f"{kind.partition('/')[0]}/*", "*/*", "*"):
        for name, parameters in ranges:
            if name == wanted:
                return _q(parameters.get("q", "1"))
    return 0.0


def _q(text: str) -> float:
    """Return a quality from 0 to 1. Invalid text is 0, which is never preferred."""
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
