"""Channels of JSON Lines: valid lines, and the error of each kind of invalid line."""

from __future__ import annotations

import gzip
import json
import logging
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.data import jsonlines
from object2vec.data.jsonlines import read_channel
from object2vec.data.sequences import Pairs
from object2vec.errors import DataError
from object2vec.hyperparameters import Hyperparameters
from small import configured

GOOD = '{"in0": [1, 2], "in1": [3], "label": 1}'
EXPECTED_RECORD = 'wanted an object like {"in0": [1, 2], "in1": [3], "label": 1}'
#: Classes 0 and 1, ids 0 … 8, 6 tokens; and the same with real numbers for labels.
CLASSES = configured()
NUMBERS = configured(output_layer="mean_squared_error")


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def rows(pairs: Pairs) -> list[tuple[list[int], list[int], float]]:
    sides = [np.split(side.values, side.offsets[1:-1]) for side in pairs.sides]
    return [(a.tolist(), b.tolist(), label) for a, b, label in zip(*sides, pairs.labels.tolist(), strict=True)]


def refused(path: Path, hyperparameters: Hyperparameters = CLASSES) -> str:
    with pytest.raises(DataError) as caught:
        read_channel("train", path, hyperparameters)
    return str(caught.value)


# ----------------------------------------------------------------------------------------------------------------------
# Valid input.
# ----------------------------------------------------------------------------------------------------------------------


def test_valid_lines_are_read(tmp_path: Path) -> None:
    """Keys in any order, empty sides, id 0, extra keys, blank lines, and no final newline."""
    path = tmp_path / "train.jsonl"
    path.write_text(
        '{"label": 0, "in0": [6, 0], "in1": [8]}\n'
        "\n"
        '{"in1": [], "in0": [1], "label": 1.0, "note": true, "text": "x", "more": {"in0": false}}\r\n'
        "   \n"
        '{"in0": [2], "in1": [3, 3, 3], "label": 1}'
    )
    pairs = read_channel("train", path, CLASSES)
    assert rows(pairs) == [([6, 0], [8], 0.0), ([1], [], 1.0), ([2], [3, 3, 3], 1.0)]
    assert pairs.labels.dtype == np.float32


def test_regression_accepts_any_number(tmp_path: Path) -> None:
    """Integers, negative numbers and fractions."""
    lines = [f'{{"in0": [1], "in1": [2], "label": {label}}}' for label in ("3", "3.5", "-1e3", "0")]
    assert read_channel("train", write(tmp_path / "x", *lines), NUMBERS).labels.tolist() == [3.0, 3.5, -1000.0, 0.0]


@pytest.mark.parametrize("note", ["", ', "note": 1'], ids=["kernel", "any JSON"])
def test_weights_are_read(tmp_path: Path, note: str) -> None:
    """A record without a weight has 1, also in files before the first weight; a channel without any has none."""
    folder = tmp_path / "train"
    write(folder / "a", f'{{"in0": [1], "in1": [2], "label": 1{note}}}')
    assert read_channel("train", folder, CLASSES).weights is None
    with_weights = [f'{{"weight": {weight}, "in0": [1], "in1": [2], "label": 1{note}}}' for weight in ("0.5", "0")]
    write(folder / "b", *with_weights, f'{{"in0": [1], "in1": [2], "label": 1{note}}}')
    write(folder / "c", f'{{"in0": [1], "in1": [2], "label": 0{note}}}')
    pairs = read_channel("train", folder, CLASSES)
    assert pairs.weights.tolist() == [1, 0.5, 0, 1, 1]
    assert pairs.weights.dtype == np.float32


@pytest.mark.parametrize(
    ("weight", "got"),
    [
        ("-0.5", "-0.5"),
        ("1.1e30", "1.1e+30"),
        ("null", "null"),
        ('"2"', 'the string "2"'),
        ("true", "the boolean true"),
        ("[1]", "the list [1]"),
    ],
)
def test_invalid_weight_is_named(tmp_path: Path, weight: str, got: str) -> None:
    """A weight that is no number from 0 to 1e30 is an error with its file and line."""
    path = write(tmp_path / "x", GOOD, f'{{"in0": [1], "in1": [2], "label": 1, "weight": {weight}}}')
    assert refused(path) == f"{path}, line 2: weight is {got}, wanted a number from 0 to 1e+30"


