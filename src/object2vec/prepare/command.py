"""The verb `prepare`: its arguments, and the calls that it makes."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

from object2vec.errors import UserError, located
from object2vec.hyperparameters.recipes import RECIPES

if TYPE_CHECKING:
    from object2vec.prepare.dataset import Plan

#: Smallest and largest value of arguments that are numbers.
RANGES: Final = {"max_tokens": (1, 5000), "seed": (0, 2**31 - 1), "unknown_rate": (0, 1), "threads": (1, 1024)}
#: Seconds between two lines of progress where there is no terminal.
LINE_SECONDS: Final = 10.0
MEMORY_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
EPILOG: Final = """A column is NAME or NAME:KIND. KIND is token (one value, the default), list, list(SEPARATOR) or text.
A split is random, time:COLUMN, group:COLUMN, leave-last-out:COLUMN or none."""


def add_arguments(parser: argparse.ArgumentParser, **types: Callable[[str], Any]) -> None:
    """Add the arguments of the verb; `types` are those of a `path` and an `output`."""
    parser.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help="CSV, TSV, JSON Lines or Parquet files, folders, or patterns",
    )
    parser.add_argument("--query", metavar="SQL", help="a query over files, in place of TABLE")
    parser.add_argument("--in0", nargs="+", default=[], metavar="COLUMN", help="columns of the first side")
    parser.add_argument("--in1", nargs="+", default=[], metavar="COLUMN", help="columns of the second side, if any")
    label = parser.add_mutually_exclusive_group()
    label.add_argument(
        "--label", metavar="COLUMN", help="label: NAME, NAME:class, NAME:number or NAME:class(SEPARATOR)"
    )
    label.add_argument("--positives", action="store_true", help="all rows are pairs that belong together")
    parser.add_argument("--weight", metavar="COLUMN", help="how much each row counts in training, a number from 0")
    parser.add_argument("--out", type=types["output"], required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--split", default="random", metavar="SPLIT", help="how to split rows (default: %(default)s)")
    for name in ("validation", "test"):
        text = f"share of the rows for {name} (default: %(default)s)"
        parser.add_argument(f"--{name}-share", type=float, default=0.1, metavar="SHARE", help=text)
    parser.add_argument("--recipe", choices=RECIPES, help="recipe to write (default: by the columns and the label)")
    text = "one vocabulary for both sides (default: if both are text)"
    parser.add_argument("--tied", action=argparse.BooleanOptionalAction, help=text)
    text = "limit of the tokens of an object (default: %(default)s)"
    parser.add_argument("--max-tokens", type=int, default=512, metavar="N", help=text)
    text = "share of values in training that become unknown, so that the model learns these (default: %(default)s)"
    parser.add_argument("--unknown-rate", type=float, default=0.01, metavar="SHARE", help=text)
    parser.add_argument(
        "--extend", type=types["path"], metavar="MODEL", help="model to train further: its columns and token ids"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the order and of random splits")
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: one per CPU)")
    parser.add_argument(
        "--memory", type=_size, metavar="SIZE", help="memory to use, such as 2G (default: what is free)"
    )


def prepare(arguments: argparse.Namespace) -> None:
    """Run the verb."""
    from object2vec.prepare.dataset import Dataset
    from object2vec.prepare.report import to_text
    from object2vec.prepare.source import Limits, open_files, open_query
    from object2vec.prepare.write import write_dataset

    for name, (low, high) in RANGES.items():
        value = getattr(arguments, name)
        if value is not None and not low <= value <= high:
            raise UserError(f"--{name.replace('_', '-')} is {value}, wanted a number from {low} to {high}")
    if bool(arguments.tables) is bool(arguments.query):
        raise UserError("prepare needs tables or --query, and not both")
    plan, base = _extended(arguments) if arguments.extend else (_new_plan(arguments), None)
    limits = Limits.of_machine(arguments.threads, arguments.memory)
    source = open_query(arguments.query, limits) if arguments.query else open_files(arguments.tables, limits)
    batches = source.batches(plan.column_names)
    with (
        located(source.name),
        closing(Dataset.read(_with_progress(batches), plan, limits.threads)) as dataset,
        progress("writing", len(dataset.store)) as written,
    ):
        report = write_dataset(dataset, arguments.out, recipe=arguments.recipe or "", base=base, written=written)
    sys.stdout.write(to_text(report))
    model = f" --model {arguments.extend}" if arguments.extend else ""
    sys.stdout.write(f"written: {arguments.out}; next: object2vec train --data {arguments.out}{model} --out model\n")


def _new_plan(arguments: argparse.Namespace) -> Plan:
    """Return the plan for columns and a label that are given."""
    from object2vec.schema.columns import is_text, parse_column
    from object2vec.schema.label import parse_label

    if not arguments.in0 or not (arguments.label or arguments.positives):
        raise UserError("prepare needs --in0, and --label or --positives; or --extend with a model that has them")
    in0, in1 = (tuple(map(parse_column, columns)) for columns in (arguments.in0, arguments.in1))
    return _plan(
        arguments,
        in0=in0,
        in1=in1,
        label=parse_label(arguments.label) if arguments.label else None,
        tied=is_text(in0) and is_text(in1) if arguments.tied is None else arguments.tied,
        weight=arguments.weight,
    )


def _extended(arguments: argparse.Namespace) -> tuple[Plan, dict[str, Any]]:
    """Return the plan of a model's schema, and its hyperparameters."""
    from object2vec.archive import extracted
    from object2vec.artifact import read_config
    from object2vec.schema.schema import Schema

    own = "in0", "in1", "label", "positives", "recipe", "weight"
    if any(getattr(arguments, name) for name in own):
        raise UserError("--extend takes the columns, the label and the settings of the model, and none of its own")
    with extracted(arguments.extend) as directory:
        schema, hyperparameters = Schema.load(directory), read_config(directory)
    first, second = (side.columns for side in schema.sides)
    known = {"label": schema.label, "tied": schema.tied, "weight": schema.weight}
    plan = _plan(arguments, in0=first, in1=second, **known, extend=schema)
    return plan, hyperparameters.to_dict()


def _plan(arguments: argparse.Namespace, **values: Any) -> Plan:
    from object2vec.prepare.dataset import Plan
    from object2vec.prepare.splits import parse_split

    return Plan(
        **values,
        split=parse_split(arguments.split, arguments.validation_share, arguments.test_share),
        seed=arguments.seed,
        max_tokens=arguments.max_tokens,
        unknown_rate=arguments.unknown_rate,
    )


def _with_progress(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield batches, and show the number of rows."""
    from object2vec.prepare.rows import count_rows

    with progress("reading") as read:
        for batch in batches:
            yield batch
            read(count_rows(batch))


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts rows: it moves a bar on a terminal, and writes a line now and then elsewhere."""
    from tqdm import tqdm

    rows, next_line = 0, time.monotonic() + LINE_SECONDS

    def update(count: int) -> None:
        nonlocal rows, next_line
        bar.update(count)
        rows += count
        if bar.disable and time.monotonic() >= next_line:
            next_line = time.monotonic() + LINE_SECONDS
            sys.stderr.write(f"{what}: {rows:,}{f' of {total:,}' if total else ''} rows\n")

    with tqdm(
        unit=" rows", unit_scale=True, desc=what, total=total, disable=not sys.stderr.isatty(), leave=False
    ) as bar:
        yield update


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]+)([KMG]?)(i?B)?", text, re.IGNORECASE)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512M or 2G")
    return int(match[1]) * MEMORY_UNITS[match[2].upper()]
