"""Split text into words.

A text is cut at ASCII characters that are not letters, digits or underscores. Other characters are rare in most texts,
so only pieces that have some need the Unicode tables. A row and a column of an Arrow table give the same words.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

_PIECES: Final = re.compile(r"[a-z0-9_\x80-\U0010ffff]+")
_LOWER_ASCII: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    if text.isascii():
        return _PIECES.findall(text.lower())
    words: list[str] = []
    for piece in _PIECES.findall(text.translate(_LOWER_ASCII)):
        words.extend(piece_words(piece))
    return words


def piece_words(piece: str) -> tuple[str, ...]:
    """Return the words of a piece: letters, digits and marks of any script; other characters separate words."""
    return (piece,) if piece.isascii() else _unicode_words(piece)


@lru_cache(maxsize=2**16)
def _unicode_words(piece: str) -> tuple[str, ...]:
    text = unicodedata.normalize("NFC", piece).lower()
    return tuple("".join(char if _is_word(char) else " " for char in text).split())


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_" or unicodedata.category(char).startswith("M")