SEVERAL = configured(output_layer="sigmoid", num_classes=5)


def test_several_classes_are_read(tmp_path: Path) -> None:
    """A list of classes, none, or one class by itself; a class that is repeated counts once."""
    labels = ("3", "[1, 4, 1.0]", "[]", "2.0", "[0]")
    path = write(tmp_path / "x", *(f'{{"in0": [1], "in1": [2], "label": {label}}}' for label in labels))
    pairs = read_channel("train", path, SEVERAL)
    assert [part.tolist() for part in np.split(pairs.classes.values, pairs.classes.offsets[1:-1])] == [
        [3],
        [1, 4],
        [],
        [2],
        [0],
    ]
    assert pairs.labels.tolist() == [1, 2, 0, 1, 1]
    assert pairs.take(np.array([1, 2])).classes.values.tolist() == [1, 4]


@pytest.mark.parametrize(
    ("label", "got"),
    [
        ("5", "5"),
        ("[1, 5]", "5"),
        ("-1", "-1"),
        ("null", "null"),
        ('["a"]', 'the list ["a"]'),
        ("[true]", "the list [true]"),
        ("[[1]]", "the list [[1]]"),
        ("[0.5]", "the list [0.5]"),
        ("[4294967296]", "the list [4294967296]"),
    ],
)
def test_invalid_class_of_several_is_named(tmp_path: Path, label: str, got: str) -> None:
    lines = [f'{{"in0": [1], "in1": [2], "label": {each}}}' for each in ("[1, 2]", label)]
    sentence = f"line 2: label is {got}, wanted a class from 0 to 4, or a list of them"
    assert refused(path := write(tmp_path / "x", *lines), SEVERAL) == f"{path}, {sentence}"


ONE_SIDE = configured(enc1_network="none")


@pytest.mark.parametrize("note", ["", ', "note": 1'], ids=["kernel", "any JSON"])
def test_records_of_one_side_are_read(tmp_path: Path, note: str) -> None:
    """in1 is absent, empty or null: each record has an empty one."""
    sides = ("", ', "in1": []', ', "in1": null')
    lines = [f'{{"in0": [{n + 1}, 2], "label": 1, "weight": 2{in1}{note}}}' for n, in1 in enumerate(sides)]
    pairs = read_channel("train", write(tmp_path / "x", *lines), ONE_SIDE)
    assert rows(pairs) == [([n + 1, 2], [], 1.0) for n in range(3)]
    assert pairs.weights.tolist() == [2] * 3


def test_records_of_both_kinds_are_an_error(tmp_path: Path) -> None:
    lone = '{"in0": [1], "label": 1}'
    path = write(tmp_path / "x", lone, GOOD)
    why = "the first record has in0 alone, or enc1_network is none"
    assert refused(path, ONE_SIDE) == f"{path}, line 2: in1 is the list [3], wanted no in1: {why}"
    path = write(tmp_path / "x", lone, '{"in1": [1], "label": 1}')
    assert refused(path, ONE_SIDE).startswith(f"{path}, line 2: in1 is the list [1], wanted no in1")
    path = write(tmp_path / "x", lone, '{"in0": [1]}')
    assert refused(path, ONE_SIDE) == f'{path}, line 2: no label, wanted an object like {{"in0": [1, 2], "label": 1}}'
    path = write(tmp_path / "x", GOOD, lone)
    assert refused(path) == f"{path}, line 2: no in1, {EXPECTED_RECORD}"


def test_all_files_of_a_channel_are_read(tmp_path: Path) -> None:
    """Plain and compressed files in nested folders, sorted by name, without markers."""
    line = '{{"in0": [{}], "in1": [2], "label": 1}}'.format
    write(tmp_path / "b.jsonl", line(3))
    write(tmp_path / "a" / "2.jsonl", line(2))
    (tmp_path / "a" / "1.jsonl.gz").write_bytes(gzip.compress(f"{line(1)}\n".encode()))
    write(tmp_path / "_SUCCESS")
    write(tmp_path / ".hidden", "not JSON")
    assert [in0 for in0, _, _ in rows(read_channel("train", tmp_path, CLASSES))] == [[1], [2], [3]]


