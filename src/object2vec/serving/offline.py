"""Answer a file with a model as a server answers a request; torch is imported after the first checks."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from object2vec.archive import extracted
from object2vec.artifact import check_model, read_schema
from object2vec.data.files import local_path, open_text
from object2vec.data.media_types import JSON, JSON_LINES, canonical
from object2vec.data.outputs import os_errors_as_user_errors, writing
from object2vec.errors import UserError
from object2vec.prepare.source import is_table_file
from object2vec.serving import codec
from object2vec.serving.headers import NPY, to_content, to_reply_type, unsupported
from object2vec.serving.instances import count_warnings, read_sides
from object2vec.serving.table_files import read_table

if TYPE_CHECKING:
    from object2vec.hyperparameters import Hyperparameters
    from object2vec.schema.schema import Schema
    from object2vec.serving.headers import Content, Mode
    from object2vec.serving.instances import Instances
    from object2vec.serving.predictor import Predictor

#: Lines of JSON Lines input that are read at a time.
CHUNK_LINES: Final = 8192


def predict(
    model: Path,
    source: str,
    target: str,
    *,
    content_type: str | None,
    accept: str | None,
    mode: Mode,
    skipped: str | None = None,
) -> Counter[str]:
    """Write the predictions for the input `source` to `target`, and count the warnings of the input.

    `-` is standard input or output. Without `content_type`, the suffix of the input decides: it may be a table for a
    model with a schema. Bad lines of JSON Lines are written to `skipped`, if it is given.

    Raises:
        UserError: a type is not supported, or the model, the input or the output cannot be used.
    """
    is_table = content_type is None and is_table_file(Path(source))
    content = to_content(content_type or JSON_LINES)
    if not content.type:
        raise unsupported(content.name)
    kind = canonical(to_reply_type(accept, content.reply_name))
    if skipped and (is_table or not content.type == kind == JSON_LINES):
        raise UserError(f"--skip-bad-lines {skipped}: wanted JSON Lines as input and output")
    warned: Counter[str] = Counter()
    with ExitStack() as stack:
        directory, output = stack.enter_context(extracted(model)), stack.enter_context(writing(target))
        bad = stack.enter_context(writing(skipped, "--skip-bad-lines")) if skipped else None
        hyperparameters, schema = check_model(directory), read_schema(directory)
        chunks: Iterator[bytes] = iter(())
        if not is_table:
            chunks = _chunks(stack.enter_context(_reading(source)), whole=not content.type == kind == JSON_LINES)
        if not is_table and not bad:
            chunks = _check_before_loading(hyperparameters, schema, chunks, content, kind, mode)

        from object2vec.serving.predictor import Predictor  # takes seconds to import

        predictor = Predictor.load(directory, mode=mode, schema=schema)
        if is_table:
            parts = read_table(source, schema, whole=kind != JSON_LINES)
        elif bad:
            skip = partial(_write, bad, f"--skip-bad-lines {skipped}")
            parts = _good_lines(predictor, chunks, content, skip, warned)
        else:
            parts = _decode(chunks, content, schema)
        for reply in _replies(predictor, parts, content, kind, warned):
            _write(output, f"--output {target}", reply)
    return warned


def _chunks(source: IO[bytes], *, whole: bool) -> Iterator[bytes]:
    """Read the input in chunks of lines, or `whole`."""
    if whole:
        yield source.read()
    else:
        while lines := list(islice(source, CHUNK_LINES)):
            yield b"".join(lines)


def _check_before_loading(
    hyperparameters: Hyperparameters,
    schema: Schema | None,
    chunks: Iterator[bytes],
    content: Content,
    kind: str,
    mode: str,
) -> Iterator[bytes]:
    """Check that the model accepts the first instance, before torch is imported; return all chunks.

    Raises:
        UserError: the instance is not valid.
    """
    head = next(chunks, b"")
    instances = codec.decode_first(head, content, schema)
    if instances is not None:
        if kind == NPY:
            codec.check_one_array(instances, scored=mode != "embedding")
        read_sides(instances, hyperparameters.encoders, content.max_seq_lens)
    return chain([head], chunks)


def _decode(chunks: Iterable[bytes], content: Content, schema: Schema | None) -> Iterator[Instances]:
    first = 1
    for chunk in chunks:
        yield codec.decode(chunk, content, first, schema)
        first += chunk.count(b"\n")


def _good_lines(
    predictor: Predictor,
    chunks: Iterable[bytes],
    content: Content,
    skip: Callable[[bytes], None],
    warned: Counter[str],
) -> Iterator[Instances]:
    """Yield the instances of JSON Lines; call `skip` with each line that cannot be answered, and count these lines."""

    def decode(lines: bytes) -> Instances:
        instances = codec.decode(lines, content, schema=predictor.schema)
        predictor.prepare(instances, max_seq_lens=content.max_seq_lens)
        return instances

    for chunk in chunks:
        try:
            yield decode(chunk)
        except UserError:
            good = []
            for line in chunk.splitlines(keepends=True):
                try:
                    decode(line)
                    good.append(line)
                except UserError:
                    skip(line)
                    warned["bad_lines"] += 1
            yield decode(b"".join(good))


def _replies(
    predictor: Predictor, parts: Iterable[Instances], content: Content, kind: str, warned: Counter[str]
) -> Iterator[bytes]:
    """Yield the output in pieces, and count the warnings of the input in `warned`."""
    for instances in parts:
        if kind == NPY:
            codec.check_one_array(instances, scored=predictor.mode != "embedding")
        query = predictor.prepare(instances, max_seq_lens=content.max_seq_lens)
        warned.update(count_warnings(query.warnings))
        yield from codec.encode(query.answers(), kind, query.count, instances.warnings, instances.raw())
        if kind == JSON or (kind == JSON_LINES and query.count):
            yield b"\n"


@contextmanager
def _reading(name: str) -> Iterator[IO[bytes]]:
    if name == "-" and not sys.stdin:
        raise UserError("--input -: standard input is closed")
    with os_errors_as_user_errors(f"--input {name}"):
        file: Any = sys.stdin.buffer if name == "-" else local_path(name, streamed=True).open("rb")
    with open_text(file, f"--input {name}") as text:
        try:
            yield text
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"--input {name}: damaged gzip data ({error})") from error


def _write(file: IO[bytes], argument: str, data: bytes) -> None:
    with os_errors_as_user_errors(argument):
        file.write(data)
