"""A trained model that answers: embeddings of objects, scores of pairs.

Each distinct object of a chunk is encoded once, in passes of bounded size. A `Predictor` may be called from
several threads at a time.

Shapes: N objects or instances, P pairs, D numbers an embedding, C scores a pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import index
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from object2vec import artifact
from object2vec.arrays import Float32, Int64
from object2vec.data.sequences import Sequences
from object2vec.errors import RequestError
from object2vec.hyperparameters import Hyperparameters
from object2vec.model.network import Network
from object2vec.model.tokens import Tokens
from object2vec.serving.instances import SIDES, Instances, Mode, Prediction, Side

#: What bounds the memory of a request of any size: instances worked on at a time, and tokens in one pass.
ROWS: Final = 1024
TOKENS: Final = 32_768


class Predictor:
    """A model in memory. In embedding mode without its head, until a request asks for scores."""

    def __init__(
        self, network: Network, hyperparameters: Hyperparameters, *, directory: Path, mode: Mode = "classification"
    ) -> None:
        self.hyperparameters = hyperparameters
        self.mode = mode
        self.network = network.eval()
        self._directory = directory
        self._lock = Lock()

    @classmethod
    def load(
        cls, directory: str | Path, *, mode: Mode = "classification", device: str | torch.device | None = None
    ) -> Predictor:
        """Open a model directory, on the GPU if there is one and no other `device` is named.

        Raises:
            ArtifactError: the directory holds no model, a damaged one, or one of a newer format.
        """
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        hyperparameters, network = artifact.load(Path(directory), with_head=mode != "embedding", device=device)
        return cls(network, hyperparameters, directory=Path(directory), mode=mode)

    def encode(self, tokens: Iterable[Sequence[int]], side: Side) -> Float32:
        """The embeddings (N, D) of N objects of a side.

        Raises:
            RequestError: an id that the model does not know, at `tokens[i]`.
        """
        given = [list(map(index, sequence)) for sequence in tokens]
        absent = [None] * len(given)
        columns = (given, absent) if side == "in0" else (absent, given)
        answers = self.answer(_named("tokens", *columns))
        return _matrix(answers, "embeddings", self.hyperparameters.encoding_dim(SIDES.index(side)))

    def score(self, pairs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Float32:
        """The scores (P, C) of P pairs: a probability for each class in their order, or one number.

        Raises:
            RequestError: an id that the model does not know, at `pairs[i]`.
        """
        given = [(list(map(index, first)), list(map(index, second))) for first, second in pairs]
        instances = _named("pairs", [first for first, _ in given], [second for _, second in given])
        answers = self.answer(instances, mode="classification")
        return _matrix(answers, "scores", self.hyperparameters.scores)

    def answer(
        self, instances: Instances, *, mode: Mode | None = None, max_seq_lens: tuple[int, int] | None = None
    ) -> list[Prediction]:
        """Answer each instance by what it has, in order: a pair as `mode` says, one side alone with its embedding.

        `mode` is the predictor's own if None; `max_seq_lens` are the tokens to keep of each side, the model's if None.

        Raises:
            RequestError: an id that the model does not know.
        """
        scored = (mode or self.mode) != "embedding"
        network = self._network_with_head() if scored else self.network
        lengths = max_seq_lens or [encoder.max_seq_len for encoder in self.hyperparameters.encoders]
        predictions: list[Prediction] = []
        with torch.inference_mode():
            for start in range(0, len(instances), ROWS):
                part = instances.part(start, start + ROWS)
                columns = [self._encode(side, part, lengths[side]) for side in (0, 1)]
                predictions += _answers(network, columns, scored=scored)
        return predictions

    def _network_with_head(self) -> Network:
        """The network, its head fetched now if it was left out."""
        with self._lock:
            if self.network.head is None:
                _, whole = artifact.load(self._directory)  # the encoders of this one are mapped, and never read
                if whole.head is not None:
                    self.network.head = whole.head.eval().to(self.network.device)
        return self.network

    def _encode(self, side: int, instances: Instances, max_seq_len: int) -> _Column:
        """Encode what the instances have of a side, each distinct object once."""
        given = (instances.in0, instances.in1)[side]
        rows = [row for row, tokens in enumerate(given) if tokens is not None]
        tokens = [(given[row] or [])[:max_seq_len] for row in rows]
        self._check(side, instances, rows, tokens)
        sequences = Sequences.of(tokens)
        first, which = sequences.distinct()
        parts = _passes(sequences.take(first))
        passes = [self.network.encode(side, Tokens.of(part, self.network.device)) for part in parts]
        place = np.full(len(instances), -1)
        place[rows] = which
        return _Column(torch.cat(passes) if passes else torch.empty(0), place)

    def _check(self, side: int, instances: Instances, rows: Sequence[int], tokens: Sequence[Sequence[int]]) -> None:
        """Refuse ids that the model does not know."""
        size = self.hyperparameters.encoders[side].vocab_size
        for row, ids in zip(rows, tokens, strict=True):
            if ids and not 0 <= min(ids) <= max(ids) < size:
                wrong = next(i for i in ids if not 0 <= i < size)
                raise RequestError(f"{instances.name(row)}: {_unknown(SIDES[side], wrong, size)}")


class _Column(NamedTuple):
    """The encodings of the different objects of a side, and which of them each instance has."""

    encodings: Tensor  # (distinct, D)
    place: Int64  # (N,); -1 where an instance has no such side

    def of(self, rows: Int64) -> Tensor:
        """The encodings (R, D) of R instances."""
        return self.encodings[torch.from_numpy(self.place[rows]).to(self.encodings.device)]


def _passes(sequences: Sequences) -> Iterator[Sequences]:
    """The sequences, in order, cut where a pass would have more than `TOKENS` tokens."""
    start = 0
    while start < len(sequences):
        most = sequences.offsets[start] + TOKENS
        stop = max(start + 1, int(np.searchsorted(sequences.offsets, most, side="right")) - 1)
        yield sequences.take(np.arange(start, stop))
        start = stop


def _answers(network: Network, columns: Sequence[_Column], *, scored: bool) -> list[Prediction]:
    has = [column.place >= 0 for column in columns]
    pairs = np.flatnonzero(has[0] & has[1] & scored)
    answers = _scores(network, columns, pairs) | _embeddings(columns, np.setdiff1d(np.arange(len(has[0])), pairs))
    return [answers[row] for row in range(len(has[0]))]


def _scores(network: Network, columns: Sequence[_Column], pairs: Int64) -> dict[int, Prediction]:
    """The answers of the instances `pairs`, which have both sides."""
    if not len(pairs):
        return {}
    scores = network.scores(network.compare(*(column.of(pairs) for column in columns)))
    return {row: {"scores": vector} for row, vector in zip(pairs.tolist(), scores.cpu().numpy(), strict=True)}


def _embeddings(columns: Sequence[_Column], rows: Int64) -> dict[int, Prediction]:
    """The answers of the instances `rows`, with the embeddings of whichever sides they have."""
    if not len(rows):
        return {}
    encodings = [column.encodings.cpu().numpy() for column in columns]
    answers: dict[int, Prediction] = {}
    for row in rows.tolist():
        found: dict[str, Float32] = {
            side: vectors[column.place[row]]
            for side, vectors, column in zip(SIDES, encodings, columns, strict=True)
            if column.place[row] >= 0
        }
        answers[row] = {"embeddings": found if len(found) > 1 else next(iter(found.values()))}
    return answers


def _unknown(side: Side, token: int, vocab_size: int) -> str:
    if token < 0:
        return f"{side} has the token {token}, wanted an integer token id from 0"
    return f'Inconsistent vocab for {side} found. Vocab id "{token}" is not less than vocab_size={vocab_size}'


def _named(label: str, in0: Sequence[list[int] | None], in1: Sequence[list[int] | None]) -> Instances:
    return Instances(in0=in0, in1=in1, label=f"{label}[{{}}]", numbers=range(len(in0)))


def _matrix(answers: Sequence[Prediction], key: str, width: int) -> Float32:
    """What each answer has under `key`, as the rows of a matrix of that width."""
    return np.array([answer[key] for answer in answers], np.float32).reshape(-1, width)
