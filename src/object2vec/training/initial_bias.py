"""The initial bias of the output layer: from zero, the first epochs only learn how common each label is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor

from object2vec.array_types import Float64
from object2vec.data.batches import Batches
from object2vec.data.sequences import Sequences
from object2vec.model.network import Network
from object2vec.training.distributed import Group
from object2vec.training.objective import Objective, forward_batch

#: Pairs that are counted at a time: memory is needed for them, not for the channel.
BLOCK_PAIRS: Final = 2**20


@torch.no_grad()
def start_at_labels(bias: Tensor, train: Batches, objective: Objective, group: Group) -> None:
    """Set the bias of an output layer (C,) to the best constant output for the training pairs of all ranks.

    That is the mean label for regression, the log of each class's share for classes, and the log odds of it where a
    pair can have several. A class without pairs has the share of one. Sampled negatives count with label 0, and pairs
    by their weights. A ranking loss needs no such start.
    """
    if objective.ranking:
        return
    sums, total = np.zeros(len(bias)), 0.0  # of weights by class, or of weighted labels; and of weights
    for labels, weights, classes in _blocks(train):
        negatives = train.sampler.rate * weights[labels >= 1].sum() if train.sampler else 0
        total += weights.sum() + negatives
        if objective.regression:
            sums += labels @ weights
        elif classes is not None:
            sums += np.bincount(classes.values, np.repeat(weights, classes.lengths), len(bias))
        else:
            sums += np.bincount(labels.astype(np.int64), weights, len(bias))
            sums[0] += negatives
    pairs, total, *of_all = group.sum([train.examples / train.stride, total, *sums])
    means = torch.tensor(of_all, dtype=torch.float64) / total
    shares = means.where(means > 0, 1 / pairs)
    if objective.sigmoid:
        bias.copy_(shares.clamp(1 / (pairs + 1), 1 - 1 / (pairs + 1)).logit())
    else:
        bias.copy_(means if objective.regression else shares.log())


@torch.no_grad()
def subtract_initial_scores(network: Network, train: Batches, group: Group) -> None:
    """Lower the bias of a regression by the mean score of the first batches of all ranks, without the bias.

    A new network's scores are close to its bias, except for those by a cosine.
    """
    network.eval()
    batch = next(iter(train.epoch(0)), None)
    outputs = forward_batch(network, batch)[0] - network.output_bias if batch else network.output_bias[:0]
    total, count = group.sum([outputs.double().sum().item(), len(outputs)])
    network.output_bias.sub_(total / count)
    network.train()


def _blocks(train: Batches) -> Iterator[tuple[Float64, Float64, Sequences | None]]:
    """Yield labels of pairs, the weights of these pairs, and their classes where a pair can have several."""
    for start in range(0, len(train.labels), BLOCK_PAIRS):
        labels = train.labels[start : start + BLOCK_PAIRS].astype(np.float64)
        weights = None if train.weights is None else train.weights[start : start + BLOCK_PAIRS].astype(np.float64)
        classes = None if train.classes is None else train.classes.slice(start, start + BLOCK_PAIRS)
        yield labels, np.ones(len(labels)) if weights is None else weights, classes
