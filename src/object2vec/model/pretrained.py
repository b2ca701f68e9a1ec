"""Read pretrained token embeddings from a text file with a word and its vector per line, or from a table.

Fields of text are separated by spaces or tabs, as in files of GloVe. Files of word2vec and fastText also have a first
line with the number of words and the dimension. `vector_tables` reads tables.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from object2vec.array_types import Float32
from object2vec.data.files import READ_ERRORS, open_file
from object2vec.data.vocabulary import is_table
from object2vec.errors import DataError, shortened
from object2vec.model.vector_tables import read_vectors

logger = logging.getLogger(__name__)

#: Far more than a line with a thousand numbers.
MAX_LINE_BYTES: Final = 2**20
NUMERIC: Final = b"0123456789+-.eE "
CONTROL: Final = re.compile(rb"[\0-\x08\x0e-\x1f\x7f]")
SEPARATORS: Final = {b",": "commas", b";": "semicolons", b"|": "bars"}
#: A number as many programs write it in Europe and South America, between spaces.
DECIMAL_COMMA: Final = re.compile(rb"(?<= )[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?(?= |$)")
#: Words that an error shows as examples.
EXAMPLES: Final = 3


class Coverage(NamedTuple):
    """Counts of a vocabulary's words: with a vector, all, and with a vector in another letter case only."""

    found: int
    words: int
    other_case: int

    def log(self, encoder: str, name: str, *, frozen: bool) -> None:
        """Log the share of words with a vector, as a warning if it is below a half."""
        sentence = f"{encoder}: {self.found} of {self.words} words have a vector in {name}"
        if 2 * self.found >= self.words:
            logger.info(f"{sentence}, the rest start like new")
            return
        rest = "start like new"
        if frozen:
            rest = "keep their random values, since freeze_pretrained_embedding is True"
        case = f"; {self.other_case} more have one in another letter case" if self.other_case else ""
        logger.warning(f"{sentence} ({self.found / self.words:.1%}), the rest {rest}{case}")


def load_pretrained(path: Path, vocabulary: Mapping[str, Sequence[int]], table: Tensor) -> Coverage:
    """Copy the vectors of the vocabulary's words into their rows of `table` (V, E); other rows do not change.

    `vocabulary` has the ids of each word. The first line counts if several have the same word, or words with the same
    id.

    Raises:
        DataError: the file cannot be read, a line is not a word and E numbers, or no word is in the vocabulary.
    """
    found, other_case = (_from_table if is_table(path) else _from_text)(path, vocabulary, table.shape[1])
    rows = torch.tensor(list(found), device=table.device)
    with torch.no_grad():
        table[rows] = torch.stack(list(found.values())).to(table.device)
    return Coverage(len(found), len({token for ids in vocabulary.values() for token in ids}), other_case)


_Found = tuple[dict[int, Tensor], int]


def _from_text(path: Path, vocabulary: Mapping[str, Sequence[int]], dim: int) -> _Found:
    """Return the vectors of token ids, and how many words match in another letter case only."""
    reader = _Reader(path, vocabulary, dim)
    found: dict[int, Tensor] = {}
    try:
        for token, vector in reader.vectors():
            found.setdefault(token, torch.from_numpy(vector))
    except READ_ERRORS as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    return found, reader.finish()


def _from_table(path: Path, vocabulary: Mapping[str, Sequence[int]], dim: int) -> _Found:
    vectors, rows = read_vectors(path, vocabulary, dim)
    matched = {word.casefold() for word in vectors}
    wanted = {word.casefold() for word in vocabulary} - matched
    other_case = len(wanted & {word.casefold() for word in rows})
    if not vectors:
        raise _no_word_found(path, vocabulary, rows, other_case)
    found: dict[int, Tensor] = {}
    for word, vector in vectors.items():
        for token in vocabulary[word]:
            found.setdefault(token, vector)
    return found, other_case


def _no_word_found(
    path: Path, vocabulary: Mapping[str, object], words: Iterable[bytes | str], other_case: int
) -> DataError:
    case = f"; {other_case} of them are in it in another letter case" if other_case else ""
    return DataError(
        f"{path}: none of the {len(vocabulary)} words of the vocabulary is in it{case}; "
        f"its first words are {_listed(words)}, the vocabulary's {_listed(vocabulary)}"
    )


