"""The Python API: `fit` and `load` give a `Model`, which scores, encodes and evaluates. The command calls the same.

Shapes: N objects, P pairs, D numbers an embedding, C scores a pair.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, cast, get_args

import numpy as np

from object2vec import artifact
from object2vec.archive import extracted
from object2vec.array_types import Float32
from object2vec.atomic_files import write_atomically
from object2vec.data.channels import PAIR_CHANNELS
from object2vec.data.files import local_path
from object2vec.data.records import SIDES, Side
from object2vec.data.sequences import Pairs, Sequences
from object2vec.errors import UserError, shortened
from object2vec.evaluation.evaluation import Evaluation, RankingOptions, evaluate
from object2vec.hyperparameters import Hyperparameters, parse
from object2vec.hyperparameters.recipes import RECIPES
from object2vec.model.network import Network
from object2vec.prepare.dataset import Dataset, Plan
from object2vec.prepare.files import PREPARED_FILES, read_prepared
from object2vec.prepare.inputs import read_pairs, write_token_ids
from object2vec.prepare.source import Limits, open_files
from object2vec.prepare.splits import parse_split
from object2vec.prepare.write import write_dataset, write_pairs
from object2vec.schema.columns import Column, is_text, parse_columns
from object2vec.schema.label import parse_label
from object2vec.schema.pairs import encode_objects, to_sequences
from object2vec.schema.schema import Encoded, Schema, require_column
from object2vec.schema.tables import is_table, to_columns
from object2vec.serving.predictor import Predictor
from object2vec.storage import S3Address, S3Path, localized, parse_address
from object2vec.threads import repeatable_products
from object2vec.training.checks import Job
from object2vec.training.graceful_shutdown import Stop, stop_on_interrupt
from object2vec.training.job import run
from object2vec.training.report import Style

logger = logging.getLogger(__name__)

#: Folders of prepared data that a model is evaluated on, the first that there is, and those that it was trained on.
HELD_OUT: Final = ("test", "validation")
KNOWN: Final = ("train", "validation")

Callback = Callable[[Mapping[str, Any]], object]
Columns = str | Column | Sequence[str | Column]


class Model:
    """A trained model.

    An object is a list of token ids, or a raw value if the model has a schema: a mapping from columns to values, or
    the value alone if its side has one column. Many objects are best given as a table with the schema's columns.
    """

    def __init__(self, predictor: Predictor, history: Sequence[Mapping[str, Any]] = ()) -> None:
        self.predictor = predictor
        #: The metrics of each epoch by channel: {"epoch": 0, "train": {...}, "validation": {...}}.
        self.history = list(history)
        self._is_temporary = False

    @classmethod
    def load(cls, path: str | Path, *, device: str | None = None) -> Model:
        """Load a model directory, a folder that contains one, or a .tar.gz of one; it may be in S3."""
        with ExitStack() as stack:
            local = stack.enter_context(_local(path))
            return cls._open(local, device, stack if isinstance(_address(path), S3Address) else None)

    @classmethod
    def _open(cls, path: Path, device: str | None = None, temporary: ExitStack | None = None) -> Model:
        """Open a model. If its files are `temporary`, they are removed after its last use."""
        predictor = Predictor.load(path, device=device)
        with extracted(predictor.directory) as found:
            model = cls(predictor, artifact.read_training(found).get("history", ()))
        if temporary:
            model._is_temporary = True
            weakref.finalize(predictor, temporary.pop_all().close)
        return model

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path of the model, or its files if they are temporary."""
        if not self._is_temporary:
            return Model, (self.predictor, self.history)
        with self._files() as files:
            return _from_files, ({path.name: path.read_bytes() for path in files},)

    @property
    def hyperparameters(self) -> Hyperparameters:
        return self.predictor.hyperparameters

    @property
    def schema(self) -> Schema | None:
        return self.predictor.schema

    @property
    def network(self) -> Network:
        return self.predictor.network

    def encode(self, objects: Any, side: Side) -> Float32:
        """Return the embeddings (N, D) of objects of a side: a list of objects, or a table.

        Raises:
            RequestError: an argument cannot be used, or the model does not know a token id.
            RawValueError: a value is not of its column's kind.
        """
        if self.schema is None:
            return self.predictor.encode(objects, side)
        if is_table(objects) and side in SIDES:
            return self.predictor.encode_sequences(self._sequences(side, to_columns(objects)), side)
        lists, encoded = encode_objects(self.schema, side, objects) if side in SIDES else (objects, None)
        _warn_of_unknown(side, encoded)
        return self.predictor.encode(lists, side)

    def score(self, pairs: Any) -> Float32:
        """Return the scores (P, C) of pairs: a probability for each class in their order, or one number.

        `pairs` is a list of pairs of objects, or a table. Without a schema it can be an array of token ids (P, 2).

        Raises:
            RequestError: an argument cannot be used, or the model does not know a token id.
            RawValueError: a value is not of its column's kind.
        """
        if self.schema is None:
            return self.predictor.score(pairs)
        if isinstance(pairs, np.ndarray):
            raise UserError("pairs is an array, wanted a table with the columns of the schema, or pairs of objects")
        if is_table(pairs):
            columns = to_columns(pairs)
            return self._score_sequences(*(self._sequences(side, columns) for side in SIDES))
        pairs = _checked_pairs(pairs)
        lists = []
        for number, side in enumerate(SIDES):
            found, encoded = encode_objects(self.schema, side, [pair[number] for pair in pairs])
            _warn_of_unknown(side, encoded)
            lists.append(found)
        return self.predictor.score(list(zip(*lists, strict=True)))

    def evaluate(
        self,
        data: Any,
        train: Any = None,
        *,
        relevant: float | None = None,
        candidates: int | None = None,
        seed: int = 0,
    ) -> Evaluation:
        """Return the metrics on held-out pairs, and on `train` pairs the baselines'.

        Both are a table with the columns of the schema, its path, or a channel. For a folder that `prepare` wrote,
        `data` is its test or validation channel, and `train` the channels that the model knows.

        Args:
            data: pairs to evaluate.
            train: pairs that the model was trained on.
            relevant: rank `in1` for each `in0`; pairs with at least this label are to be found.
            candidates: how many candidates to sample for each `in0`; None for all.
            seed: seed of the order of ties and of sampled candidates.
        """
        held_out, known = _channels_of(data, train)
        read = partial(read_pairs, hyperparameters=self.hyperparameters, schema=self.schema)
        names = self.schema.label.classes if self.schema and self.schema.label else ()
        return evaluate(
            self.predictor.pair_scorer,
            read(held_out),
            Pairs.concatenate([read(part) for part in known]) if known else None,
            classes=None if self.hyperparameters.regression else self.hyperparameters.num_classes,
            ranking=RankingOptions(relevant=relevant, candidates=candidates, seed=seed),
            class_names=names if len(names) == self.hyperparameters.num_classes else (),
        )

    def save(self, directory: str | Path) -> None:
        """Copy the model to a directory or to S3. Existing files are replaced when all are complete."""
        with _local(directory, output=True) as target, self._files() as files:
            artifact.check_writable(target)
            write_atomically(target, {path.name: partial(shutil.copyfile, path) for path in files})

    @contextmanager
    def _files(self) -> Iterator[list[Path]]:
        """Yield the paths of the model's files."""
        with extracted(self.predictor.directory) as found:
            yield [path for path in sorted(found.iterdir()) if path.is_file()]

    def _sequences(self, side: Side, columns: Mapping[str, Any]) -> Sequences:
        encoded = cast(Schema, self.schema).encode_columns(side, columns)
        _warn_of_unknown(side, encoded)
        return to_sequences(encoded)

    def _score_sequences(self, left: Sequences, right: Sequences) -> Float32:
        (first0, inverse0), (first1, inverse1) = left.unique(), right.unique()
        scores = self.predictor.pair_scorer((left.take(first0), right.take(first1)))
        return scores(inverse0.astype(np.int64), inverse1.astype(np.int64))


