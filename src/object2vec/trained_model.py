"""A trained model in Python: it scores, encodes, evaluates and recommends.

Shapes: N objects, P pairs, D numbers an embedding, C scores a pair.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from object2vec import artifact
from object2vec.archive import extracted, find_model
from object2vec.array_types import Float32
from object2vec.atomic_files import write_atomically
from object2vec.data.channels import PAIR_CHANNELS
from object2vec.data.files import local_path
from object2vec.data.records import SIDES, Side
from object2vec.data.sequences import Pairs, Sequences
from object2vec.errors import UserError, shortened
from object2vec.evaluation.evaluation import Evaluation, RankingOptions, evaluate
from object2vec.hyperparameters import INDEX_FILES, Hyperparameters
from object2vec.model.network import Network
from object2vec.prepare.files import PREPARED_FILES
from object2vec.prepare.inputs import read_pairs
from object2vec.retrieval.collect import collect_objects
from object2vec.retrieval.filters import Filter
from object2vec.retrieval.finder import Finder, is_single
from object2vec.retrieval.label_finder import LabelFinder, check_labels_wanted
from object2vec.retrieval.label_probabilities import LabelProbabilities
from object2vec.retrieval.object_index import ObjectIndex, indexed_sides
from object2vec.schema.label import Label
from object2vec.schema.pairs import encode_objects, to_sequences
from object2vec.schema.schema import Encoded, Schema
from object2vec.schema.tables import is_table, like_table, to_columns
from object2vec.serving.predictor import Predictor
from object2vec.storage import S3Address, S3Path, localized, parse_address

if TYPE_CHECKING:
    from object2vec.explore.export import MapPage

logger = logging.getLogger(__name__)

#: Folders of prepared data that a model is evaluated on, the first that there is, and those that it was trained on.
HELD_OUT: Final = ("test", "validation")
KNOWN: Final = ("train", "validation")


class Model:
    """A trained model.

    An object is a list of token ids, or a raw value if the model has a schema: a mapping from columns to values, or
    the value alone if its side has one column. So with a schema, [5, 8] is two objects and [[5, 8]] is one.
    Many objects are best given as a table with the schema's columns.
    """

    def __init__(self, predictor: Predictor, history: Sequence[Mapping[str, Any]] = ()) -> None:
        self.predictor = predictor
        #: The metrics of each epoch by channel: {"epoch": 0, "train": {...}, "validation": {...}}.
        self.history = list(history)
        self._is_temporary = False
        self._indexes: dict[Side, ObjectIndex] = {}

    @classmethod
    def load(cls, path: str | Path, *, device: str | None = None) -> Model:
        """Load a model directory, a folder that contains one, or a .tar.gz of one; it may be in S3."""
        with ExitStack() as stack:
            local = stack.enter_context(local_copy(path))
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
        return self._encode(objects, side)[0]

    def _encode(self, objects: Any, side: Side) -> tuple[Float32, Sequences | None]:
        """Return the embeddings of objects, and their token ids if the model has a schema."""
        if self.schema is None:
            return self.predictor.encode(objects, side), None
        if is_table(objects) and side in SIDES:
            sequences = self._sequences(side, to_columns(objects))
            return self.predictor.encode_sequences(sequences, side), sequences
        lists, encoded = encode_objects(self.schema, side, objects) if side in SIDES else (objects, None)
        _warn_of_unknown(side, encoded)
        return self.predictor.encode(lists, side), Sequences.from_lists(lists)

    def _encode_queries(self, objects: Any, side: Side, *, neighbors: bool) -> Float32:
        """Return the embeddings of objects, and warn of those that the model knows nothing of."""
        embeddings, sequences = self._encode(objects, side)
        known = self.schema[side].knows(sequences) if self.schema and sequences else np.ones(0, np.bool_)
        if unknown := len(known) - np.count_nonzero(known):
            what = "neighbors are arbitrary" if neighbors else "recommendations are those of an unknown object"
            logger.warning(f"{unknown:,} of {len(known):,} {side} have no value that the model knows: their {what}")
        return embeddings

    def score(self, pairs: Any) -> Float32:
        """Return the scores (P, C) of pairs: a probability for each class in their order, or one number.

        `pairs` is a list of pairs of objects, or a table. Without a schema it can be an array of token ids (P, 2). For
        a model without in1, it is a list of objects of in0, or a table.

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
        if self.hyperparameters.one_sided:
            found, encoded = encode_objects(self.schema, "in0", _first_of_pairs(pairs))
            _warn_of_unknown("in0", encoded)
            return self.predictor.score(found)
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
        known_objects = self.schema["in1"].knows if self.schema else None
        return evaluate(
            self.predictor.pair_scorer,
            read(held_out),
            Pairs.concatenate([read(part) for part in known]) if known else None,
            classes=None if self.hyperparameters.regression else self.hyperparameters.num_classes,
            ranking=RankingOptions(relevant=relevant, candidates=candidates, seed=seed, known=known_objects),
            class_names=names if len(names) == self.hyperparameters.num_classes else (),
            label_probabilities=self._labels if self._label else None,
        )

    def index(
        self, objects: Any = None, side: Side | None = None, *, encoded: Callable[[int], object] = int
    ) -> dict[Side, Mapping[str, Any]]:
        """Write an index of objects into the directory of the model, for `neighbors` and `recommend`.

        Args:
            objects: a table or its path: each object once, with all columns that have one value per object. Without a
                schema, a channel or lists of token ids. By default the values that the model knows, if a side has one
                column of single values.
            side: the side of the objects; by default each side whose columns there are.
            encoded: called with each number of objects that are encoded.

        Returns:
            For each side, how it is searched.
        """
        directory = find_model(self.predictor.directory)
        if not directory.is_dir():
            raise UserError(f"{directory}: an archive, wanted the directory of a model to write an index into")
        artifact.check_writable(directory)
        described: dict[Side, Mapping[str, Any]] = {}
        for found in collect_objects(objects, self.schema, self.hyperparameters, _checked_side(side)):
            built = ObjectIndex.build(found, self.predictor.encode_sequences, self.network, encoded=encoded)
            built.write(directory)
            described[found.side] = built.description
        self._indexes.clear()
        return described

    def neighbors(
        self,
        objects: Any,
        k: int = 10,
        side: Side | None = None,
        *,
        where: str | None = None,
        allowed: Any = None,
        exclude: Any = None,
    ) -> Any:
        """Return the `k` indexed objects of the same side with the most similar embeddings, by cosine.

        For one object, the result is a list of dicts: its columns and `score`. For a list of objects it is a list of
        such lists, and for a DataFrame a DataFrame. An object is not a neighbor of itself.

        Args:
            objects: one object, a list of objects, or a table; objects that are not in the index are encoded.
            k: how many to return.
            side: the side of the objects; by default in1 if it has an index, else in0.
            where: SQL condition on the columns of the index, such as `year > 1990`.
            allowed: objects that may be returned: a list, a table or its path.
            exclude: objects that may not be returned, likewise.
        """
        finder = self.finder(k, side, neighbors=True, where=where, allowed=allowed, exclude=exclude)
        return self._found(finder, objects)

    def recommend(
        self,
        objects: Any,
        k: int = 10,
        side: Side | None = None,
        *,
        where: str | None = None,
        allowed: Any = None,
        exclude: Any = None,
    ) -> Any:
        """Return the `k` indexed objects of the other side with the highest scores of the model.

        The result is as that of `neighbors`. A model that classifies objects needs no index: the result has its labels
        with their `probability`, and whether they are `predicted`.

        Args:
            objects: one object, a list of objects, or a table.
            k: how many to return for each.
            side: the side of `objects`; by default in0.
            where: SQL condition on the columns of the index.
            allowed: objects that may be returned: a list, a table or its path.
            exclude: pairs that were seen, as a table with the columns of both sides, or its path: an object that is in
                a pair with the query is not returned for it. Or objects that are not returned at all.
        """
        finder = self.finder(k, side, neighbors=False, where=where, allowed=allowed, exclude=exclude)
        return self._found(finder, objects)

    def explore(self, side: Side | None = None, objects: Any = None) -> MapPage:
        """Return a page with the objects of a side on a map: a notebook shows it, `save` writes it to a file.

        Args:
            side: the side of the objects; by default in1 if there are such objects, else in0.
            objects: a table of them or its path; by default the model's index, else the values that it knows.
        """
        from object2vec.explore.export import MapPage, to_html
        from object2vec.explore.live_map import LiveMap
        from object2vec.explore.map_data import build_map

        live = LiveMap(build_map(self, _checked_side(side), objects), find_model(self.predictor.directory))
        live.finish(float)
        return MapPage(to_html(live.data))

    def finder(self, k: int = 10, side: Side | None = None, *, neighbors: bool, **limits: Any) -> Finder | LabelFinder:
        """Return what finds `neighbors` or recommendations, see there, for many batches of objects."""
        side = _checked_side(side)
        if self._label and not neighbors:
            check_labels_wanted(side, **limits)
            if self._labels is None:
                logger.warning("labels are not calibrated: the model was trained without validation pairs")
            return LabelFinder(cast(Schema, self.schema), self._label, self._score_objects, self._labels, k)
        with extracted(self.predictor.directory) as found:
            has_columns: list[Side] = [each for each in SIDES if not self.schema or self.schema[each].columns]
            sides = indexed_sides(found) or has_columns
            if side is None:
                side = "in1" if neighbors and "in1" in sides else "in0"
            other: Side = "in1" if side == "in0" else "in0"
            own = side if neighbors else other
            if own not in has_columns:
                raise UserError(f"this model has no columns of {own} and no objects to find, wanted objects of {side}")
            if own not in self._indexes:
                self._indexes[own] = ObjectIndex.open(found, own, self.network, self.schema)
        index = self._indexes[own]
        encode = partial(self._encode_queries, neighbors=neighbors)
        return Finder(index, side, encode, Filter(index.objects, side, self.hyperparameters, **limits), k)

    def _score_objects(self, objects: Any) -> Float32:
        """Return the scores (N, C) of a list or a table of objects of in0, for a model without columns of in1."""
        if is_table(objects) or self.hyperparameters.one_sided:
            return self.score(objects)
        return self.score([(value, {}) for value in objects])

    @property
    def _label(self) -> Label | None:
        """The label that the model gives to objects, if it is such a model."""
        return self.schema.label_of_objects if self.schema and not self.hyperparameters.regression else None

    @cached_property
    def _labels(self) -> LabelProbabilities | None:
        """The calibration of labels; None if training had no validation pairs."""
        with extracted(self.predictor.directory) as found:
            return LabelProbabilities.read(found)

    def _found(self, finder: Finder | LabelFinder, objects: Any) -> Any:
        if is_single(objects, self.schema):
            return finder.find([objects]).records()[0]
        answers = finder.find(objects)
        return like_table(objects, answers.table()) if is_table(objects) else answers.records()

    def save(self, directory: str | Path) -> None:
        """Copy the model to a directory or to S3. Existing files are replaced when all are complete."""
        with local_copy(directory, output=True) as target, self._files() as files:
            artifact.check_writable(target)
            write_atomically(target, {path.name: partial(shutil.copyfile, path) for path in files})
            for older in set(target.glob(INDEX_FILES)) - {target / path.name for path in files}:
                older.unlink()

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


