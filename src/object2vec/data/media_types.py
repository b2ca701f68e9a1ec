"""Media types: the canonical name of each format, and aliases that tools send."""

from __future__ import annotations

from typing import Final

JSON: Final = "application/json"
JSON_LINES: Final = "application/jsonlines"
CSV: Final = "text/csv"

#: Other names of JSON Lines. None of them is registered, so tools differ.
JSON_LINES_ALIASES: Final = (
    "application/x-jsonlines",
    "application/jsonl",
    "application/x-jsonl",
    "application/x-ndjson",
    "application/ndjson",
    "application/json-lines",
)


def media_type(header: str) -> str:
    """Return the type in a Content-Type value, without parameters, in lower case."""
    return header.partition(";")[0].strip().lower()


def canonical(name: str) -> str:
    """Return the canonical name of a lower-case media type, which is the type itself if it is no alias."""
    return JSON_LINES if name in JSON_LINES_ALIASES else name
