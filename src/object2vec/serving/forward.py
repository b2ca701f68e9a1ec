"""Forward passes of bounded size: from columns of token ids to scores and embeddings.

Each unique object is encoded once.

Shapes: N objects or instances, P pairs, D numbers an embedding, C scores a pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from object2vec.array_types import Int32, Int64
from object2vec.data.sequences import Sequences
from object2vec.model.network import Network
from object2vec.model.tokens import Tokens
from object2vec.serving.instances import EMPTY, Answers, Column, Vectors

#: Instances in one batch, and tokens in one pass. They bound the memory of a request of any size.
MAX_BATCH_ROWS: Final = 512
MAX_PASS_TOKENS: Final = 32_768
#: Pairs in one pass of the head on a CPU. Their memory fits in a core's cache. Larger blocks would fragment the heap of
#: a process that runs for weeks.
HEAD_BATCH_PAIRS: Final = 64


class _Encoded(NamedTuple):
    """The encodings of the unique objects of a column, and the index of the encoding of each of its sequences."""

    rows: Int64  # (n,)
    encodings: Tensor  # (unique, D)
    inverse: Int32  # (n,)

    @classmethod
    def from_column(cls, network: Network, side: int, column: Column) -> _Encoded:
        if not len(column):
            return cls(column.rows, torch.empty(0, 0), np.empty(0, np.int32))
        first, inverse = column.sequences.unique()
        sequences = column.sequences.take(first) if len(first) < len(inverse) else column.sequences
        return cls(column.rows, encode(network, side, sequences), inverse)

    def take(self, index: Int64) -> Tensor:
        """Return the encodings (R, D) of R of the sequences."""
        if len(index) == len(self.encodings) == len(self.rows):  # all of them, each unique
            return self.encodings
        return self.encodings[torch.from_numpy(self.inverse[index]).to(self.encodings.device)]

    def vectors_except(self, index: Int64) -> Vectors:
        """Return the embeddings of the sequences that are not in `index`."""
        if len(index) == len(self.rows):
            return EMPTY
        others = np.delete(np.arange(len(self.rows)), index)
        return Vectors(self.rows[others], self.take(others).cpu().numpy())


def encode(network: Network, side: int, sequences: Sequences) -> Tensor:
    """Return the encodings (N, D) of N objects of `side`, in passes of bounded size."""
    passes = [network.encode(side, Tokens.of(part, network.device)) for part in _passes(sequences)]
    return passes[0] if len(passes) == 1 else torch.cat(passes)


def _passes(sequences: Sequences) -> Iterator[Sequences]:
    """Yield the sequences in order, in passes of at most `MAX_PASS_TOKENS` tokens or of one sequence."""
    if sequences.offsets[-1] <= MAX_PASS_TOKENS:
        yield sequences
        return
    start = 0
    while start < len(sequences):
        most = sequences.offsets[start] + MAX_PASS_TOKENS
        stop = max(start + 1, int(np.searchsorted(sequences.offsets, most, side="right")) - 1)
        yield sequences.slice(start, stop)
        start = stop


@torch.inference_mode()
def forward(network: Network, columns: tuple[Column, Column], count: int, *, scored: bool) -> Answers:
    """Return the answers to `count` instances: the scores of pairs if `scored`, and the embeddings of other sides."""
    sides = [_Encoded.from_column(network, side, column) for side, column in enumerate(columns)]
    pairs = _pairs(sides, count) if scored else (EMPTY.rows, EMPTY.rows)
    scores = EMPTY
    if len(pairs[0]):
        step = HEAD_BATCH_PAIRS if network.device.type == "cpu" else MAX_BATCH_ROWS
        blocks = [[index[at : at + step] for index in pairs] for at in range(0, len(pairs[0]), step)]
        if network.first_common:
            left, right = (column.sequences for column in columns)
            outputs = [score_sequences(network, left.take(block[0]), right.take(block[1])) for block in blocks]
        else:
            outputs = [
                network.score_encodings(*(side.take(index) for side, index in zip(sides, block, strict=True)))
                for block in blocks
            ]
        scores = Vectors(sides[0].rows[pairs[0]], network.scores(torch.cat(outputs)).cpu().numpy())
    rest = [side.vectors_except(index) for side, index in zip(sides, pairs, strict=True)]
    return Answers(count=count, scores=scores, embeddings=(rest[0], rest[1]))


def score_sequences(network: Network, left: Sequences, right: Sequences) -> Tensor:
    """Return the output (P, C) of the pairs left[p] and right[p] of P sequences a side."""
    pairs = torch.arange(len(left), device=network.device)
    output: Tensor = network((Tokens.of(left, network.device), Tokens.of(right, network.device)), (pairs, pairs))
    return output


def _pairs(sides: Sequence[_Encoded], count: int) -> tuple[Int64, Int64]:
    """Return the indices, among the sequences of each side, of the instances that have both sides."""
    in0, in1 = (side.rows for side in sides)
    if len(in0) == len(in1) == count:
        return np.arange(count), np.arange(count)
    _, left, right = np.intersect1d(in0, in1, assume_unique=True, return_indices=True)
    return left.astype(np.int64), right.astype(np.int64)