def test_long_sequences_are_truncated_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first max_seq_len tokens are kept; the warning counts the longer sequences of each side."""
    hyperparameters = configured(
        enc0_max_seq_len=2,
        enc1_network="pooled_embedding",
        enc1_max_seq_len=1,
        enc1_vocab_size=9,
        enc1_token_embedding_dim=4,
    )
    lines = ['{"in0": [1, 2, 3], "in1": [4, 5], "label": 1}', '{"in0": [1, 2], "in1": [4, 5, 6], "label": 0}']
    with caplog.at_level(logging.WARNING, "object2vec"):
        pairs = read_channel("train", write(tmp_path / "x", *lines), hyperparameters)
    assert rows(pairs) == [([1, 2], [4], 1.0), ([1, 2], [4], 0.0)]
    assert caplog.messages == [
        "One or more sequences have been truncated because they exceeded max_seq_len (1 of in0, 2 of in1)"
    ]


def test_no_truncation_gives_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Short sequences only."""
    read_channel("train", write(tmp_path / "x", GOOD), CLASSES)
    assert caplog.messages == []


PAIR = st.fixed_dictionaries(
    {
        "in0": st.lists(st.integers(0, 8), max_size=6),
        "in1": st.lists(st.integers(0, 8), max_size=6),
        "label": st.sampled_from([0, 1, 0.0, 1.0]),
    },
    optional={"note": st.text() | st.booleans() | st.none()},
)


@given(st.lists(st.lists(PAIR, min_size=1, max_size=5), min_size=1, max_size=3))
def test_written_pairs_are_read(tmp_path_factory: pytest.TempPathFactory, files: list[list[dict]]) -> None:
    """Files are written with the standard library."""
    folder = tmp_path_factory.mktemp("channel")
    for number, records in enumerate(files):
        write(folder / f"{number}.jsonl", *(json.dumps(record) for record in records))
    expected = [(record["in0"], record["in1"], record["label"]) for records in files for record in records]
    assert rows(read_channel("train", folder, CLASSES)) == expected


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.integers(0, 8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["in0", "label"]), inner, max_size=2),
    max_leaves=6,
)
RECORDS = st.dictionaries(st.sampled_from(["in0", "in1", "label", "x"]), VALUES) | VALUES