def fit(
    data: Any,
    in0: Columns | None = None,
    in1: Columns = (),
    label: str | None = None,
    *,
    recipe: str = "",
    split: str | None = None,
    tied: bool | None = None,
    validation: Any = None,
    test: Any = None,
    callbacks: Sequence[Callback] = (),
    model_dir: str | Path | None = None,
    log: Style | None = None,
    seed: int = 0,
    **hyperparameters: object,
) -> Model:
    """Train a model on a table, and return it.

    The same data, hyperparameters and seed give the model of the commands `prepare` and `train`. Ctrl-C keeps the best
    epoch. Without `in0`, the columns in0, in1 and label hold token ids, or `data` is the path of a channel.

    Args:
        data: a DataFrame, Arrow table, duckdb relation, mapping of columns, rows as dicts, or the path of a table.
        in0: the columns of the first side: names, written as `genres:list(|)`, or `Token`, `List` and `Text`.
        in1: the columns of the second side.
        label: the column of the label; without one, all pairs are positives.
        recipe: defaults for a kind of data; by default the columns and the label decide.
        split: which rows are for validation and testing, as for `prepare`: `random` if neither is given.
        tied: one vocabulary for both sides; by default if both are one text.
        validation: pairs that decide which epoch is best.
        test: pairs that the best model is measured on.
        callbacks: called with the metrics of each epoch; one that returns a true value ends training.
        model_dir: folder for the model, which may be in S3; by default it is temporary until `Model.save`.
        log: `bar`, `plain`, `quiet` or `sagemaker`.
        seed: seed of the split and of training.
        hyperparameters: by their names.

    Raises:
        UserError: an argument, the data or a hyperparameter cannot be used.
        AlgorithmError: training failed.
    """
    _check_choices(recipe, log)
    given = {"seed": seed} | ({"recipe": recipe} if recipe else {}) | hyperparameters
    parts = {name: part for name, part in zip(PAIR_CHANNELS, (data, validation, test), strict=True) if part is not None}
    with tempfile.TemporaryDirectory(prefix="object2vec-") as folder:
        split = split or ("random" if len(parts) == 1 else "none")
        plan = None if in0 is None else _plan(in0, in1, label, split, tied, seed)
        channels, suggested = _write_channels(Path(folder), parts, plan, recipe)
        return _train(channels, suggested | given, model_dir=model_dir, callbacks=callbacks, log=log)


