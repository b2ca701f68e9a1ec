"""What the headers of a request say: the type of its body, the type to answer in, what to answer pairs with.

Pure functions over text; nothing here knows a body or a model, and nothing that is slow to import is needed.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, get_args

from object2vec.errors import NotAcceptableError, RequestError, UnsupportedMediaTypeError, UserError

#: What a pair is answered with. The built-in has one word for each output layer, and both mean scores.
Mode = Literal["classification", "regression", "embedding"]

MODES: Final[tuple[Mode, ...]] = get_args(Mode)
JSON: Final = "application/json"
JSON_LINES: Final = "application/jsonlines"
NPY: Final = "application/x-npy"
TYPES: Final = (JSON, JSON_LINES)
REPLY_TYPES: Final = (*TYPES, NPY)

LONGEST: Final = 5000  # of infer_max_seqlens, as of max_seq_len
ATTRIBUTES: Final = "X-Amzn-SageMaker-Custom-Attributes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A Content-Type header."""

    type: str = JSON
    charset: str = "utf-8"
    #: Tokens to keep of in0 and of in1, in place of the model's own max_seq_len.
    max_seq_lens: tuple[int, int] | None = None


@lru_cache(maxsize=256)  # nearly all requests have the same headers
def to_content(header: str | None) -> Content:
    """Read a Content-Type; without one the body is JSON.

    Raises:
        UnsupportedMediaTypeError: another type, or a charset that does not exist.
        RequestError: `infer_max_seqlens` is not two lengths.
    """
    if not header:
        return Content()
    kind, parameters = _parameters(header)
    if kind not in TYPES:
        raise UnsupportedMediaTypeError(f"Content-Type {kind!r} is not supported, wanted {' or '.join(TYPES)}")
    lengths = parameters.get("infer_max_seqlens")
    return Content(
        type=kind,
        charset=_charset(parameters.get("charset", "utf-8")),
        max_seq_lens=None if lengths is None else _max_seq_lens(lengths),
    )


@lru_cache(maxsize=256)
def to_reply_type(accept: str | None, default: str) -> str:
    """The type to answer in: what `accept` likes best, and `default` where it does not care.

    Raises:
        NotAcceptableError: it takes neither type.
    """
    if accept is None or not accept.strip():
        return default
    ranges = [_parameters(part) for part in accept.split(",") if part.strip()]
    qualities = {kind: _quality(kind, ranges) for kind in (default, *REPLY_TYPES)}
    best = max(qualities, key=lambda kind: qualities[kind])  # the first of equals, so `default` before others
    if not qualities[best]:
        wanted = f"{', '.join(REPLY_TYPES[:-1])} or {REPLY_TYPES[-1]}"
        raise NotAcceptableError(f"Accept {accept!r} allows no reply that can be sent, wanted {wanted}")
    return best


def to_mode(text: str, source: str, error: type[UserError] = RequestError) -> Mode:
    """The mode that `text` names; `source` is where its author wrote it.

    Raises:
        UserError: there is no such mode; of the class `error`.
    """
    for mode in MODES:
        if text == mode:
            return mode
    raise error(f"{source} is {text!r}, wanted one of {', '.join(MODES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a request asks for in its custom attributes: the mode to answer pairs in, and how many digits are kept
    behind the point of a number; None for the server's mode, and for all digits."""

    mode: Mode | None = None
    digits: int | None = None


@lru_cache(maxsize=256)
def to_wishes(attributes: str) -> Wishes:
    """Read the custom attributes; whatever else they say is somebody else's.

    Raises:
        RequestError: a mode or a number of digits that there is not.
    """
    pairs = (attribute.partition("=") for attribute in re.split("[,;]", attributes))
    given = {name.strip(): value.strip() for name, _, value in reversed(list(pairs))}
    mode, digits = given.get("mode"), given.get("digits")
    if digits is not None and not re.fullmatch("[0-9]", digits):
        raise RequestError(f"digits in {ATTRIBUTES} is {digits!r}, wanted an integer from 0 to 9")
    return Wishes(
        mode=None if mode is None else to_mode(mode, f"mode in {ATTRIBUTES}"),
        digits=None if digits is None else int(digits),
    )


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
    if not all(1 <= length <= LONGEST for length in lengths):
        raise RequestError(f"infer_max_seqlens is {text!r}, wanted two integers from 1 to {LONGEST}, like 100,50")
    return lengths


def _quality(kind: str, ranges: Sequence[tuple[str, dict[str, str]]]) -> float:
    """How much an Accept header wants a type: the q of the range that names it most closely (RFC 9110, 12.5.1)."""
    for wanted in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        for name, parameters in ranges:
            if name == wanted:
                return _q(parameters.get("q", "1"))
    return 0.0


def _q(text: str) -> float:
    """A quality from 0 to 1; what is no number is 0, so that it is never preferred."""
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
