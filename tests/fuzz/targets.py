"""Fuzz targets: each reads bytes as a file or a request, and accepts only a correct value or a `UserError`.

A second reader decides what is correct: the standard library, and for lines also the Python form of the kernel.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from object2vec.data import records
from object2vec.data.jsonlines import read_channel
from object2vec.data.media_types import CSV, JSON_LINES
from object2vec.data.records import Chunk, RecordReader
from object2vec.data.vocabulary import read_vocabulary
from object2vec.errors import UserError
from object2vec.hyperparameters import SCHEMA_FILES, parse
from object2vec.model.pretrained import load_pretrained
from object2vec.ops import jsonl as jsonl_ops
from object2vec.schema.columns import List, Text, Token
from object2vec.schema.schema import Schema, SideSchema
from object2vec.schema.vocabulary import Vocabulary
from object2vec.serving import codec
from object2vec.serving.headers import Content, to_content, to_options
from object2vec.serving.instances import Instances

#: CPU seconds that one input may take.
MAX_CPU_SECONDS = 1.0
SIZES = {"enc0_network": "pooled_embedding", "enc0_max_seq_len": "4", "enc0_vocab_size": "100"}
CLASSES = RecordReader(parse(SIZES).hyperparameters)
NUMBERS = RecordReader(parse(SIZES | {"output_layer": "mean_squared_error"}).hyperparameters)
SEVERAL = RecordReader(parse(SIZES | {"output_layer": "sigmoid", "num_classes": "9"}).hyperparameters)
ONE_SIDE = RecordReader(parse(SIZES | {"enc1_network": "none"}).hyperparameters)
WORDS = {"a": 0, "the": 1, "New York": 2, "é": 3, ". .": 4}

COLUMNS = (Token("id"), Token("user", buckets=9), List("genres", "|"), Text("title"))
VALUES = [{"1": 2, "é": 1}, {}, {"Drama": 3, "War": 1}, {"the": 2, "été": 1}]
SIDE = SideSchema(COLUMNS, Vocabulary.empty(COLUMNS).extended(VALUES))
FILMS = Schema((SIDE, SIDE))
#: The kernel does not read hashed values.
PLAIN_COLUMNS = COLUMNS[0], *COLUMNS[2:]
PLAIN_VALUES = VALUES[0], *VALUES[2:]
PLAIN = Schema((SideSchema(PLAIN_COLUMNS, Vocabulary.empty(PLAIN_COLUMNS).extended(PLAIN_VALUES)), SIDE))

#: Both sides, the label or the classes, and the weight of each record.
Rows = list[tuple[list[int], list[int], float | list[int], float]]
T = TypeVar("T")


def lines(data: bytes) -> None:
    """Check lines of a channel: the kernel and the Python form read the same records as the standard library."""
    for reader in (CLASSES, NUMBERS, SEVERAL, ONE_SIDE):
        chunk = Chunk(Path("x.jsonl"), 1, data)
        parts = value_or_none(lambda reader=reader, chunk=chunk: reader.read(chunk))
        plain = value_or_none(lambda reader=reader, chunk=chunk: checked(reader, chunk))
        expect((parts is None) == (plain is None), "the kernel and the plain form disagree on whether it can be read")
        if parts is None or plain is None:
            continue
        expect(rows(parts) == rows([plain]), "the kernel and the plain form read other records")
        expect(rows(parts) == list(written(data, reader)), "other records than those that are written")
        expect(sum(part.lines for part in parts) in (data.count(b"\n"), data.count(b"\n") + 1), "not all lines")


def channel(data: bytes) -> None:
    """Check a file of a channel, read in small blocks."""
    with file_of(data) as path:
        pairs = value_or_none(lambda: read_channel("train", path, CLASSES.hyperparameters))
        if pairs is not None:
            expect(all(0 <= token < 100 for side in pairs.sides for token in side.values.tolist()), "a token too large")
            expect(set(pairs.labels.tolist()) <= {0.0, 1.0}, "a label that is no class")


def requests(data: bytes) -> None:
    """Check a request as document and as lines: the kernel accepts only what the Python form reads equally.

    Without a Content-Type, the format is detected.
    """
    content = codec.identify(data, to_content(None))
    value_or_none(lambda: codec.decode(data, content))
    value_or_none(lambda: to_options(data[:200].decode("latin-1")))
    for content in (Content(), Content(type=JSON_LINES)):
        plain = value_or_none(lambda content=content: codec.decode_plain(data, content))
        other = value_or_none(lambda content=content: codec.decode_any(data, content))
        if plain is None:
            continue
        expect(other is not None, "the kernel takes what the plain form refuses")
        expect(asked(plain) == asked(other), "the kernel and the plain form read other instances")


def vocabulary(data: bytes) -> None:
    """Check a vocabulary: the object that the standard library reads, with ids in range."""
    with file_of(data) as path:
        words = value_or_none(lambda: read_vocabulary(path, 100))
        if words is not None:
            content = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
            written = {word: float(token) for word, token in json.loads(content).items()}
            expect(words == written, "other words than those that are written")
            expect(all(type(token) is int and 0 <= token < 100 for token in words.values()), "an id out of range")


def embeddings(data: bytes) -> None:
    """Check pretrained embeddings: rows of found words become finite, others do not change."""
    table = torch.full((8, 3), -7.0)
    with file_of(data) as path:
        coverage = value_or_none(lambda: load_pretrained(path, {word: [token] for word, token in WORDS.items()}, table))
        moved = (table != -7.0).any(1)
        expect(bool(table.isfinite().all()), "a number that is not finite")
        expect(not moved[len(WORDS) :].any(), "a row of no word moved")
        expect(coverage is not None or not moved.any(), "rows moved, and the file was refused")
        if coverage is not None:
            expect(int(moved.sum()) <= coverage.found <= len(WORDS), "not as many rows as words were found")


def schema(data: bytes) -> None:
    """Check the files of a schema, separated by zero bytes: a schema that is read is written and read back equally."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in zip(SCHEMA_FILES, [*data.split(b"\0"), b"", b""], strict=False):
            Path(folder, name).write_bytes(content)
        found = value_or_none(lambda: Schema.load(Path(folder)))
        if found is not None:
            found.save(Path(folder, "again"))
            again = Schema.load(Path(folder, "again"))
            expect(again.to_json() == found.to_json(), "other columns were written")
            for side, other in zip(found.sides, again.sides, strict=True):
                expect(side.vocabulary.ids == other.vocabulary.ids, "other ids were written")


