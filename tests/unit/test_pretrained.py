"""Pretrained token embeddings: forms of files that are read, and what is said about those that are not."""

from __future__ import annotations

import gzip
import logging
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from object2vec.errors import DataError
from object2vec.model.pretrained import Coverage, load_pretrained

VOCABULARY = {"the": 3, "cat": 0, "5": 1}
PLAIN = "the 1 2\ncat -0.5 1e-3\n5 3 4\nzoo 5 6\n"
TABLE = [[-0.5, pytest.approx(1e-3)], [3, 4], [9, 9], [1, 2], [9, 9]]


def loaded(
    path: Path, content: str | bytes, vocabulary: dict[str, int] | None = None
) -> tuple[Coverage, list[list[float]]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    table = torch.full((5, 2), 9.0)
    words = VOCABULARY if vocabulary is None else vocabulary
    coverage = load_pretrained(path, {word: [token] for word, token in words.items()}, table)
    return coverage, table.tolist()


def fault(path: Path, content: str | bytes, vocabulary: dict[str, int] | None = None) -> str:
    """Return the error about a file, without its path."""
    with pytest.raises(DataError) as caught:
        loaded(path, content, vocabulary)
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    return sentence.removeprefix(str(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "e.txt"


# ----------------------------------------------------------------------------------------------------------------------
# What is read.
# ----------------------------------------------------------------------------------------------------------------------


def zipped_twice(text: str) -> bytes:
    """Return two members of gzip, as parallel compressors write them."""
    middle = text.index("\n") + 1
    return gzip.compress(text[:middle].encode()) + gzip.compress(text[middle:].encode())


@pytest.mark.parametrize(
    "write",
    [
        str.encode,
        lambda text: text.replace(" ", "\t").encode(),
        lambda text: text.replace(" ", "  ").encode(),
        lambda text: text.replace(" ", " \t ").encode(),
        lambda text: text.replace(" ", "\t", 3).encode(),
        lambda text: text.replace("\n", " \n").encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: "".join(f"  {line}\n" for line in text.splitlines()).encode(),
        lambda text: "".join(f"\t{line}\n\n" for line in text.splitlines()).encode(),
        lambda text: text.rstrip("\n").encode(),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: gzip.compress(text.encode()),
        lambda text: gzip.compress(b"\xef\xbb\xbf" + text.encode()),
        zipped_twice,
        lambda text: b"4 2\n" + text.encode(),
        lambda text: b"4  2 \r\n" + text.encode(),
        lambda text: b"4\t2\n" + text.encode(),
        lambda text: b"\xef\xbb\xbf4 2\n" + text.encode(),
    ],
)
def test_forms_of_a_file_give_the_same_table(path: Path, write: Callable[[str], bytes]) -> None:
    """Separators, white space, line ends, compression, a byte order mark and a header change nothing."""
    assert loaded(path, write(PLAIN)) == (Coverage(3, 3, 0), TABLE)


@pytest.mark.parametrize("name", ["e.txt.gz", "e.zip", "e.GZ", "e"])
@pytest.mark.parametrize("write", [str.encode, lambda text: gzip.compress(text.encode())])
def test_compression_is_recognized_by_the_first_bytes(tmp_path: Path, name: str, write: Callable[[str], bytes]) -> None:
    """The suffix of a file does not matter."""
    assert loaded(tmp_path / name, write(PLAIN)) == (Coverage(3, 3, 0), TABLE)


def test_words_with_spaces_and_other_alphabets(path: Path) -> None:
    """The last numbers of a line are the vector: words may contain spaces and numbers. Words are UTF-8."""
    text = "a 0 0\n. . . 1 2\nnaïve 3 4\n. 5 6\nat 7 7 8\n東京 7 8\n"
    coverage, table = loaded(path, text, {". . .": 0, "naïve": 1, ".": 2, "at 7": 3, "東京": 4})
    assert coverage == Coverage(5, 5, 0)
    assert table == [[1, 2], [3, 4], [5, 6], [7, 8], [7, 8]]


def test_line_without_a_word_is_the_empty_word(path: Path) -> None:
    """Some word2vec files have a line of a space and numbers."""
    assert loaded(path, "the 1 2\n 3 4\n", {"the": 0, "": 1})[1][:2] == [[1, 2], [3, 4]]


def test_first_line_of_a_word_and_first_word_of_an_id_are_used(path: Path) -> None:
    """Later ones are ignored, and a row is counted once."""
    coverage, table = loaded(path, "a 1 2\nb 3 4\na 5 6\n", {"a": 0, "b": 0})
    assert coverage == Coverage(1, 1, 0)
    assert table[0] == [1, 2]


def test_header_is_skipped_even_if_the_vocabulary_has_its_count(path: Path) -> None:
    """A word that is a number is read in later lines."""
    assert loaded(path, "5 2\n" + PLAIN + "x 1 1\n") == (Coverage(3, 3, 0), TABLE)
    assert loaded(path, "2 2\n2 1 1\nb 4 4\n", {"2": 0})[1][0] == [1, 1]


@pytest.mark.parametrize(("count", "lines"), [(7, 4), (3, 4), (0, 4)])
def test_header_with_another_count_is_a_warning(
    path: Path, count: int, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Such a file is truncated, or was filtered without a change of its header."""
    assert loaded(path, f"{count} 2\n{PLAIN}")[1] == TABLE
    assert caplog.messages == [f"{path}: its header says {count} words, and it has {lines}"]


# ----------------------------------------------------------------------------------------------------------------------
# What is refused.
# ----------------------------------------------------------------------------------------------------------------------

WANTED = ", wanted a word and 2 numbers, as token_embedding_dim says"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("the 1", "a word and 1 numbers"),
        ("zoo 1", "a word and 1 numbers"),
        ("zoo", "a word and 0 numbers"),
        ("the 1 x", "'x' is not a number"),
        ("zoo 1 x", "'x' is not a number"),
        ("zoo not a vector", "'a' is not a number"),
        ("the 1 1_0", "'1_0' is not a number"),
        ("the 0x1 1", "'0x1' is not a number"),
        ("the 0,1 0.2", "'0,1' has a decimal comma, not a decimal point"),
        ("zoo\t-1,5\t2,5e-3", "'-1,5' has a decimal comma, not a decimal point"),
        ("zoo 1 2,5E+1", "'2,5E+1' has a decimal comma, not a decimal point"),
        ("the,0,1", "values separated by commas, not by spaces or tabs"),
        ("zoo;0,1;0,2", "values separated by semicolons, not by spaces or tabs"),
        ("the 1 nan", "the number nan is not finite in float32"),
        ("the inf 1", "the number inf is not finite in float32"),
        ("the 1 -1e39", "the number -1e+39 is not finite in float32"),
        ("the 1 2 3", "a word and 3 numbers"),
        ("the,1,2", "values separated by commas, not by spaces or tabs"),
        ("zoo, 1, 2", "values separated by commas, not by spaces or tabs"),
        ("zoo;1;2", "values separated by semicolons, not by spaces or tabs"),
        ("zoo|1|2", "values separated by bars, not by spaces or tabs"),
        ("\0\1\2 \3", "binary data"),
    ],
)
def test_unreadable_line_is_named(path: Path, line: str, what: str) -> None:
    """The error names a line that is not a word and its numbers, even if its word is not in the vocabulary."""
    assert fault(path, f"cat 1 2\n{line}\n") == f", line 2: {what}{WANTED}"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("5 300\nthe 1 2\n", ", line 1: a word2vec header for vectors of 300 numbers"),
        ("2 5\nthe 1 2\n", ", line 1: a word2vec header for vectors of 5 numbers"),
        ("zoo 1 2 3 4\n", ", line 1: a word and 4 numbers"),
        ("word,d0,d1\nthe,1,2\n", ", line 1: values separated by commas"),
        ('"the","1","2"\n', ", line 1: values separated by commas"),
        (b"2 2\nthe " + struct.pack("<2f", 0.1, 2), ", line 2: binary word2vec data; save it as text, in gensim with"),
        (b"\xba\x16\x4f\x2f\x0c\0\0\0" + bytes(50), ""),
        (PLAIN.encode("utf-16"), ": UTF-16 text; save it as UTF-8"),
        (PLAIN.encode("utf-16-le"), ": UTF-16 text; save it as UTF-8"),
        (gzip.compress(PLAIN.encode("utf-16"), mtime=0), ": UTF-16 text; save it as UTF-8"),
        ("", ": the file is empty"),
        ("\n \n", ": the file is empty"),
        (gzip.compress(b"", mtime=0), ": the file is empty"),
        ("3 2\n", ": the file is empty"),
    ],
)
def test_other_kinds_of_files_are_named(path: Path, content: str | bytes, sentence: str) -> None:
    """CSV, binary files, other encodings, other dimensions, and files without lines are errors."""
    assert fault(path, content).startswith(sentence)


def test_zip_archive_is_named(path: Path) -> None:
    """The name of the file does not matter."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("e.txt", PLAIN)
    assert fault(path, path.read_bytes()).startswith(": a zip archive; ")


def test_no_word_found_is_an_error(path: Path) -> None:
    """The error has the first words of the file and of the vocabulary."""
    assert fault(path, "a 1 2\nb 1 2\nc 1 2\nd 1 2\n", {"w": 0, "x": 1, "y": 2, "z": 3}) == (
        ": none of the 4 words of the vocabulary is in it; its first words are 'a', 'b', 'c', "
        "the vocabulary's 'w', 'x', 'y'"
    )
    assert fault(path, "a 1 2\n", {}).endswith("its first words are 'a', the vocabulary's none")


def test_other_letter_case_is_named(path: Path) -> None:
    """The error names the letter case only if the words match without it."""
    sentence = fault(path, "THE 1 2\nCat 1 2\nx 1 1\n")
    assert sentence.startswith(
        ": none of the 3 words of the vocabulary is in it; 2 of them are in it in another letter"
    )
    assert loaded(path, "THE 1 2\ncat 1 2\nCAT 1 2\n")[0] == Coverage(1, 3, 1)


def test_windows_1252_is_named(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A word of the vocabulary in that encoding is an error; other bytes that are not UTF-8 are a warning."""
    text = "the 1 2\nx 1 2\ncafé 1 2\n".encode("cp1252")
    assert fault(path, text, {"the": 0, "café": 1}) == (
        ", line 3: not UTF-8 text: its word is 'café' of the vocabulary in Windows-1252; save the file as UTF-8"
    )
    loaded(path, text + b"\xff 3 3\n", {"the": 0})
    assert caplog.messages == [f"{path}: 2 words are not UTF-8 text and match nothing, the first in line 3"]


@pytest.mark.parametrize(
    ("coverage", "level", "sentence"),
    [
        (Coverage(3, 6, 0), logging.INFO, "enc0: 3 of 6 words have a vector in e.txt, the rest start like new"),
        (Coverage(2, 6, 0), logging.WARNING, "enc0: 2 of 6 words have a vector in e.txt (33.3%), the rest {rest}"),
        (
            Coverage(1, 1000, 9),
            logging.WARNING,
            "enc0: 1 of 1000 words have a vector in e.txt (0.1%), the rest {rest}; "
            "9 more have one in another letter case",
        ),
    ],
)
@pytest.mark.parametrize("frozen", [True, False])
def test_few_found_words_are_a_warning(
    coverage: Coverage, level: int, sentence: str, frozen: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Below a half, the warning has the share, and says that a frozen table keeps random rows."""
    caplog.set_level(logging.INFO)
    coverage.log("enc0", "e.txt", frozen=frozen)
    rest = "keep their random values, since freeze_pretrained_embedding is True" if frozen else "start like new"
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(level, sentence.format(rest=rest))]


def test_endless_line_is_refused(path: Path) -> None:
    """A line that is not a word and its numbers is not read into memory as a whole."""
    assert fault(path, b"cat 1 2\n" + b"x" * 2**22) == f", line 2: the line is longer than 1 MiB{WANTED}"


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    """The error names a missing file, or a truncated compressed one."""
    with pytest.raises(DataError, match=r"none.txt: cannot be read \(.*No such file"):
        load_pretrained(tmp_path / "none.txt", VOCABULARY, torch.zeros(5, 2))
    truncated = gzip.compress(b"the 1 2\n" * 1000)[:-12]
    assert fault(tmp_path / "g", truncated).startswith(": cannot be read (Compressed file ended")


@pytest.mark.parametrize("seed", range(3))
def test_random_files_equal_a_simple_reader(path: Path, seed: int) -> None:
    """The simple reader splits every line. Words have one or more parts, in random order."""
    rng = np.random.default_rng(seed)
    parts = ["a", "b", "-", ".", "é"]
    words = {" ".join(rng.choice(parts, rng.integers(1, 4))) for _ in range(40)}
    lines = [(word, rng.normal(size=2).astype(np.float32)) for word in sorted(words)]
    lines.sort(key=lambda line: line[0] in parts, reverse=True)  # the first line has no spaces in its word
    vocabulary = {word: n for n, (word, _) in enumerate(lines[:5])}
    text = "".join(f"{word} {vector[0]!s} {vector[1]!s}\n" for word, vector in lines)
    wanted = np.full((5, 2), 9, np.float32)
    for word, vector in lines:
        if word in vocabulary:
            wanted[vocabulary[word]] = vector
    np.testing.assert_array_equal(loaded(path, text, vocabulary)[1], wanted)
