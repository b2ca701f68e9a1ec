"""Estimate the memory that a configuration needs, and explain errors about missing memory."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import torch

from object2vec import resources
from object2vec.errors import AlgorithmError
from object2vec.hyperparameters import EncoderHyperparameters, Hyperparameters
from object2vec.model.network import network_of_shapes

#: State numbers that an optimizer keeps for each weight, without the gradient.
STATE_NUMBERS_PER_WEIGHT: Final = {"sgd": 0, "adagrad": 1, "rmsprop": 1, "adam": 2, "adadelta": 2}
#: The least numbers for each weight of a table that is not row_sparse. Only torch's optimizers need a gradient as
#: large as the table. Only optimizers that update every row keep state for every row.
TABLE_NUMBERS_PER_WEIGHT: Final = {"sgd": 0, "adagrad": 0, "rmsprop": 2, "adam": 2, "adadelta": 3}
#: How torch and the system say that there is no memory, where the class of the error does not.
NO_MEMORY: Final = re.compile("can't allocate memory|(not enough|out of) memory|bad_alloc|can't start new thread", re.I)


@contextmanager
def explain_memory_errors(hyperparameters: Hyperparameters) -> Iterator[None]:
    """Replace an error about missing memory by one that says what the configuration needs and what would help.

    Raises:
        AlgorithmError: memory ran out inside the context.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not _is_lack_of_memory(error):
            raise
        lack = _lack_of_memory(str(error).partition("\n")[0], hyperparameters)
        raise AlgorithmError("; ".join([str(lack), *getattr(error, "__notes__", ())])) from error


def check_memory(hyperparameters: Hyperparameters, device: torch.device) -> None:
    """Check that memory holds the least that training takes: the system kills a process without a message.

    Raises:
        AlgorithmError: it does not.
    """
    tables, others = _weights(hyperparameters)
    needed = tables + others
    if device.type == "cpu":
        kind, averaged = hyperparameters.optimizer, bool(hyperparameters.ema_decay)
        needed += others * (1 + STATE_NUMBERS_PER_WEIGHT[kind] + averaged)
        dense = [e for e in _with_tables(hyperparameters) if not (e.frozen or hyperparameters.row_sparse)]
        needed += hyperparameters.rows_per_token * _table_bytes(dense) * (TABLE_NUMBERS_PER_WEIGHT[kind] + averaged)
    if needed > resources.memory_limit():
        raise _lack_of_memory(f"training takes at least {_size(needed)}", hyperparameters)


def _lack_of_memory(what: str, hyperparameters: Hyperparameters) -> AlgorithmError:
    return AlgorithmError(f"Out of memory ({what}): {describe_memory_need(hyperparameters)}")


def describe_memory_need(hyperparameters: Hyperparameters) -> str:
    """Return a sentence on the memory limit, the size of the weights, and the hyperparameters that would help."""
    tables, others = _weights(hyperparameters)
    limit = resources.memory_limit()
    product = " and ".join(
        f"enc{side}_vocab_size={e.vocab_size} by enc{side}_token_embedding_dim={e.token_embedding_dim}"
        for side, e in enumerate(_with_tables(hyperparameters))
    )
    kept = STATE_NUMBERS_PER_WEIGHT[hyperparameters.optimizer]
    sizes = f"of {_size(limit)} the weights take {_size(tables + others)}, {_size(tables)} of it for tokens ({product})"
    optimizer = f"optimizer={hyperparameters.optimizer} keeps {kept or 'no'} more number{'s' * (kept != 1)} for each"
    if 2 * (tables + others) * (2 + kept) < limit:
        help_ = f"a mini_batch_size below {hyperparameters.mini_batch_size}, or a smaller enc0_max_seq_len"
    elif tables > others:
        help_ = "a smaller token_embedding_dim or vocab_size, optimizer=sgd or token_embedding_storage_type=row_sparse"
    else:
        help_ = "a smaller enc_dim or mlp_dim, or optimizer=sgd"
    return f"{sizes}, and {optimizer}; {help_} would help"


def _is_lack_of_memory(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or bool(NO_MEMORY.search(str(error)))


def _weights(hyperparameters: Hyperparameters) -> tuple[int, int]:
    """Return the bytes of the token embeddings, and of all other weights."""
    first, second = (replace(encoder, vocab_size=0) for encoder in hyperparameters.encoders)
    network = network_of_shapes(replace(hyperparameters, encoders=(first, second)))
    tables = hyperparameters.rows_per_token * _table_bytes(_with_tables(hyperparameters))
    return tables, sum(parameter.nbytes for parameter in network.parameters())


def _with_tables(hyperparameters: Hyperparameters) -> Sequence[EncoderHyperparameters]:
    """Return the encoders that have a table of token embeddings of their own."""
    return hyperparameters.encoders[: hyperparameters.tables]


def _table_bytes(encoders: Sequence[EncoderHyperparameters]) -> int:
    return sum(4 * e.vocab_size * e.token_embedding_dim for e in encoders)


def _size(size: float) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e8 else f"{size / 1e6:.3g} MB"
