"""Answer a file with a model as a server answers a request; torch is imported after the first checks."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from object2vec.archive import extracted
from object2vec.artifact import check_model
from object2vec.data.files import local_path, open_text
from object2vec.data.media_types import JSON, JSON_LINES, canonical
from object2vec.errors import UserError
from object2vec.serving import codec
from object2vec.serving.headers import NPY, to_content, to_reply_type, unsupported
from object2vec.serving.instances import count_warnings, read_sides

if TYPE_CHECKING:
    from object2vec.serving.headers import Content, Mode
    from object2vec.serving.predictor import Predictor

#: JSON Lines input is read in chunks of so many lines.
CHUNK_LINES: Final = 8192


def predict(
    model: Path, source: str, target: str, *, content_type: str, accept: str | None, mode: Mode
) -> Counter[str]:
    """Write the predictions for the input `source` to `target`, and count the warnings of the input.

    `-` is standard input or output.

    Raises:
        UserError: a type is not supported, or the model, the input or the output cannot be used.
    """
    content = to_content(content_type)
    if not content.type:
        raise unsupported(content.name)
    kind = canonical(to_reply_type(accept, content.type))
    warned: Counter[str] = Counter()
    with extracted(model) as directory, _writing(target) as output, _reading(source) as text:
        chunks = _chunks(text, whole=not content.type == kind == JSON_LINES)
        head = next(chunks, b"")
        _check_before_loading(directory, head, content, kind, mode)

        from object2vec.serving.predictor import Predictor  # takes seconds to import

        predictor = Predictor.load(directory, mode=mode)
        for reply in _replies(predictor, chain([head], chunks), content, kind, warned):
            with os_errors_as_user_errors(f"--output {target}"):
                output.write(reply)
    return warned


def _chunks(source: IO[bytes], *, whole: bool) -> Iterator[bytes]:
    """Read the input in chunks of lines, or `whole`."""
    if whole:
        yield source.read()
    else:
        while lines := list(islice(source, CHUNK_LINES)):
            yield b"".join(lines)


def _check_before_loading(model: Path, head: bytes, content: Content, kind: str, mode: str) -> None:
    """Check that the model is complete and accepts the first instance, before torch is imported.

    Raises:
        UserError: the model is incomplete, or the instance is not valid.
    """
    hyperparameters = check_model(model)
    instances = codec.decode_first(head, content)
    if instances is None:
        return
    if kind == NPY:
        codec.check_one_array(instances, scored=mode != "embedding")
    read_sides(instances, hyperparameters.encoders, content.max_seq_lens)


def _replies(
    predictor: Predictor, chunks: Iterable[bytes], content: Content, kind: str, warned: Counter[str]
) -> Iterator[bytes]:
    """Yield the output in pieces, and count the warnings of the input in `warned`."""
    first = 1
    for chunk in chunks:
        instances = codec.decode(chunk, content, first)
        if kind == NPY:
            codec.check_one_array(instances, scored=predictor.mode != "embedding")
        query = predictor.prepare(instances, max_seq_lens=content.max_seq_lens)
        warned.update(count_warnings(query.warnings))
        answers = query.answers()
        yield from codec.encode(answers, kind, query.count)
        if kind == JSON or (kind == JSON_LINES and query.count):
            yield b"\n"
        first += chunk.count(b"\n")


@contextmanager
def _reading(name: str) -> Iterator[IO[bytes]]:
    if name == "-" and not sys.stdin:
        raise UserError("--input -: standard input is closed")
    with os_errors_as_user_errors(f"--input {name}"):
        file: Any = sys.stdin.buffer if name == "-" else local_path(name).open("rb")
    with open_text(file, f"--input {name}") as text:
        try:
            yield text
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"--input {name}: damaged gzip data ({error})") from error


@contextmanager
def _writing(name: str) -> Iterator[IO[bytes]]:
    """Open standard output, a device or a pipe; or a file that replaces the named one when it is complete."""
    argument = f"--output {name}"
    if name == "-":
        if not sys.stdout:
            raise UserError(f"{argument}: standard output is closed")
        yield sys.stdout.buffer
        with os_errors_as_user_errors(argument):
            sys.stdout.buffer.flush()
        return
    path = local_path(name, output=True)
    special = path.exists() and not path.is_file() and not path.is_dir()  # a device or a pipe must not become a file
    path = path if special else path.resolve()  # a link stays
    written = path if special else path.with_name(f".{path.name}.part")
    with os_errors_as_user_errors(argument):
        file = written.open("wb")
    try:
        yield file
        with os_errors_as_user_errors(argument):
            file.close()
            if not special:
                written.replace(path)
    finally:
        with suppress(OSError):  # which an error before this one has caused
            file.close()
        if not special:
            written.unlink(missing_ok=True)


@contextmanager
def os_errors_as_user_errors(argument: str) -> Iterator[None]:
    """Raise a UserError that names an argument of the command for each OSError within."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"{argument}: {error.strerror}") from error
