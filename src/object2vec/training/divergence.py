"""Explain why training diverged: the value that is not finite, and the causes that were checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np
import torch

from object2vec.array_types import Float32
from object2vec.errors import AlgorithmError
from object2vec.hyperparameters import TABLE, Hyperparameters
from object2vec.hyperparameters.kinds import Real
from object2vec.model.network import Network
from object2vec.training.distributed import Group

#: Labels, embeddings and predictions above this are named as a cause: those of a model that trains well are far below.
LARGE_VALUE: Final = 1e3
#: Errors above this overflow float32 when they are squared.
MAX_SQUARABLE: Final = float(np.sqrt(np.finfo(np.float32).max))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Facts about a training in which a loss or a weight is not finite.

    `labels` are the largest |label| of each channel, `embeddings` the largest |value| of each table before training.
    `trained` says that a step has been made with a finite loss. `prediction` is the largest |prediction| of validation.
    """

    hyperparameters: Hyperparameters
    trained: bool
    labels: Mapping[str, float] = field(default_factory=dict)
    embeddings: Mapping[str, float] = field(default_factory=dict)
    prediction: float | None = None


class Cause(NamedTuple):
    """A fact that explains why training diverged, and what to do about it."""

    fact: str
    advice: str
    sure: bool  # whether it makes training diverge at any learning rate


def divergence_error(what: str, evidence: Evidence) -> AlgorithmError:
    """Return the error that says `what` is not finite and lists the causes that were found."""
    causes = list(_causes(evidence))
    facts = [cause.fact for cause in causes]
    alternatives = [" and ".join(cause.advice for cause in causes)] if causes else []
    if not any(cause.sure for cause in causes) and _can_lower_rate(evidence):
        alternatives.append(f"try a learning_rate below {evidence.hyperparameters.learning_rate}")
        if evidence.prediction is not None and evidence.prediction > LARGE_VALUE:
            facts.append(f"the largest |prediction| is {evidence.prediction:.3g}")
    if not alternatives:
        return AlgorithmError(f"{what}, and no cause was found: {', '.join(_values(evidence))}")
    return AlgorithmError(f"{what}: {'; '.join(filter(None, (' and '.join(facts), ', or '.join(alternatives))))}")


def _causes(evidence: Evidence) -> Iterator[Cause]:
    """Yield the causes that were checked and found."""
    hyperparameters = evidence.hyperparameters
    large = ((channel, label) for channel, label in evidence.labels.items() if label > LARGE_VALUE)
    if hyperparameters.squared_error and (found := next(large, None)):
        channel, label = found
        fact = f"the largest |label| of channel {channel} is {label:.3g}"
        yield Cause(fact, "scale the labels", label > MAX_SQUARABLE / math.sqrt(hyperparameters.mini_batch_size))
    name, value = max(evidence.embeddings.items(), key=itemgetter(1), default=("", 0.0))
    if value > LARGE_VALUE:
        fact = f"the largest |value| of {name}'s token embeddings was {value:.3g} at the start"
        yield Cause(fact, "scale the embeddings", sure=True)
    rate, decay = hyperparameters.learning_rate, hyperparameters.weight_decay
    if hyperparameters.optimizer == "sgd" and rate * decay > 1:
        factor = f"{1 - rate * decay:g} in each step (1 - {rate:g} * {decay:g})"
        fact = f"weight_decay alone multiplies the weights by {factor}"
        yield Cause(fact, f"try a weight_decay below {1 / rate:g}", rate * decay > 2)  # steps make weights larger


def _can_lower_rate(evidence: Evidence) -> bool:
    """Return whether the learning rate made a step, and may be lower than it is."""
    rate = TABLE["learning_rate"].kind
    is_least = isinstance(rate, Real) and evidence.hyperparameters.learning_rate <= rate.low
    return evidence.trained and not is_least and evidence.hyperparameters.optimizer != "adadelta"


def _values(evidence: Evidence) -> Iterator[str]:
    yield f"learning_rate is {evidence.hyperparameters.learning_rate}"
    yield f"weight_decay is {evidence.hyperparameters.weight_decay}"
    if evidence.hyperparameters.squared_error:
        yield from (f"the largest |label| of channel {name} is {label:.3g}" for name, label in evidence.labels.items())
    if evidence.prediction is not None:
        yield f"the largest |prediction| is {evidence.prediction:.3g}"


def largest(numbers: Float32) -> float:
    """Return the largest absolute value; 0 if there are no numbers."""
    return max(float(numbers.max(initial=0)), -float(numbers.min(initial=0)))


def largest_labels(labels: Mapping[str, Float32], group: Group) -> dict[str, float]:
    """Return the largest |label| of each channel on all ranks."""
    by_rank = group.all_gather([largest(of_channel) for of_channel in labels.values()])
    return dict(zip(labels, map(max, zip(*by_rank, strict=True)), strict=True))


def largest_embeddings(network: Network) -> dict[str, float]:
    """Return the largest |value| of each table of token embeddings, by the encoder that has it."""
    ends = [torch.aminmax(table.weight.detach()) for table in network.tables]
    return {f"enc{side}": max(-float(low), float(high)) for side, (low, high) in enumerate(ends)}