def _check_choices(recipe: str, log: str | None) -> None:
    for name, value, choices in (("recipe", recipe, ("", *RECIPES)), ("log", log, (None, *get_args(Style)))):
        if value not in choices:
            wanted = ", ".join(map(str, filter(None, choices)))
            raise UserError(f"{name} is {shortened(repr(value))}, wanted one of {wanted}")


def _plan(in0: Columns, in1: Columns, label: str | None, split: str, tied: bool | None, seed: int) -> Plan:
    first, second = parse_columns(in0), parse_columns(in1)
    return Plan(
        in0=first,
        in1=second,
        label=parse_label(label) if label else None,
        tied=is_text(first) and is_text(second) if tied is None else tied,
        split=parse_split(split),
        seed=seed,
    )


def _write_channels(
    folder: Path, parts: Mapping[str, Any], plan: Plan | None, recipe: str
) -> tuple[dict[str, Path], dict[str, object]]:
    """Return channels of the data, and hyperparameters that fit; without a plan, the data holds token ids."""
    if plan is None:
        return {name: _to_channel(name, part, folder) for name, part in parts.items()}, {}
    limits = Limits.of_machine()
    with closing(Dataset.read(_batches(parts["train"], plan, limits), plan, limits.threads)) as dataset:
        write_dataset(dataset, folder, recipe=recipe)
        channels, suggested = read_prepared(folder)
        for name in parts.keys() - {"train"}:
            pairs = read_pairs(parts[name], parse(suggested).hyperparameters, dataset.schema)
            channels[name] = write_pairs(pairs, folder / PREPARED_FILES[name])
    return channels, suggested