@given(st.lists(RECORDS.map(lambda record: json.dumps(record).encode()) | st.binary(max_size=20), max_size=4))
def test_any_file_is_read_or_rejected_by_name(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    """Any bytes give valid pairs, or an error with the file name."""
    path = tmp_path_factory.mktemp("channel") / "x.jsonl"
    path.write_bytes(b"\n".join(lines))
    found = pairs_or_sentence(path)
    if isinstance(found, str):
        assert found.startswith((str(path), "channel train: not able to find any data/records in 1 file(s)"))
    else:
        assert set(found.labels.tolist()) <= {0.0, 1.0}
        assert all(0 <= token < 9 for side in found.sides for token in side.values.tolist())


def pairs_or_sentence(path: Path) -> Pairs | str:
    try:
        return read_channel("train", path, CLASSES)
    except DataError as error:
        return str(error)


def test_memory_does_not_grow_with_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns are on disk; memory is needed only for a few chunks, which are small here."""
    monkeypatch.setattr(jsonlines, "CHUNK_BYTES", 2**14)
    count = 20_000
    line = json.dumps({"in0": [1] * 5, "in1": [2] * 5, "label": 1})
    path = write(tmp_path / "x", *[line] * count)
    tracemalloc.start()
    pairs = read_channel("train", path, CLASSES)
    left, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pairs) == count
    assert left < 100_000
    assert peak < 20 * count


# ----------------------------------------------------------------------------------------------------------------------
# Invalid input. Each line is the third of its file, after a valid one and a blank one.
# ----------------------------------------------------------------------------------------------------------------------

BAD = {
    "no JSON": ("in0: 1", f"not JSON (unexpected character, expected a JSON value at character 1), {EXPECTED_RECORD}"),
    "half a line": ('{"in0": [1], "in1"', f"not JSON (unexpected end of data at character 19), {EXPECTED_RECORD}"),
    "two objects": (
        f"{GOOD} {GOOD}",
        f"not JSON (unexpected content after document at character 41), {EXPECTED_RECORD}",
    ),
    "NaN": (
        '{"in0": [1], "in1": [2], "label": NaN}',
        f"not JSON (unexpected character, expected a JSON value at character 35), {EXPECTED_RECORD}",
    ),
    "a list": ("[1, 2]", f"the list [1,2], {EXPECTED_RECORD}"),
    "a list with true": ("[true]", f"the list [true], {EXPECTED_RECORD}"),
    "a string": ('"in0 in1 label"', f'the string "in0 in1 label", {EXPECTED_RECORD}'),
    "a number": ("7", f"the number 7, {EXPECTED_RECORD}"),
    "true": ("true", f"the boolean true, {EXPECTED_RECORD}"),
    "null": ("null", f"null, {EXPECTED_RECORD}"),
    "no in0": ('{"in1": [3], "label": 1}', f"no in0, {EXPECTED_RECORD}"),
    "no in1": ('{"in0": [3], "label": 1}', f"no in1, {EXPECTED_RECORD}"),
    "no label": ('{"in0": [3], "in1": [1]}', f"no label, {EXPECTED_RECORD}"),
    "no label, but true": ('{"in0": [3], "in1": [1], "x": true}', f"no label, {EXPECTED_RECORD}"),
    "a token alone": ('{"in0": 3, "in1": [1], "label": 1}', "in0 is the number 3, wanted a list of integer token ids"),
    "text for tokens": (
        '{"in0": "3", "in1": [1], "label": 1}',
        'in0 is the string "3", wanted a list of integer token ids',
    ),
    "an object for tokens": (
        '{"in0": [1], "in1": {"a": 1}, "label": 1}',
        'in1 is the object {"a":1}, wanted a list of integer token ids',
    ),
    "null for tokens": ('{"in0": [1], "in1": null, "label": 1}', "in1 is null, wanted a list of integer token ids"),
    "a string token": (
        '{"in0": [1, "2"], "in1": [1], "label": 1}',
        'in0[1] is the string "2", wanted an integer token id',
    ),
    "a float token": (
        '{"in0": [1], "in1": [1, 2, 3.5], "label": 1}',
        "in1[2] is the number 3.5, wanted an integer token id",
    ),
    "a float token behind a whole one": (
        '{"in0": [1.0, 1.5], "in1": [1], "label": 1}',
        "in0[1] is the number 1.5, wanted an integer token id",
    ),
    "a negative float token": (
        '{"in0": [1.0, -2.0], "in1": [1], "label": 1}',
        "in0 has the token -2, wanted an integer token id from 0",
    ),
    "a whole float too large": (
        '{"in0": [1], "in1": [4, 9.0], "label": 1}',
        'Inconsistent vocab for in1 found. Vocab id "9" is not less than vocab_size=9',
    ),
    "a whole float past 32 bits": (
        '{"in0": [4294967296.0], "in1": [4], "label": 1}',
        'Inconsistent vocab for in0 found. Vocab id "4294967296" is not less than vocab_size=9',
    ),
    "a string token next to floats": (
        '{"in0": [1.0, "2"], "in1": [1], "label": 1}',
        'in0[1] is the string "2", wanted an integer token id',
    ),
    "a bool token": (
        '{"in0": [1, true], "in1": [1], "label": 1}',
        "in0[1] is the boolean true, wanted an integer token id",
    ),
    "a null token": ('{"in0": [null], "in1": [1], "label": 1}', "in0[0] is null, wanted an integer token id"),
    "a nested token": ('{"in0": [[1]], "in1": [1], "label": 1}', "in0[0] is the list [1], wanted an integer token id"),
    "a negative token": (
        '{"in0": [1, -2], "in1": [1], "label": 1}',
        "in0 has the token -2, wanted an integer token id from 0",
    ),
    "a very negative token": (
        f'{{"in0": [1, {-(2**40)}], "in1": [1], "label": 1}}',
        f"in0 has the token {-(2**40)}, wanted an integer token id from 0",
    ),
    "an id too large": (
        '{"in0": [1], "in1": [4, 9], "label": 1}',
        'Inconsistent vocab for in1 found. Vocab id "9" is not less than vocab_size=9',
    ),
    "an id past 32 bits": (
        '{"in0": [4294967296], "in1": [4], "label": 1}',
        'Inconsistent vocab for in0 found. Vocab id "4294967296" is not less than vocab_size=9',
    ),
    "a class too large": ('{"in0": [1], "in1": [1], "label": 2}', "label is 2, wanted a class from 0 to 1"),
    "a negative class": ('{"in0": [1], "in1": [1], "label": -1}', "label is -1, wanted a class from 0 to 1"),
    "half a class": ('{"in0": [1], "in1": [1], "label": 0.5}', "label is 0.5, wanted a class from 0 to 1"),
    "a class as text": (
        '{"in0": [1], "in1": [1], "label": "1"}',
        'label is the string "1", wanted a class from 0 to 1',
    ),
    "a class as a flag": (
        '{"in0": [1], "in1": [1], "label": true}',
        "label is the boolean true, wanted a class from 0 to 1",
    ),
    "null for a class": ('{"in0": [1], "in1": [1], "label": null}', "label is null, wanted a class from 0 to 1"),
    "classes": ('{"in0": [1], "in1": [1], "label": [1]}', "label is the list [1], wanted a class from 0 to 1"),
}


@pytest.mark.parametrize(("line", "sentence"), BAD.values(), ids=list(BAD))
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_invalid_line_is_named(tmp_path: Path, line: str, sentence: str, packed: bool) -> None:
    """The error has the file, the line, what was got and what was wanted, also for a compressed file."""
    write(tmp_path / "a.jsonl", GOOD, GOOD)
    bad = write(tmp_path / "b.jsonl", GOOD, "", line, GOOD)
    if packed:
        plain, bad = bad, bad.with_name("b.jsonl.gz")
        bad.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    assert refused(tmp_path) == f"{bad}, line 3: {sentence}"


@pytest.mark.parametrize(
    ("label", "got"),
    [
        ('"3"', 'the string "3"'),
        ("true", "the boolean true"),
        ("null", "null"),
        ("1e39", "1e+39"),
        ("-1e300", "-1e+300"),
    ],
)
def test_invalid_regression_label_is_named(tmp_path: Path, label: str, got: str) -> None:
    """A label must be a number that float32 can represent."""
    path = write(tmp_path / "x", GOOD, f'{{"in0": [1], "in1": [2], "label": {label}}}')
    assert refused(path, NUMBERS) == f"{path}, line 2: label is {got}, wanted a finite number"


def test_invalid_utf8_is_named(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are not JSON."""
    path = tmp_path / "x"
    path.write_bytes(b'{"in0": [1], "in1": [2], "label": 1, "text": "\xff"}')
    assert refused(path).startswith(f"{path}, line 1: not JSON (str is not valid UTF-8")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (GOOD.encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        (GOOD.encode("utf-16-be"), "UTF-16 text; save it as UTF-8"),
        (gzip.compress(GOOD.encode(), mtime=0), "gzip data inside other data; decompress it first"),
        (GOOD.encode() + b"\0", "not JSON (unexpected content after document"),
        (b"\0" * 5000, "not JSON ("),
        (b'{"in0": [1], "in1": [2], "label": 1, "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "not JSON ("),
        (b"[" * 10_000, "not JSON ("),
        (b'{"in0": ' + b"[" * 900 + b"]" * 900 + b', "in1": [2], "label": 1}', "in0[0] is the list [["),
        (b'{"in0": [2147483648], "in1": [2], "label": 1}', 'Inconsistent vocab for in0 found. Vocab id "2147483648"'),
        (b'{"in0": [-9223372036854775808], "in1": [2], "label": 1}', "in0 has the token -9223372036854775808, wanted"),
        (b'{"in0": [9223372036854775808], "in1": [2], "label": 1}', "Inconsistent vocab for in0 found. Vocab id"),
        (b'{"in0": [1e30], "in1": [2], "label": 1}', "in0[0] is the number 1e+30, wanted an integer token id"),
        (b'{"in0": [1], "in1": [NaN], "label": 1}', "not JSON ("),
        (b'{"in0": [1], "in1": [2], "label": 1e400}', "not JSON ("),
        (b'{"in0": [' + b"9" * 10_000 + b'], "in1": [2], "label": 1}', "not JSON ("),
        (GOOD.replace("1,", "01,").encode(), "not JSON ("),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else "",
)
def test_hostile_lines_are_named(tmp_path: Path, text: bytes, what: str) -> None:
    """Other encodings, zero bytes, deep nesting and huge numbers give a short error with file and line."""
    path = tmp_path / "x"
    path.write_bytes(GOOD.encode() + b"\r\n" + text)
    sentence = refused(path)
    assert sentence.startswith(f"{path}, line 2: {what}")
    assert len(sentence) < len(str(path)) + 250
    assert sentence.isprintable()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_overlong_line_is_rejected(tmp_path: Path, packed: bool) -> None:
    """100 MB without a line break are read only up to the limit, also from a gzip bomb."""
    path = tmp_path / ("x.gz" if packed else "x")
    with gzip.open(path, "wb", compresslevel=1) if packed else path.open("wb") as file:
        file.write(GOOD.encode() + b"\n")
        for _ in range(100):
            file.write(b" " * 10**6)
    assert refused(path) == f"{path}, line 2: the line is longer than 64 MiB, {EXPECTED_RECORD}"


def test_line_longer_than_a_chunk_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line may span several chunks."""
    monkeypatch.setattr(jsonlines, "CHUNK_BYTES", 2**10)
    long = json.dumps({"in0": [1] * 5000, "in1": [2], "label": 1})
    assert len(read_channel("train", write(tmp_path / "x", GOOD, long, GOOD, long), CLASSES)) == 4


def test_long_text_is_shortened(tmp_path: Path) -> None:
    """An error quotes at most 40 characters of a value."""
    path = write(tmp_path / "x", f'{{"in0": "{"x" * 100}", "in1": [2], "label": 1}}')
    assert refused(path) == f'{path}, line 1: in0 is the string "{"x" * 39}…, wanted a list of integer token ids'


def test_truncated_tokens_are_not_checked(tmp_path: Path) -> None:
    """An id beyond max_seq_len may be any integer."""
    path = write(tmp_path / "x", '{"in0": [1, 2, 3, 4, 5, 6, 99], "in1": [1], "label": 1}')
    assert rows(read_channel("train", path, CLASSES)) == [([1, 2, 3, 4, 5, 6], [1], 1.0)]


EMPTY = {
    "nothing": b"",
    "blank lines": b"\n \n\r\n\t",
    "a byte order mark": b"\xef\xbb\xbf",
    "a blank line and a byte order mark": b"\xef\xbb\xbf\n",
    "gzip of nothing": gzip.compress(b""),
    "gzip of blank lines": gzip.compress(b"\n\n"),
}


@pytest.mark.parametrize("text", EMPTY.values(), ids=list(EMPTY))
@pytest.mark.parametrize("name", ["x.jsonl", "part-00001", "x.jsonl.gz"])
def test_files_without_records_are_skipped(
    tmp_path: Path, name: str, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning counts the empty files and names the first."""
    write(tmp_path / "a.jsonl", GOOD)
    write(tmp_path / "z.jsonl", GOOD)
    (tmp_path / name).write_bytes(text)
    (tmp_path / "y.jsonl").write_bytes(text)
    assert len(read_channel("validation", tmp_path, CLASSES)) == 2
    which = f"2 of 4 files, the first is {tmp_path / name}"
    assert caplog.messages == [f"channel validation: files without records are skipped: {which}"]


@pytest.mark.parametrize("text", EMPTY.values(), ids=list(EMPTY))
def test_channel_without_records_is_rejected(tmp_path: Path, text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """All files are empty, or the only one."""
    for name in ("part-0.gz", "part-1"):
        (tmp_path / name).write_bytes(text)
    for path, count in ((tmp_path, 2), (tmp_path / "part-1", 1)):
        sentence = f"channel train: not able to find any data/records in {count} file(s) under {path}"
        assert refused(path) == sentence
    assert caplog.messages == []
    assert len(read_channel("train", tmp_path, CLASSES, empty=True)) == 0  # a host's share of a sharded channel


def test_channel_without_files_is_rejected(tmp_path: Path) -> None:
    """The error names the channel."""
    write(tmp_path / "_SUCCESS", GOOD)
    sentence = f"channel train: not able to find any data/records in 0 file(s) under {tmp_path}"
    assert refused(tmp_path) == sentence


def test_missing_channel_path_is_named(tmp_path: Path) -> None:
    """The error has the system's words."""
    assert refused(tmp_path / "none") == f"channel train: {tmp_path}/none: No such file or directory"


def test_broken_link_in_a_channel_is_named(tmp_path: Path) -> None:
    """A broken link is a missing file."""
    (tmp_path / "x").symlink_to(tmp_path / "gone")
    assert refused(tmp_path) == f"{tmp_path}/x: cannot be read past line 0 (No such file or directory)"


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"", b"\n\n"], ids=["LF", "CRLF", "none", "blank line"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
def test_concatenated_files_are_read(tmp_path: Path, start: bytes, end: bytes, packed: bool) -> None:
    """Pipe mode concatenates files. Each may have a byte order mark, and no final line break."""
    texts = [f'{{"in0": [{n}], "in1": [2], "label": 1}}'.encode() for n in range(4)]
    parts = [start + texts[2 * n] + b"\r\n" + texts[2 * n + 1] + end for n in range(2)]
    path = tmp_path / "x"
    path.write_bytes(b"".join(gzip.compress(part) if packed else part for part in parts))
    assert [in0 for in0, _, _ in rows(read_channel("train", path, CLASSES))] == [[0], [1], [2], [3]]


def test_line_number_is_correct_after_concatenated_records(tmp_path: Path) -> None:
    """An earlier line has two records."""
    path = write(tmp_path / "x", GOOD + "\ufeff" + GOOD, GOOD, '{"in0": [9], "in1": [2], "label": 1}')
    assert refused(path).startswith(f'{path}, line 3: Inconsistent vocab for in0 found. Vocab id "9"')


def test_braces_in_text_do_not_split_a_line(tmp_path: Path) -> None:
    """A line of valid JSON is one record."""
    path = write(tmp_path / "x", '{"in0": [1], "in1": [2], "label": 1, "text": "{a}{b}"}')
    assert rows(read_channel("train", path, CLASSES)) == [([1], [2], 1.0)]


@pytest.mark.parametrize(
    "ids", ["[1.0, 2.0]", "[1, 2.0]", "[1.0, 2]", "[1e0, 20E-1]", "[1.000, 2.0]", "[1.0, 2.0, -0.0]"]
)
@pytest.mark.parametrize("more", ["", ', "x": true'], ids=["plain", "with more"])
def test_whole_floats_are_ids(tmp_path: Path, ids: str, more: str) -> None:
    """1.0 is the id 1: pandas writes integers as floats in columns with missing values."""
    path = write(tmp_path / "x", GOOD, f'{{"in0": {ids}, "in1": {ids}, "label": 1.0{more}}}', GOOD)
    wanted = [1, 2, 0][: 3 if "-0" in ids else 2]
    assert rows(read_channel("train", path, CLASSES))[1] == (wanted, wanted, 1.0)


def test_truncated_gzip_is_rejected(tmp_path: Path) -> None:
    """A truncated gzip file is an error also if it has many complete lines."""
    random.seed(1)
    lines = [json.dumps({"in0": random.choices(range(9), k=6), "in1": [1], "label": 1}) for _ in range(5000)]
    packed = gzip.compress("\n".join(lines).encode())
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(packed[: len(packed) // 2])
    assert refused(path).startswith(f"{path}: cannot be read past line ")
    assert "Compressed file ended before the end-of-stream marker was reached" in refused(path)


@pytest.mark.parametrize("damage", ["bytes in the middle", "check sum"])
def test_damaged_gzip_is_rejected(tmp_path: Path, damage: str) -> None:
    """Changed bytes, or a wrong checksum."""
    packed = bytearray(gzip.compress("\n".join([GOOD] * 50).encode()))
    if damage == "check sum":
        packed[-6] ^= 0xFF
    else:
        packed[20:30] = b"\xff" * 10
    path = tmp_path / "x.gz"
    path.write_bytes(packed)
    assert refused(path).startswith(f"{path}: cannot be read past line ")
