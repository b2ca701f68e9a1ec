"""The verbs `index`, `neighbors`, `recommend`, `embed` and `mine`: their arguments, and the calls that they make.

`model` is the `Model` of the Python API.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from object2vec.errors import DataError, UserError, located, shortened
from object2vec.prepare.command import progress
from object2vec.retrieval import mining_command

if TYPE_CHECKING:
    from object2vec.data.records import Side
    from object2vec.schema.schema import Schema

DTYPES: Final = ("float32", "float16", "int8", "binary")
SIDES: Final = ("in0", "in1")
#: Lines of a file of objects that are answered at a time.
CHUNK_LINES: Final = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """A verb: `add` adds its arguments to a parser, with the types of paths; `run` is called with a model."""

    help: str
    description: str
    add: Callable[..., None]
    run: Callable[[Any, argparse.Namespace], None]


def _add_index(parser: argparse.ArgumentParser, **types: Callable[[str], Any]) -> None:
    text = "table of the objects: CSV, TSV, JSON Lines or Parquet (default: the values that the model knows)"
    parser.add_argument("--objects", type=types["streamed"], metavar="TABLE", help=text)
    text = "side of the objects (default: each side whose columns the table has)"
    parser.add_argument("--side", choices=SIDES, help=text)


def _index(model: Any, arguments: argparse.Namespace) -> None:
    with progress("encoding") as encoded:
        described = model.index(arguments.objects, arguments.side, encoded=encoded)
    for side, found in described.items():
        neighbors, recommendations = (_described(found[name]) for name in ("neighbors", "recommendations"))
        sys.stdout.write(f"{side}: {found['objects']:,} objects with {', '.join(found['columns'])}\n")
        sys.stdout.write(f"  neighbors: {neighbors}\n  recommendations: {recommendations}\n")
    side = next(reversed(described))
    sys.stdout.write(f"next: object2vec neighbors --model {arguments.model} --side {side} OBJECT\n")


def _described(description: dict[str, Any]) -> str:
    """Return how an index searches, in one line."""
    if "refused" in description:
        return f"none, {description['refused']}"
    search = description.get("search", description)
    recalls = [f"{name} {value:.3g}" for name, value in search.items() if name.startswith("recall")]
    return ", ".join([*dict.fromkeys([description["kind"], search["kind"]]), *recalls])


def _add_neighbors(parser: argparse.ArgumentParser, **types: Callable[[str], Any]) -> None:
    _add_queries(parser, "objects", "by default in1 if it has an index, else in0", types)
    text = "objects that are not to be found: a table with the columns of the side"
    parser.add_argument("--exclude", type=types["streamed"], metavar="TABLE", help=text)


def _add_recommend(parser: argparse.ArgumentParser, **types: Callable[[str], Any]) -> None:
    _add_queries(parser, "objects that recommendations are for", "by default in0", types)
    text = "pairs that were seen: a table with the columns of both sides; or objects that are not to be found"
    parser.add_argument("--exclude", type=types["streamed"], metavar="TABLE", help=text)


def _add_queries(parser: argparse.ArgumentParser, what: str, side: str, types: dict[str, Callable[[str], Any]]) -> None:
    text = f'{what}: values of the only column, or JSON such as {{"film": 31}}; a list is token ids'
    parser.add_argument("objects", nargs="*", metavar="OBJECT", help=text)
    text = "file of objects in place of OBJECT: a table, or JSON Lines"
    parser.add_argument("--input", type=types["streamed"], metavar="FILE", help=text)
    parser.add_argument("--side", choices=SIDES, help=f"side of the objects, {side}")
    parser.add_argument("-k", type=int, default=10, metavar="N", help="how many to find for each (default: 10)")
    text = "SQL condition on the columns of the found objects, such as 'year > 1990'"
    parser.add_argument("--where", metavar="CONDITION", help=text)
    text = "objects that may be found: a table with the columns of their side"
    parser.add_argument("--allowed", type=types["streamed"], metavar="TABLE", help=text)
    text = "output file: .jsonl, .csv or .parquet; - for JSON Lines (default: text for OBJECT, JSON Lines for FILE)"
    parser.add_argument("--output", type=types["output"], metavar="FILE", help=text)


def _neighbors(model: Any, arguments: argparse.Namespace) -> None:
    _answer(model, arguments, "neighbors")


def _recommend(model: Any, arguments: argparse.Namespace) -> None:
    _answer(model, arguments, "recommendations")


def _answer(model: Any, arguments: argparse.Namespace, name: str) -> None:
    from object2vec.retrieval.answers import to_text, write_answers

    if bool(arguments.objects) is (arguments.input is not None):
        raise UserError("wanted objects or --input, and not both")
    limits = {each: getattr(arguments, each) for each in ("where", "allowed", "exclude")}
    finder = model.finder(arguments.k, arguments.side, neighbors=name == "neighbors", **limits)
    if arguments.input is None:
        objects = [_parse_object(text, model.schema) for text in arguments.objects]
        found = finder.find(objects)
        if arguments.output is None:
            sys.stdout.write(to_text(found, arguments.objects))
        else:
            write_answers([found], str(arguments.output), name)
        return
    with progress("answering") as answered:
        parts = _answer_parts(finder, read_objects(arguments.input, model.schema, finder.side), answered)
        write_answers(parts, str(arguments.output or "-"), name)


def _answer_parts(finder: Any, parts: Iterable[tuple[str, Any]], answered: Callable[[int], None]) -> Iterator[Any]:
    for place, objects in parts:
        with located(place):
            found = finder.find(objects)
        yield found
        answered(len(found.queries))


def _parse_object(text: str, schema: Schema | None) -> Any:
    """Return an object of the command line: a raw value as text, or JSON."""
    import orjson

    if not text.startswith(("{", "[")):
        return [int(text)] if schema is None and text.isascii() and text.isdecimal() else text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UserError(f'{shortened(text)}: not JSON ({error}), wanted an object such as {{"film": 31}}') from error


def read_objects(path: Path, schema: Schema | None, side: Side) -> Iterator[tuple[str, Any]]:
    """Yield the objects of a file in parts, lists or columns: a table, or JSON Lines of objects.

    Each part has its place in the file for messages, which count objects from there. A line can be the object, or an
    instance as in requests: `{"in1": object}`.

    Raises:
        UserError: the file cannot be read.
    """
    import orjson

    from object2vec.data.files import READ_ERRORS, iter_files, open_file
    from object2vec.prepare.rows import count_rows
    from object2vec.prepare.source import Limits, is_table_file, open_files

    if schema and is_table_file(path):
        row = 0
        for batch in open_files([str(path)], Limits.of_machine()).batches(schema[side].names):
            yield _place(path, "row", row), batch
            row += count_rows(batch)
        return
    files = list(iter_files(path))
    if not files:
        raise DataError(f"{path}: No such file or directory, wanted a file of objects")
    columns = schema[side].names if schema else []
    for file in files:
        number = 0
        try:
            with open_file(file) as stream:
                while lines := list(islice(stream, CHUNK_LINES)):
                    place, objects = _place(file, "line", number), []
                    for line in lines:
                        number += 1
                        if line.strip():
                            value = orjson.loads(line)
                            is_instance = isinstance(value, dict) and side in value and side not in columns
                            objects.append(value[side] if is_instance else value)
                    yield place, objects
        except orjson.JSONDecodeError as error:
            raise DataError.at(file, number, f"not JSON ({error}), wanted an object") from error
        except READ_ERRORS as error:
            raise DataError(f"{file}: {getattr(error, 'strerror', None) or error}, wanted objects") from error


def _place(file: Path, unit: str, done: int) -> str:
    """Return a place in a file, after `done` lines or rows."""
    return f"{file}, from {unit} {done + 1}" if done else str(file)


def _add_embed(parser: argparse.ArgumentParser, **types: Callable[[str], Any]) -> None:
    parser.add_argument("--side", choices=SIDES, required=True, help="side of the objects")
    text = "table with the columns of the side, or a channel of pairs (default: the values that the model knows)"
    parser.add_argument("--input", type=types["streamed"], metavar="TABLE", help=text)
    text = "output file: .npy, .parquet, .jsonl, or .txt in the format of word2vec"
    parser.add_argument("--output", type=types["output"], required=True, metavar="FILE", help=text)
    text = "type of the numbers (default: %(default)s); fewer bits change neighbors, the command prints how much"
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], help=text)
    text = "write only the first N numbers of embeddings, as for a model trained with matryoshka_dims"
    parser.add_argument("--dims", type=int, metavar="N", help=text)


def _embed(model: Any, arguments: argparse.Namespace) -> None:
    from object2vec.retrieval.embeddings import SAMPLE_K, write_embeddings

    dtype, dims, whole = arguments.dtype, arguments.dims, model.hyperparameters.encoding_dim(0)
    if dims is not None and not 1 <= dims <= whole:
        raise UserError(f"--dims {dims}: wanted a number from 1 to {whole}, the length of the embeddings")
    with progress("encoding") as encoded:
        parts = _embedded(model, arguments.side, arguments.input, encoded)
        sample = write_embeddings(parts, str(arguments.output), dtype, dims)
    if dtype != DTYPES[0] or dims:
        form = f"{dtype}, {dims} of {whole} numbers" if dims else dtype
        recall = sample.recall(dtype, dims)
        sys.stdout.write(f"recall@{SAMPLE_K} of {form}: {recall:.3f}, on {sample.count:,} embeddings\n")
    sys.stdout.write(f"written: {arguments.output}\n")


def _embedded(model: Any, side: Side, path: Path | None, encoded: Callable[[int], None]) -> Iterator[Any]:
    """Yield the columns and the embeddings of objects."""
    from object2vec.retrieval.collect import collect_objects
    from object2vec.retrieval.finder import parse_queries

    if path:
        parts = read_objects(path, model.schema, side)
    else:
        found = collect_objects(None, model.schema, model.hyperparameters, side)[0]
        starts = range(0, len(found), CHUNK_LINES)
        parts = (
            ("", {name: found.table[name].slice(start, CHUNK_LINES) for name in found.key_names}) for start in starts
        )
    for place, objects in parts:
        with located(place):
            vectors = model.encode(objects, side)
            columns = parse_queries(objects, model.schema, side).columns
        yield columns, vectors
        encoded(len(vectors))


VERBS: Final = {
    "index": Verb(
        help="index objects, for neighbors and recommend",
        description="Write an index of objects and their columns into the directory of a model.",
        add=_add_index,
        run=_index,
    ),
    "neighbors": Verb(
        help="find similar objects",
        description="Find the objects of the same side whose embeddings are most similar, by cosine.",
        add=_add_neighbors,
        run=_neighbors,
    ),
    "recommend": Verb(
        help="find the best objects of the other side",
        description="Find the objects of the other side with the highest scores of the model. "
        "For a model that classifies objects, such as texts, find their most probable labels.",
        add=_add_recommend,
        run=_recommend,
    ),
    "embed": Verb(
        help="write embeddings of objects",
        description="Write the embeddings of objects to a file.",
        add=_add_embed,
        run=_embed,
    ),
    "mine": Verb(
        help="add hard negatives to a data set",
        description="Add pairs with the label 0: objects that the model ranks high, and that are not known positives.",
        add=mining_command.add_arguments,
        run=mining_command.mine,
    ),
}
