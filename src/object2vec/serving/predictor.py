"""A trained model in memory: embeddings of objects, scores of pairs.

A `Predictor` may be called from several threads at a time.

Shapes: N objects or instances, P pairs, D numbers an embedding, C scores a pair.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from operator import index
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from object2vec import artifact
from object2vec.archive import extracted
from object2vec.array_types import Float32
from object2vec.data.files import local_path
from object2vec.data.records import SIDES, Side
from object2vec.data.sequences import Sequences
from object2vec.errors import RequestError, UserError, shortened
from object2vec.hyperparameters import Hyperparameters
from object2vec.model.network import Network
from object2vec.ops import library
from object2vec.ops.convolution import in_tap_order
from object2vec.retrieval.label_probabilities import LabelProbabilities
from object2vec.retrieval.object_index import ObjectIndex, indexed_sides
from object2vec.schema.schema import Schema
from object2vec.serving.headers import Mode, to_mode
from object2vec.serving.instances import Column, Instances, describe_unknown_id, read_sides
from object2vec.serving.pair_scorer import PairScorer
from object2vec.serving.query import Query
from object2vec.serving.search import LabelSearch, Search, Searcher, read_asked
from object2vec.serving.token_scorer import TokenPairScorer


@cache
def _handle_forks() -> None:
    """Let forked children compute with one thread.

    OpenMP's other threads do not exist in a child, which would wait for them without end. The server needs no hook: its
    main process only loads the model before it forks.
    """
    os.register_at_fork(after_in_child=_use_one_thread)


def _use_one_thread() -> None:
    torch.set_num_threads(1)  # MKL's threads too
    library.use_one_thread()


class Predictor:
    """A model in memory. In embedding mode without its head, until a request asks for scores.

    Pickling and copying keep the path of the model, and open it again: it must still be there.
    """

    def __init__(
        self,
        network: Network,
        hyperparameters: Hyperparameters,
        *,
        directory: Path,
        mode: Mode = "classification",
        schema: Schema | None = None,
    ) -> None:
        self.hyperparameters = hyperparameters
        self.schema = schema
        _ = schema and schema.tables  # before the server forks, so that its workers share them
        self.mode = mode
        self.network = network.eval()
        self.directory = directory.absolute()
        self._lock = Lock()
        self._searcher: Searcher | None = None
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # OpenMP then starts no threads, and the process can be forked, as the server's is
        try:
            for module in network.modules():
                if isinstance(module, nn.Conv1d):
                    module.weight.data = in_tap_order(module.weight.data)
            self._token_scorer = TokenPairScorer.from_network(self.network, hyperparameters.mlp_activation)
        finally:
            torch.set_num_threads(threads)

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        mode: Mode = "classification",
        device: str | torch.device | None = None,
        schema: Schema | None = None,
        with_indexes: bool = False,
    ) -> Predictor:
        """Open a model: its directory, a folder that holds it, or an archive of it, as `archive.find_model` finds them.

        The model goes to the GPU if there is one and no other `device` is named. `schema` is the model's, if the caller
        has read it. Indexes are opened now with `with_indexes`, else when they are first used.

        Raises:
            UserError: an argument cannot be used.
            ArtifactError: there is no model, a damaged one, or one of a newer format.
        """
        if not isinstance(directory, str | os.PathLike) or not str(directory):
            raise UserError(f"directory is {_short_repr(directory)}, wanted the path of a model")
        path = local_path(directory)
        to_mode(mode, "mode")
        try:
            device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except (RuntimeError, TypeError):
            raise UserError(f"device is {_short_repr(device)}, wanted cpu or cuda") from None
        with extracted(path) as found:
            hyperparameters, network = artifact.load(found, with_head=mode != "embedding", device=device)
            schema = schema or artifact.read_schema(found)
        predictor = cls(network, hyperparameters, directory=path, mode=mode, schema=schema)
        if with_indexes:
            predictor.open_indexes()
        return predictor

    def __reduce__(self) -> tuple[Any, ...]:
        device = "cpu" if self.network.device.type == "cpu" else None
        return partial(Predictor.load, self.directory, mode=self.mode, device=device), ()

    def encode(self, tokens: Iterable[Sequence[int]], side: Side) -> Float32:
        """Return the embeddings (N, D) of N objects of a side.

        Raises:
            RequestError: an argument cannot be used, or the model does not know an id, at `tokens[i]`.
        """
        _handle_forks()
        if not isinstance(side, str) or side not in SIDES:
            raise RequestError(f"side is {_short_repr(side)}, wanted in0 or in1")
        given = Column.from_lists(
            [_ids(sequence, f"tokens[{n}]") for n, sequence in enumerate(_iterable(tokens, "tokens"))]
        )
        return self._encode(given, side)

    def encode_sequences(self, sequences: Sequences, side: Side) -> Float32:
        """Return the embeddings (N, D) of N objects of a side."""
        return self._encode(Column(np.arange(len(sequences)), sequences), side)

    def _encode(self, given: Column, side: Side) -> Float32:
        columns = (given, Column.from_lists([])) if side == "in0" else (Column.from_lists([]), given)
        instances = Instances(columns=columns, label="tokens[{}]", numbers=range(len(given.rows)))
        answers = self.prepare(instances, mode="embedding").answers()
        parts = [part.embeddings[SIDES.index(side)].values for part in answers]
        return np.concatenate([_no_vectors(self.hyperparameters.encoding_dim(SIDES.index(side))), *parts])

    def score(self, pairs: Iterable[Sequence[Any]]) -> Float32:
        """Return the scores (P, C) of P pairs: a probability for each class in their order, or one number.

        An array of integers (P, 2) is pairs of single ids. It is much faster than lists. For a model without in1, give
        objects of in0 in place of pairs.

        Raises:
            RequestError: an argument cannot be used, or the model does not know an id, at `pairs[i]`.
        """
        _handle_forks()
        if self.hyperparameters.one_sided:
            given = Column.from_lists([_ids(ids, f"objects[{n}]") for n, ids in enumerate(_iterable(pairs, "objects"))])
            return self._score(
                Instances(columns=(given, Column.from_lists([])), label="objects[{}]", numbers=given.rows)
            )
        if isinstance(pairs, np.ndarray) and pairs.ndim == 2 and pairs.shape[1] == 2 and pairs.dtype.kind in "iu":
            return self._score_ids(pairs)
        lists = [_pair(pair, f"pairs[{n}]") for n, pair in enumerate(_iterable(pairs, "pairs"))]
        columns = Column.from_lists([first for first, _ in lists]), Column.from_lists([second for _, second in lists])
        return self._score(Instances(columns=columns, label="pairs[{}]", numbers=range(len(lists))))

    def _score(self, instances: Instances) -> Float32:
        query = self.prepare(instances, mode="classification")
        parts = [answers.scores.values for answers in query.answers()]
        return np.concatenate([_no_vectors(self.hyperparameters.scores), *parts])

    def _score_ids(self, pairs: npt.NDArray[np.integer[Any]]) -> Float32:
        for side, encoder in enumerate(self.hyperparameters.encoders):
            unknown = (pairs[:, side] < 0) | (pairs[:, side] >= encoder.vocab_size)
            if unknown.any():
                place = int(unknown.argmax())
                raise RequestError(
                    f"pairs[{place}]: {describe_unknown_id(SIDES[side], int(pairs[place, side]), encoder.vocab_size)}"
                )
        (left, left_index), (right, right_index) = (np.unique(ids, return_inverse=True) for ids in pairs.T)
        objects = Sequences.from_ids(left), Sequences.from_ids(right)
        return self.pair_scorer(objects)(left_index, right_index)

    def pair_scorer(self, objects: tuple[Sequences, Sequences]) -> PairScorer:
        """Return the scorer of pairs of given objects, which encodes each of them once."""
        if self.network.head is None:
            self._fetch_head()
        lengths = [encoder.max_seq_len for encoder in self.hyperparameters.encoders]
        left, right = (side.truncate(length) for side, length in zip(objects, lengths, strict=True))
        return PairScorer(self.network, (left, right))

    def prepare(
        self,
        instances: Instances,
        *,
        mode: Mode | None = None,
        max_seq_lens: tuple[int, int] | None = None,
        top_k: int | None = None,
        neighbors: bool = False,
    ) -> Query:
        """Check instances, and return a query that answers them in order: pairs as `mode` says, sides with embeddings.

        `mode` is the predictor's own if None; `max_seq_lens` are the tokens to keep of each side, the model's if None.
        `top_k` and `neighbors` are what instances ask of an index that do not say it themselves.

        Raises:
            RequestError: an id that the model does not know, or an instance that an index cannot answer.
        """
        searches: Sequence[Search | LabelSearch | None] = ()
        if instances.asked or top_k:
            strict = self.schema is not None  # a client of the built-in may have such keys for its own use
            if asked := read_asked(instances, default=top_k, neighbors=neighbors, strict=strict):
                instances, searches = self.searcher.prepare(instances, asked)
        scored = (mode or self.mode) != "embedding"
        if not scored and any(isinstance(search, LabelSearch) for search in searches):
            raise RequestError("top_k asks for labels, and the mode is embedding, wanted classification")
        if scored and self.network.head is None:
            self._fetch_head()
        columns, warnings = read_sides(instances, self.hyperparameters.encoders, max_seq_lens)
        if self.hyperparameters.one_sided:
            columns = _only_first_side(columns, instances, scored=scored)
        token_scorer = self._token_scorer if scored and not searches else None
        return Query(self.network, columns, len(instances), scored, token_scorer, warnings, searches)

    @property
    def searcher(self) -> Searcher:
        """Return the indexes of the model; see `open_indexes`."""
        return self._searcher or self.open_indexes()

    def open_indexes(self) -> Searcher:
        """Open the indexes of the model.

        Raises:
            ArtifactError: an index is damaged, or of another model.
        """
        with extracted(self.directory) as found:
            sides = indexed_sides(found)
            if sides and self.network.head is None:
                self._fetch_head()
            indexes = {side: ObjectIndex.open(found, side, self.network, self.schema) for side in sides}
            label = self.schema.label_of_objects if self.schema and not self.hyperparameters.regression else None
            labels = (label, LabelProbabilities.read(found)) if label else None
        vocab_sizes = [encoder.vocab_size for encoder in self.hyperparameters.encoders]
        self._searcher = Searcher(indexes, self.schema, vocab_sizes, labels)
        return self._searcher

    def _fetch_head(self) -> None:
        """Load the head that was left out."""
        with self._lock:
            if self.network.head is None:
                with extracted(self.directory) as found:
                    _, whole = artifact.load(found)  # the encoders of this one are mapped, and never read
                if whole.head is not None:
                    self.network.head = whole.head.eval().to(self.network.device)
                self._token_scorer = TokenPairScorer.from_network(self.network, self.hyperparameters.mlp_activation)


# ----------------------------------------------------------------------------------------------------------------------
# Arguments of the Python API.
# ----------------------------------------------------------------------------------------------------------------------


def _iterable(values: Any, name: str, wanted: str = "a list of them") -> Iterable[Any]:
    """Return what there is one of for each object or pair, if it is a list, an array or another iterable."""
    iterable = hasattr(values, "__iter__") and getattr(values, "ndim", None) != 0
    if not iterable or isinstance(values, str | bytes | Mapping):
        raise RequestError(f"{name} is {_short_repr(values)}, wanted {wanted}")
    return values  # type: ignore[no-any-return]


def _pair(pair: Any, name: str) -> tuple[list[int], list[int]]:
    sides = list(_iterable(pair, name))
    if len(sides) != 2:
        raise RequestError(f"{name} has {len(sides)} parts, wanted 2: the token ids of in0, and those of in1")
    return _ids(sides[0], f"{name}[0]"), _ids(sides[1], f"{name}[1]")


def _ids(sequence: Any, name: str) -> list[int]:
    ids: list[int] = []
    for token in _iterable(sequence, name, "a list of integer token ids"):
        try:
            ids.append(index(token))
        except TypeError:
            raise RequestError(f"{name}[{len(ids)}] is {_short_repr(token)}, wanted an integer token id") from None
    return ids


def _only_first_side(columns: tuple[Column, Column], instances: Instances, *, scored: bool) -> tuple[Column, Column]:
    """Return the columns of instances that are classified by in0 alone: with an empty in1 if they are scored.

    Raises:
        RequestError: an instance has no in0.
    """
    first, second = columns
    lacking = np.setdiff1d(second.rows, first.rows)
    if len(lacking):
        raise RequestError(f"{instances.name(int(lacking[0]))} has no in0, wanted it alone: this model has no in1")
    rows = first.rows if scored else first.rows[:0]
    return first, Column(rows, Sequences.from_lengths(np.empty(0, np.int32), np.zeros(len(rows), np.int64)))


def _no_vectors(width: int) -> Float32:
    return np.empty((0, width), np.float32)


def _short_repr(value: object) -> str:
    return shortened(repr(value))