class _Reader:
    """Reads a file once. Lines of unknown words are only checked for their characters and number of fields."""

    def __init__(self, path: Path, vocabulary: Mapping[str, Sequence[int]], dim: int) -> None:
        self.path = path
        self.vocabulary = vocabulary
        self.dim = dim
        self.wanted = f"wanted a word and {dim} numbers, as token_embedding_dim says"
        self.ids = {word.encode(errors="surrogatepass"): ids for word, ids in vocabulary.items()}
        self.first_parts = {word.partition(b" ")[0] for word in self.ids}
        self.folded = {word.casefold() for word in vocabulary}
        self.header: int | None = None  # its number of words
        self.lines = 0
        self.matched: set[bytes] = set()
        self.other_case: set[str] = set()
        self.examples: list[bytes] = []
        self.not_utf8: list[int] = []  # the first such line, and their count

    def vectors(self) -> Iterator[tuple[int, Float32]]:
        """Yield the id and the vector of each line whose word is in the vocabulary."""
        with open_file(self.path) as stream:
            for line, raw in enumerate(iter(partial(stream.readline, MAX_LINE_BYTES), b""), start=1):
                text = raw.replace(b"\t", b" ").strip(b" \r\n")
                if len(raw) == MAX_LINE_BYTES:
                    self._fail(line, text, f"the line is longer than {MAX_LINE_BYTES >> 20} MiB")
                if not text or (line == 1 and self._is_header(text)):
                    continue
                self.lines += 1
                part, _, rest = text.partition(b" ")
                plain = rest.count(b" ") == self.dim - 1 and not rest.translate(None, NUMERIC)
                if plain and part not in self.first_parts:  # most lines of a large file
                    self._add_unmatched(line, part)
                    continue
                word, numbers = self._split(line, text, spaced=raw[:1] in b" \t")
                if word in self.ids:
                    self.matched.add(word)
                    vector = self._vector(line, text, numbers)
                    yield from ((token, vector) for token in self.ids[word])
                else:
                    self._add_unmatched(line, word)

    def _is_header(self, text: bytes) -> bool:
        header = re.fullmatch(rb"([0-9]{1,18}) +([0-9]{1,18})", text)
        if header is None:
            return False
        if int(header[2]) != self.dim:
            self._fail(1, text, f"a word2vec header for vectors of {int(header[2])} numbers")
        self.header = int(header[1])
        return True

    def _split(self, line: int, text: bytes, *, spaced: bool) -> tuple[bytes, list[float]]:
        """Split a line into its word, which may hold spaces, and its numbers; `spaced` lines begin with a space."""
        fields = [field for field in text.split(b" ") if field]
        count = len(fields) - 1
        if count == self.dim - 1 and spaced and (numbers := _floats(fields)):  # the word is a space, or empty
            return b"", numbers
        if count < self.dim:
            self._fail(line, text, f"a word and {count} numbers")
        numbers = _floats(fields[-self.dim :])
        if numbers is None:
            wrong = next(field for field in fields[-self.dim :] if not _floats([field]))
            self._fail(line, text, f"{_quoted(wrong)} is not a number")
        word = b" ".join(fields[: -self.dim])
        # More numbers than wanted could be a word with spaces; in the first line, or after a known word, they are not.
        spaces_expected = word in self.ids or (fields[0] not in self.ids and self.lines > 1)
        if count > self.dim and not spaces_expected and _floats(fields[1:]):
            self._fail(line, text, f"a word and {count} numbers")
        return word, numbers

    def _fail(self, line: int, text: bytes, what: str) -> NoReturn:
        if CONTROL.search(text):
            what = "binary data"
            if self.header is not None:
                what = "binary word2vec data; save it as text, in gensim with binary=False"
        elif decimal := DECIMAL_COMMA.search(text):
            what = f"{_quoted(decimal[0])} has a decimal comma, not a decimal point"
        else:
            for separator, name in SEPARATORS.items():
                if text.count(separator) >= self.dim:
                    what = f"values separated by {name}, not by spaces or tabs"
        raise DataError.at(self.path, line, f"{what}, {self.wanted}")

    def _vector(self, line: int, text: bytes, numbers: list[float]) -> Float32:
        vector = np.array(numbers)
        wrong = ~(np.abs(vector) <= np.finfo(np.float32).max)
        if wrong.any():
            self._fail(line, text, f"the number {vector[wrong][0]:g} is not finite in float32")
        return vector.astype(np.float32)

    def _add_unmatched(self, line: int, word: bytes) -> None:
        """Record possible reasons why a word is not in the vocabulary, for messages."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(word)
        try:
            folded = word.decode().casefold()
        except UnicodeDecodeError:
            other = word.decode("cp1252", errors="replace")
            if other in self.vocabulary:
                what = f"not UTF-8 text: its word is {_quoted(other)} of the vocabulary in Windows-1252"
                raise DataError.at(self.path, line, f"{what}; save the file as UTF-8") from None
            self.not_utf8 = [self.not_utf8[0], self.not_utf8[1] + 1] if self.not_utf8 else [line, 1]
            return
        if folded in self.folded:
            self.other_case.add(folded)

    def finish(self) -> int:
        """Check the complete file; return how many words match in another letter case only."""
        if not self.lines:
            raise DataError(f"{self.path}: the file is empty, {self.wanted} a line")
        found = {word.decode(errors="surrogatepass").casefold() for word in self.matched}
        other_case = len(self.other_case - found)
        if not self.matched:
            raise _no_word_found(self.path, self.vocabulary, self.examples, other_case)
        if self.header not in (None, self.lines):
            logger.warning(f"{self.path}: its header says {self.header} words, and it has {self.lines}")
        if self.not_utf8:
            line, count = self.not_utf8
            logger.warning(f"{self.path}: {count} words are not UTF-8 text and match nothing, the first in line {line}")
        return other_case


def _floats(fields: list[bytes]) -> list[float] | None:
    """Return the fields as numbers, or None if one is not a number."""
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        return None
    return None if b"_" in b"".join(fields) else numbers  # float() takes 1_0


def _quoted(word: bytes | str) -> str:
    text = word.decode(errors="backslashreplace") if isinstance(word, bytes) else word
    return f"'{shortened(text)}'"


def _listed(words: Iterable[bytes | str]) -> str:
    return ", ".join(_quoted(word) for word in islice(words, EXAMPLES)) or "none"
