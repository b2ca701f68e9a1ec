"""The verb `mine`: its arguments, and the calls that it makes."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from object2vec.errors import UserError
from object2vec.prepare.command import progress

if TYPE_CHECKING:
    from object2vec.schema.schema import Schema

logger = logging.getLogger(__name__)

TRAIN: Final = "train"
#: Smallest and largest value of arguments that are numbers.
RANGES: Final = {"skip": (0, 65_535), "seed": (0, 2**31 - 1)}


def add_arguments(parser: argparse.ArgumentParser, **types: Callable[[str], Any]) -> None:
    """Add the arguments of the verb; `types` are those of paths."""
    text = "folder that `prepare` wrote; its pairs have the labels 0 and 1"
    parser.add_argument("--data", type=types["streamed"], required=True, metavar="DIR", help=text)
    text = "folder to write: the same data set with the mined pairs"
    parser.add_argument("--out", type=types["output"], required=True, metavar="DIR", help=text)
    text = "negatives to mine for each positive pair (default: %(default)s)"
    parser.add_argument("--per-pair", type=types["count"], default=1, metavar="N", help=text)
    text = "highest ranks to leave out, because they are likely positives (default: %(default)s)"
    parser.add_argument("--skip", type=int, default=10, metavar="N", help=text)
    text = "lowest rank to mine (default: %(default)s)"
    parser.add_argument("--top", type=types["count"], default=100, metavar="N", help=text)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the draw (default: %(default)s)")


def mine(model: Any, arguments: argparse.Namespace) -> None:
    """Run the verb.

    Raises:
        UserError: the data or the model cannot be used.
        AlgorithmError: the disk is full.
    """
    from object2vec.data.files import local_path
    from object2vec.data.jsonlines import read_channel
    from object2vec.hyperparameters import parse
    from object2vec.prepare.files import PREPARED_FILES, read_prepared
    from object2vec.prepare.write import staged_dataset, write_pairs
    from object2vec.retrieval.mining import Window, mine_negatives, mixed
    from object2vec.schema.schema import Schema

    for name, (low, high) in RANGES.items():
        if not low <= getattr(arguments, name) <= high:
            raise UserError(f"--{name} is {getattr(arguments, name)}, wanted a number from {low} to {high}")
    window = Window(per_pair=arguments.per_pair, skip=arguments.skip, top=arguments.top, seed=arguments.seed)
    data = arguments.data
    if Path(arguments.out).resolve() == Path(str(data)).resolve():
        raise UserError(f"--out {arguments.out}: this is --data, wanted another folder")
    channels, values = read_prepared(data)
    if TRAIN not in channels:
        raise UserError(f"{data} has no pairs for training, wanted {PREPARED_FILES[TRAIN]}")
    if "schema" in channels and _ids(Schema.load(channels["schema"])) != _ids(model.schema):
        raise UserError(f"{arguments.model} has other token ids than {data}, wanted a model that was trained on it")
    with staged_dataset(local_path(arguments.out, output=True)) as folder:
        pairs = read_channel(TRAIN, channels[TRAIN], parse(values).hyperparameters)
        with progress("mining") as mined:
            negatives = mine_negatives(pairs, model.predictor.encode_sequences, model.network, window, mined=mined)
        write_pairs(mixed([pairs, negatives], window.seed), folder / PREPARED_FILES[TRAIN])
        for name, file in PREPARED_FILES.items():
            if name not in (TRAIN, "report") and (data / file).exists():
                _copy(data / file, folder / file)
    positives = int((pairs.labels == 1).sum())
    sys.stdout.write(f"{positives:,} positive pairs, {len(negatives):,} mined negatives\n")
    if not len(negatives):
        why = f"no in0 has an unpaired object in the ranks from {window.skip + 1} to {window.top}"
        logger.warning(f"there are no negatives: {why}; --skip and --top change the ranks")
    sys.stdout.write(f"written: {arguments.out}; next: object2vec train --data {arguments.out} --out model\n")


def _ids(schema: Schema | None) -> list[Any]:
    """Return what decides the token ids of a schema."""
    return [(side.columns, list(side.vocabulary.values)) for side in schema.sides] if schema else []


def _copy(source: Path, target: Path) -> None:
    """Copy a file, or a folder of files, which may be in S3."""
    if source.is_dir():
        target.mkdir()
        for path in source.iterdir():
            _copy(path, target / path.name)
        return
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written)