def raw_values(data: bytes) -> None:
    """Check raw values: objects have the same ids together, alone and in a request, and known values are decoded."""
    for content, body in ((Content(), b'{"instances": [{"in0": %b}]}'), (Content(type=JSON_LINES), b'{"in0": %b}')):
        compare(body % data, content, FILMS)
        compare(body % data, content, PLAIN)
    try:
        objects = json.loads(data)
    except (ValueError, RecursionError):
        return
    objects = objects if isinstance(objects, list) else [objects]
    found = value_or_none(lambda: FILMS.encode("in0", objects))
    alone = [value_or_none(lambda each=each: FILMS.encode("in0", [each])) for each in objects]
    expect((found is None) == (None in alone), "objects are refused together and not alone, or not together")
    if found is not None:
        size = FILMS["in0"].vocabulary.size
        expect(all(0 <= token < size for token in found.ids.tolist()), "an id out of range")
        expect(found.ids.tolist() == [i for one in alone if one for i in one.ids.tolist()], "other ids alone")
        known = [row for row in FILMS.decode("in0", found) if None not in row.values()]
        expect(not FILMS.encode("in0", [{**row, "user": None} for row in known]).unknown.get("id"), "unknown again")


def csv(data: bytes) -> None:
    """Check CSV: the kernel accepts only what the Python form reads equally."""
    compare(data, Content(type=CSV), PLAIN)
    compare(b"genres,title,id\n" + data, Content(type=CSV), PLAIN)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (lines, channel, requests, vocabulary, embeddings, schema, raw_values, csv)
}