@contextmanager
def local_copy(path: str | Path, *, output: bool = False) -> Iterator[Path]:
    """Yield a path on this machine. An input in S3 is copied before, an output to S3 after it is written."""
    with localized({"path": _address(path, output=output)}) as paths:
        yield paths["path"]


def _address(path: str | Path, *, output: bool = False) -> Path | S3Address:
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise UserError(f"the path is {shortened(repr(path))}, wanted the path of a model")
    path = local_path(path, output=output, streamed=True)
    address = parse_address(str(path), output=output) if isinstance(path, S3Path) else None
    return address or path


def _checked_side(side: Any) -> Side | None:
    if side not in (None, *SIDES):
        raise UserError(f"side is {shortened(repr(side))}, wanted in0 or in1")
    return cast(Side | None, side)


def _warn_of_unknown(side: Side, encoded: Encoded | None) -> None:
    for name, rows in (encoded.unknown if encoded else {}).items():
        logger.warning(f"{int(rows.sum()):,} of {len(rows):,} {side} have an unknown {name}")


def _first_of_pairs(objects: Any) -> Any:
    """Return objects of in0; of a pair whose in1 is empty, in0."""
    if isinstance(objects, str | bytes) or not isinstance(objects, Iterable):
        return objects
    empty: tuple[Any, ...] = ({}, [], None)
    return [each[0] if isinstance(each, tuple) and len(each) == 2 and each[1] in empty else each for each in objects]


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


def _from_files(files: Mapping[str, bytes]) -> Model:
    with ExitStack() as temporary:
        folder = Path(temporary.enter_context(tempfile.TemporaryDirectory(prefix="object2vec-")))
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return Model._open(folder, temporary=temporary)