def _batches(data: Any, plan: Plan, limits: Limits) -> Iterable[Any]:
    """Return the rows of a table as batches with the columns of the plan."""
    if isinstance(data, str | Path):
        return open_files([str(data)], limits).batches(plan.column_names)
    columns = to_columns(data)
    return [{name: require_column(columns, name) for name in plan.column_names}]


def _to_channel(name: str, data: Any, folder: Path) -> Path:
    return (
        local_path(data, streamed=True)
        if isinstance(data, str | Path)
        else write_token_ids(to_columns(data), folder, name)
    )


def load(path: str | Path, *, device: str | None = None) -> Model:
    """Load a model: its directory, a folder that contains it, or a .tar.gz of it. It may be in S3.

    Raises:
        UserError: `path` is not a path, or nothing is there.
        ArtifactError: there is no model, a damaged one, or one of a newer format.
    """
    return Model.load(path, device=device)


def _train(
    channels: Mapping[str, Path],
    hyperparameters: Mapping[str, object],
    *,
    model_dir: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    log: Style | None = None,
) -> Model:
    """Train as the command does, and load the model. Without `model_dir`, its temporary folder lives as long as it."""
    stop = Stop()

    def on_epoch(record: Mapping[str, Any]) -> None:
        for callback in callbacks:
            if callback(record):
                stop.request()

    with ExitStack() as temporary:
        folder = temporary.enter_context(tempfile.TemporaryDirectory(prefix="object2vec-"))
        with _local(folder if model_dir is None else model_dir, output=True) as local:
            job = Job(configuration=parse(hyperparameters), channels=channels, model_dir=local, on_epoch=on_epoch)
            with repeatable_products(), stop_on_interrupt(stop):
                run(job, stop=stop, style=log or ("bar" if sys.stderr.isatty() else "plain"))
        return Model._open(local, temporary=temporary) if model_dir is None else Model.load(model_dir)


def _from_files(files: Mapping[str, bytes]) -> Model:
    with ExitStack() as temporary:
        folder = Path(temporary.enter_context(tempfile.TemporaryDirectory(prefix="object2vec-")))
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return Model._open(folder, temporary=temporary)


@contextmanager
def _local(path: str | Path, *, output: bool = False) -> Iterator[Path]:
    """Yield a path on this machine. An input in S3 is copied before, an output to S3 after it is written."""
    with localized({"path": _address(path, output=output)}) as paths:
        yield paths["path"]


def _address(path: str | Path, *, output: bool = False) -> Path | S3Address:
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise UserError(f"the path is {shortened(repr(path))}, wanted the path of a model")
    path = local_path(path, output=output, streamed=True)
    address = parse_address(str(path), output=output) if isinstance(path, S3Path) else None
    return address or path


def _warn_of_unknown(side: Side, encoded: Encoded | None) -> None:
    for name, rows in (encoded.unknown if encoded else {}).items():
        logger.warning(f"{int(rows.sum()):,} of {len(rows):,} {side} have an unknown {name}")


def _checked_pairs(pairs: Any) -> list[Sequence[Any]]:
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Iterable):
        raise UserError(f"pairs is {shortened(repr(pairs))}, wanted a table, or a list of pairs of objects")
    checked = list(pairs)
    for number, pair in enumerate(checked):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UserError(f"pairs[{number}] is {shortened(repr(pair))}, wanted a pair of objects: in0 and in1")
    return checked


def _channels_of(data: Any, train: Any) -> tuple[Any, list[Any]]:
    """Return the pairs to evaluate and the known ones; find both in a folder that `prepare` wrote."""
    known = [] if train is None else [train]
    if not isinstance(data, str | os.PathLike) or not (folder := local_path(str(data), streamed=True)).is_dir():
        return data, known
    files = [(name, folder / file) for name in PAIR_CHANNELS for file in (name, PREPARED_FILES[name])]
    parts = {name: path for name, path in files if path.exists()}
    held_out = next((parts[name] for name in HELD_OUT if name in parts), None)
    if held_out is None:
        return data, known
    return held_out, known or [parts[name] for name in KNOWN if name in parts and parts[name] != held_out]
