"""A tokenizer of Hugging Face for a column of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from object2vec.errors import UserError
from object2vec.extras import import_extra


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer, as the JSON text that the library `tokenizers` writes. A schema contains this text."""

    json: str

    @classmethod
    def read(cls, path: Path) -> Tokenizer:
        """Read a file such as `tokenizer.json`.

        Raises:
            UserError: the file cannot be read, or is no tokenizer; or the library is not installed.
        """
        try:
            tokenizer = cls(path.read_text("utf-8"))
            tokenizer.split([])
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{path}: {reason}, wanted a tokenizer that `tokenizers` wrote as JSON") from error
        return tokenizer

    def split(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the tokens of each text, without special tokens such as `[CLS]`.

        Raises:
            ValueError: the JSON text is no tokenizer.
            UserError: the library is not installed.
        """
        return [found.tokens for found in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    @cached_property
    def _tokenizer(self) -> Any:
        library = import_extra("tokenizers", "tokenizers")
        try:
            tokenizer = library.Tokenizer.from_str(self.json)
        except Exception as error:  # the library raises no other class
            raise ValueError(str(error)) from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