def compare(body: bytes, content: Content, schema: Schema) -> None:
    """Check that the kernel accepts only what the Python form reads equally."""
    plain = value_or_none(lambda: codec.decode_plain(body, content, 1, schema))
    other = value_or_none(lambda: codec.decode_any(body, content, 1, schema))
    if plain is not None:
        expect(other is not None, "the kernel takes what the plain form refuses")
        expect(asked(plain) == asked(other), "the kernel and the plain form read other instances")
        expect(plain.raw() == other.raw(), "the kernel and the plain form read other raw values")


def run(target: Callable[[bytes], None], data: bytes) -> None:
    """Run a target on an input, within the time limit."""
    started = time.process_time()
    target(data)
    taken = time.process_time() - started
    expect(taken < MAX_CPU_SECONDS, f"it took {taken:.1f} s")


def checked(reader: RecordReader, chunk: Chunk) -> jsonl_ops.Lines:
    """Return the records that the Python form reads."""
    plain = records._read_any(chunk, reader)
    reader._check(plain, chunk)
    return plain


def rows(parts: list[jsonl_ops.Lines]) -> Rows:
    found: Rows = []
    for part in parts:
        sides = [np.split(part.values[side], np.cumsum(part.lengths[side]))[:-1] for side in (0, 1)]
        weights = [1.0] * len(part.labels) if part.weights is None else part.weights.tolist()
        labels = part.labels.tolist()
        if part.classes:
            labels = [own.tolist() for own in np.split(part.classes[0], np.cumsum(part.classes[1]))[:-1]]
        columns = zip(*sides, labels, weights, strict=True)
        found += [(a.tolist(), b.tolist(), label, weight) for a, b, label, weight in columns]
    return found


def asked(instances: Instances) -> list[object]:
    """Whose each sequence of a side is, and what, by name."""
    return [
        [(instances.name(int(row)), tokens.tolist()) for row, tokens in zip(column.rows, sequences, strict=True)]
        for column in instances.columns
        for sequences in [np.split(column.sequences.values, column.sequences.offsets[1:-1]) if len(column) else []]
    ]


def written(data: bytes, reader: RecordReader) -> Iterator[tuple[list[int], list[int], float | list[int], float]]:
    """Yield the records that the standard library reads; a line may have several, with byte order marks."""
    for line in data.split(b"\n"):
        text = line.decode().lstrip("\ufeff").strip().rstrip("\ufeff").strip()
        while text:
            record, end = json.JSONDecoder().raw_decode(text)
            text = text[end:].lstrip("\ufeff").strip()
            left, right = (record.get(name) or [] for name in ("in0", "in1"))
            label = record["label"]
            if reader is SEVERAL:
                label = list(dict.fromkeys(label)) if isinstance(label, list) else [label]
            else:
                label = float(label)
            yield left[: reader.max_len[0]], right[: reader.max_len[1]], label, float(record.get("weight", 1))


def value_or_none(read: Callable[[], T]) -> T | None:
    """Return a value, or None for a `UserError`."""
    try:
        return read()
    except UserError as error:
        sentence = str(error)
        expect(0 < len(sentence) < 1024, f"a sentence of {len(sentence)} characters")
        sentence.encode()
        expect(sentence.isprintable(), f"a sentence with what cannot be printed: {sentence!r}")
        return None


@contextmanager
def file_of(data: bytes) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(suffix=".gz" if data[:2] == b"\x1f\x8b" else ".txt") as file:
        file.write(data)
        file.flush()
        yield Path(file.name)


def expect(holds: bool, what: str) -> None:
    """Assert, also under `python -O`."""
    if not holds:
        raise AssertionError(what)
