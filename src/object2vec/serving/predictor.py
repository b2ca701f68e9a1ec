"""A trained model that answers: embeddings of objects, scores of pairs.

Instances go through in parts; each distinct object of one is encoded once, in passes of bounded size. A `Predictor` may
be called from several threads at a time.

Shapes: N objects or instances, P pairs, D numbers an embedding, C scores a pair.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from operator import eq, index
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from object2vec import artifact
from object2vec.archive import extracted
from object2vec.array_types import Float32, Int32, Int64
from object2vec.data.files import local_path
from object2vec.data.records import SIDES, Side
from object2vec.data.sequences import Sequences
from object2vec.errors import RequestError, UserError, shortened
from object2vec.hyperparameters import Hyperparameters
from object2vec.model.network import Network
from object2vec.model.tokens import Tokens
from object2vec.ops import library
from object2vec.ops.convolution import in_tap_order
from object2vec.serving.headers import Mode, to_mode
from object2vec.serving.instances import (
    EMPTY,
    MAX_FEW_TOKENS,
    Answers,
    Column,
    InputWarning,
    Instances,
    Vectors,
    read_side,
)
from object2vec.serving.token_scorer import TokenPairScorer, single_token_pairs

#: What bounds the memory of a request of any size: instances worked on at a time, and tokens in one pass.
MAX_BATCH_ROWS: Final = 512
MAX_PASS_TOKENS: Final = 32_768
#: Pairs that go through the head at a time on a CPU: what they need there stays in a core's cache, and blocks of memory
#: are small ones, that do not tear holes into the heap of a process that runs for weeks.
HEAD_BATCH_PAIRS: Final = 64


@cache
def _handle_forks() -> None:
    """Let forked children compute with one thread.

    OpenMP's other threads do not exist in a child, and waiting for them would never end. The server has no such limit:
    its main process computes nothing before it forks.
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
        self, network: Network, hyperparameters: Hyperparameters, *, directory: Path, mode: Mode = "classification"
    ) -> None:
        self.hyperparameters = hyperparameters
        self.mode = mode
        self.network = network.eval()
        for module in network.modules():
            if isinstance(module, nn.Conv1d):
                module.weight.data = in_tap_order(module.weight.data)
        self._directory = directory.absolute()
        self._lock = Lock()
        self._token_scorer = TokenPairScorer.from_network(self.network, hyperparameters.mlp_activation)

    @classmethod
    def load(
        cls, directory: str | Path, *, mode: Mode = "classification", device: str | torch.device | None = None
    ) -> Predictor:
        """Open a model: its directory, a folder that holds it, or an archive of it, as `archive.find_model` finds them.

        The model goes to the GPU if there is one and no other `device` is named.

        Raises:
            UserError: an argument cannot be used.
            ArtifactError: there is no model, a damaged one, or one of a newer format.
        """
        if not isinstance(directory, str | os.PathLike) or not str(directory):
            raise UserError(f"directory is {_shown(directory)}, wanted the path of a model")
        path = local_path(directory)
        to_mode(mode, "mode", UserError)
        try:
            device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except (RuntimeError, TypeError):
            raise UserError(f"device is {_shown(device)}, wanted cpu or cuda") from None
        with extracted(path) as found:
            hyperparameters, network = artifact.load(found, with_head=mode != "embedding", device=device)
        return cls(network, hyperparameters, directory=path, mode=mode)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._directory, self.mode, "cpu" if self.network.device.type == "cpu" else None)

    def encode(self, tokens: Iterable[Sequence[int]], side: Side) -> Float32:
        """Return the embeddings (N, D) of N objects of a side.

        Raises:
            RequestError: an argument cannot be used, or the model does not know an id, at `tokens[i]`.
        """
        _handle_forks()
        if not isinstance(side, str) or side not in SIDES:
            raise RequestError(f"side is {_shown(side)}, wanted in0 or in1")
        given = Column.from_lists(
            [_ids(sequence, f"tokens[{n}]") for n, sequence in enumerate(_each(tokens, "tokens"))]
        )
        columns = (given, Column.from_lists([])) if side == "in0" else (Column.from_lists([]), given)
        instances = Instances(columns=columns, label="tokens[{}]", numbers=range(len(given.rows)))
        parts = [answers.embeddings[SIDES.index(side)].values for answers in self.answer(instances)]
        return np.concatenate([self._none(self.hyperparameters.encoding_dim(SIDES.index(side))), *parts])

    def score(self, pairs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Float32:
        """Return the scores (P, C) of P pairs: a probability for each class in their order, or one number.

        Raises:
            RequestError: an argument cannot be used, or the model does not know an id, at `pairs[i]`.
        """
        _handle_forks()
        given = [_pair(pair, f"pairs[{n}]") for n, pair in enumerate(_each(pairs, "pairs"))]
        columns = Column.from_lists([first for first, _ in given]), Column.from_lists([second for _, second in given])
        instances = Instances(columns=columns, label="pairs[{}]", numbers=range(len(given)))
        parts = [answers.scores.values for answers in self.answer(instances, mode="classification")]
        return np.concatenate([self._none(self.hyperparameters.scores), *parts])

    @staticmethod
    def _none(width: int) -> Float32:
        return np.empty((0, width), np.float32)

    def answer(
        self, instances: Instances, *, mode: Mode | None = None, max_seq_lens: tuple[int, int] | None = None
    ) -> Iterator[Answers]:
        """Answer each instance by what it has, in order: a pair as `mode` says, one side alone with its embedding.

        `mode` is the predictor's own if None; `max_seq_lens` are the tokens to keep of each side, the model's if None.
        Instances are checked at once, and answered `MAX_BATCH_ROWS` at a time as the answers are asked for.

        Raises:
            RequestError: an id that the model does not know.
        """
        return self.prepare(instances, mode=mode, max_seq_lens=max_seq_lens).answers()

    def prepare(
        self, instances: Instances, *, mode: Mode | None = None, max_seq_lens: tuple[int, int] | None = None
    ) -> Query:
        """What `answer` is to answer, checked.

        Raises:
            RequestError: an id that the model does not know.
        """
        scored = (mode or self.mode) != "embedding"
        if scored and self.network.head is None:
            self._fetch_head()
        lengths = max_seq_lens or [encoder.max_seq_len for encoder in self.hyperparameters.encoders]
        sizes = [encoder.vocab_size for encoder in self.hyperparameters.encoders]
        left, right = (read_side(instances, side, sizes[side], lengths[side]) for side in (0, 1))
        found = (self._warnings(side, instances, column) for side, column in enumerate((left, right)))
        warnings = tuple(chain.from_iterable(found))
        return Query(
            self.network, (left, right), len(instances), scored, self._token_scorer if scored else None, warnings
        )

    def _warnings(self, side: int, instances: Instances, column: Column) -> Iterator[InputWarning]:
        """What a client should know about a side of instances, of which `column` is what is read."""
        given = instances.columns[side].sequences
        if given is not column.sequences:
            rows = column.rows[given.lengths > column.sequences.lengths]
            yield InputWarning(kind="truncated", side=SIDES[side], rows=rows)
        pooled = self.hyperparameters.encoders[side].network == "pooled_embedding"
        found = _without_tokens(column.sequences, pooled)
        if found is not None:
            yield InputWarning(kind="no_tokens", side=SIDES[side], rows=column.rows[found])

    def _fetch_head(self) -> None:
        """Load the head that was left out."""
        with self._lock:
            if self.network.head is None:
                with extracted(self._directory) as found:
                    _, whole = artifact.load(found)  # the encoders of this one are mapped, and never read
                if whole.head is not None:
                    self.network.head = whole.head.eval().to(self.network.device)
                self._token_scorer = TokenPairScorer.from_network(self.network, self.hyperparameters.mlp_activation)


def _without_tokens(sequences: Sequences, pooled: bool) -> Int64 | None:
    """Return which sequences are empty, or for a pooled encoder hold no id but 0; None if there is no such one."""
    values, offsets = sequences.values, sequences.offsets
    if len(sequences) <= MAX_FEW_TOKENS and len(values) <= MAX_FEW_TOKENS:
        starts = offsets.tolist()
        possible = (pooled and 0 in values.tolist()) or any(map(eq, starts, starts[1:]))
    else:
        possible = (pooled and not values.all()) or not (offsets[1:] > offsets[:-1]).all()
    if not possible:
        return None
    lacking = offsets[1:] == offsets[:-1]
    if pooled:
        filled = np.flatnonzero(~lacking)
        if len(filled):
            lacking[filled] = ~np.logical_or.reduceat(values != 0, offsets[filled])
    return np.flatnonzero(lacking) if lacking.any() else None


@dataclass(frozen=True, slots=True)
class Query:
    """Instances that a network is to answer, all pairs of them with `scored` or none; every id is known to it."""

    network: Network
    columns: tuple[Column, Column]
    count: int
    scored: bool
    token_scorer: TokenPairScorer | None  # where it can give scores
    warnings: tuple[InputWarning, ...] = ()

    @property
    def is_long(self) -> bool:
        """Whether it takes more than one part."""
        return self.count > MAX_BATCH_ROWS

    def parts(self) -> Iterable[Query]:
        """The query in parts of at most `MAX_BATCH_ROWS` instances."""
        if 0 < self.count <= MAX_BATCH_ROWS:
            return (self,)
        return (
            self._part(start, min(start + MAX_BATCH_ROWS, self.count)) for start in range(0, self.count, MAX_BATCH_ROWS)
        )

    def _part(self, start: int, stop: int) -> Query:
        left, right = (column.slice(start, stop) for column in self.columns)
        return replace(self, columns=(left, right), count=stop - start)

    def answers(self) -> Iterator[Answers]:
        """The answers in parts, each when it is asked for."""
        return (part.token_scores() or forward(part) for part in self.parts())

    def token_scores(self) -> Answers | None:
        """The answers where they can be looked up, which takes no time to speak of."""
        token_scorer = self.token_scorer
        if token_scorer and (tokens := single_token_pairs(self.columns, self.count)):
            scores = Vectors(self.columns[0].rows, token_scorer.scores(tokens))
            return Answers(count=self.count, scores=scores, embeddings=(EMPTY, EMPTY))
        return None

    def can_batch_with(self, other: Query) -> bool:
        """Whether one pass can answer both."""
        return self.network is other.network and self.scored == other.scored


def answer_batch(queries: Sequence[Query]) -> list[Answers]:
    """Answer queries that go with one another, in one pass; each as it would be alone."""
    if len(queries) == 1:
        (query,) = queries
        return [forward(query)]
    counts = [query.count for query in queries]
    left, right = (Column.concatenate([query.columns[side] for query in queries], counts) for side in (0, 1))
    return forward(replace(queries[0], columns=(left, right), count=sum(counts))).split(counts)


class _Encoded(NamedTuple):
    """The encodings of the different objects of a column, and which of them each of its sequences is."""

    rows: Int64  # (n,)
    encodings: Tensor  # (distinct, D)
    which: Int32  # (n,)

    @classmethod
    def of(cls, network: Network, side: int, column: Column) -> _Encoded:
        if not len(column):
            return cls(column.rows, torch.empty(0, 0), np.empty(0, np.int32))
        first, which = column.sequences.distinct()
        sequences = column.sequences.take(first) if len(first) < len(which) else column.sequences
        device = network.device
        passes = [network.encode(side, Tokens.of(part, device)) for part in _passes(sequences)]
        return cls(column.rows, passes[0] if len(passes) == 1 else torch.cat(passes), which)

    def take(self, index: Int64) -> Tensor:
        """The encodings (R, D) of R of the sequences."""
        if len(index) == len(self.encodings) == len(self.rows):  # all of them, each different
            return self.encodings
        return self.encodings[torch.from_numpy(self.which[index]).to(self.encodings.device)]

    def vectors_but(self, index: Int64) -> Vectors:
        """The embeddings of the sequences that `index` does not name."""
        if len(index) == len(self.rows):
            return EMPTY
        others = np.delete(np.arange(len(self.rows)), index)
        return Vectors(self.rows[others], self.take(others).cpu().numpy())


def _passes(sequences: Sequences) -> Iterator[Sequences]:
    """The sequences, in order, cut where a pass would have more than `MAX_PASS_TOKENS` tokens."""
    if sequences.offsets[-1] <= MAX_PASS_TOKENS:
        yield sequences
        return
    start = 0
    while start < len(sequences):
        most = sequences.offsets[start] + MAX_PASS_TOKENS
        stop = max(start + 1, int(np.searchsorted(sequences.offsets, most, side="right")) - 1)
        yield sequences.part(start, stop)
        start = stop


@torch.inference_mode()
def forward(query: Query) -> Answers:
    network = query.network
    sides = [_Encoded.of(network, side, column) for side, column in enumerate(query.columns)]
    pairs = _pairs(sides, query.count) if query.scored else (EMPTY.rows, EMPTY.rows)
    scores = EMPTY
    if len(pairs[0]):
        step = HEAD_BATCH_PAIRS if network.device.type == "cpu" else MAX_BATCH_ROWS
        outputs = [
            network.compare(*(side.take(index[at : at + step]) for side, index in zip(sides, pairs, strict=True)))
            for at in range(0, len(pairs[0]), step)
        ]
        scores = Vectors(sides[0].rows[pairs[0]], network.scores(torch.cat(outputs)).cpu().numpy())
    left, right = (side.vectors_but(index) for side, index in zip(sides, pairs, strict=True))
    return Answers(count=query.count, scores=scores, embeddings=(left, right))


def _pairs(sides: Sequence[_Encoded], count: int) -> tuple[Int64, Int64]:
    """Where the instances that have both sides stand among the sequences of each."""
    in0, in1 = (side.rows for side in sides)
    if len(in0) == len(in1) == count:
        return np.arange(count), np.arange(count)
    _, left, right = np.intersect1d(in0, in1, assume_unique=True, return_indices=True)
    return left.astype(np.int64), right.astype(np.int64)


# ----------------------------------------------------------------------------------------------------------------------
# Arguments of the Python API.
# ----------------------------------------------------------------------------------------------------------------------


def _reopen(directory: Path, mode: Mode, device: str | None) -> Predictor:
    """Open the model of a pickled predictor again."""
    return Predictor.load(directory, mode=mode, device=device)


def _each(values: Any, name: str) -> Iterable[Any]:
    """Return what there is one of for each object or pair, if it is a list, an array or another iterable."""
    iterable = hasattr(values, "__iter__") and getattr(values, "ndim", None) != 0
    if not iterable or isinstance(values, str | bytes | Mapping):
        raise RequestError(f"{name} is {_shown(values)}, wanted a list of them")
    return values  # type: ignore[no-any-return]


def _pair(pair: Any, name: str) -> tuple[list[int], list[int]]:
    sides = list(_each(pair, name))
    if len(sides) != 2:
        raise RequestError(f"{name} has {len(sides)} parts, wanted 2: the token ids of in0, and those of in1")
    return _ids(sides[0], f"{name}[0]"), _ids(sides[1], f"{name}[1]")


def _ids(sequence: Any, name: str) -> list[int]:
    if isinstance(sequence, str | bytes | Mapping):
        raise RequestError(f"{name} is {_shown(sequence)}, wanted a list of integer token ids")
    try:
        return list(map(index, sequence))
    except TypeError:
        pass
    if not hasattr(sequence, "__iter__") or getattr(sequence, "ndim", None) == 0:
        raise RequestError(f"{name} is {_shown(sequence)}, wanted a list of integer token ids")
    for n, token in enumerate(sequence):
        if not hasattr(token, "__index__") or getattr(token, "ndim", None):
            raise RequestError(f"{name}[{n}] is {_shown(token)}, wanted an integer token id")
    raise RequestError(f"{name} is {_shown(sequence)}, wanted a list of integer token ids")


def _shown(value: object) -> str:
    return shortened(repr(value))
