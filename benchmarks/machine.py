"""What this machine could do at best, and what a workload asks of it at least.

The roofline: a batch takes no less time than its products of matrices at the measured peak, and no less than the rows
that it must read and write at the measured bandwidth of memory.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from object2vec.data.batches import Batch, Batches
from object2vec.data.sequences import Sequences
from object2vec.hyperparameters import EncoderHyperparameters, Hyperparameters
from object2vec.model.network import COMPARE, Network


@dataclass(frozen=True, slots=True)
class Machine:
    """Peaks that were measured, with the threads that training has."""

    flops: float  # a second, in products of matrices of float32
    bandwidth: float  # bytes a second, read and written together


@dataclass(frozen=True, slots=True)
class Demand:
    """What a batch of `pairs` asks for at least: only useful tokens, each distinct object encoded once."""

    pairs: float
    flops: float
    bytes: float

    def rate(self, machine: Machine) -> float:
        """The most pairs a second that the machine could do."""
        return self.pairs / max(self.flops / machine.flops, self.bytes / machine.bandwidth)

    def compute_bound(self, machine: Machine) -> bool:
        return self.flops / machine.flops > self.bytes / machine.bandwidth


def measure_machine(size: int = 2048, megabytes: int = 256) -> Machine:
    """The best of several short tries each."""
    a, b, c = (torch.randn(size, size) for _ in range(3))
    flops = 2 * size**3 / _best(lambda: torch.mm(a, b, out=c))
    table = torch.ones(megabytes * 2**18)
    bandwidth = 2 * megabytes * 2**20 / _best(lambda: table.mul_(1.0001))
    return Machine(flops, bandwidth)


def median_machine(machines: Sequence[Machine]) -> Machine:
    """What stands for several measurements: the same minutes that the implementations had, whatever else ran."""
    return Machine(statistics.median(m.flops for m in machines), statistics.median(m.bandwidth for m in machines))


def _best(run: Callable[[], object], tries: int = 4) -> float:
    """The least time of a call, in seconds."""
    times = []
    for _ in range(tries):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def demand_of(batches: Batches, network: Network, hyperparameters: Hyperparameters, *, look_at: int = 20) -> Demand:
    """The mean demand of the first batches of an epoch."""
    each = [_demand(batch, network, hyperparameters) for batch in islice(batches.epoch(0), look_at)]
    pairs, flops, amount = np.mean(each, axis=0)
    return Demand(float(pairs), float(flops), float(amount))


def _demand(batch: Batch, network: Network, hyperparameters: Hyperparameters) -> tuple[int, float, float]:
    weights = encoder_products = 0.0
    for side, encoder in enumerate(hyperparameters.encoders):
        encoder_products += _products(encoder, hyperparameters.enc_dim, batch.objects[side])
    width = hyperparameters.encoding_dim(0) * sum(len(COMPARE[name]) for name in hyperparameters.comparator_list)
    for _ in range(hyperparameters.mlp_layers):
        weights += width * hyperparameters.mlp_dim
        width = hyperparameters.mlp_dim
    weights += width * hyperparameters.scores
    # A product costs 2 operations a weight and row, and has two gradients.
    return len(batch), 6 * (encoder_products + weights * len(batch)), _bytes(batch, network, hyperparameters)


def _products(encoder: EncoderHyperparameters, dim: int, objects: Sequences) -> float:
    """Multiplications of the forward pass over these objects; the mean of embeddings has none to speak of."""
    tokens, lengths = len(objects.values), objects.lengths
    inputs, layers = encoder.token_embedding_dim, encoder.layers
    if encoder.network == "hcnn":
        widths = [dim // layers] * layers
        return tokens * encoder.cnn_filter_width * sum(i * o for i, o in zip([inputs, *widths], widths, strict=False))
    if encoder.network == "bilstm":
        units = dim // 2
        going_on = int(np.maximum(lengths - 1, 0).sum())  # the first step of a sequence has nothing behind it
        given = [inputs] + [dim] * (layers - 1)
        return sum(2 * 4 * units * (tokens * i + going_on * units) for i in given)
    return 0.0


def _bytes(batch: Batch, network: Network, hyperparameters: Hyperparameters) -> float:
    """What the optimizer must move: a number and its state, read and written, of each row and weight that it changes.

    A table that is not row_sparse is changed all over, as adam's moments never come to rest.
    """
    copies = {"adam": 3, "adagrad": 2, "rmsprop": 2, "sgd": 1, "adadelta": 3}[hyperparameters.optimizer]
    tables = {id(encoder.embedding): encoder.embedding for encoder in (network.enc0, network.enc1)}
    moved = sum(p.numel() for p in network.parameters()) - sum(t.weight.numel() for t in tables.values())
    for table in tables.values():
        sides = [batch.objects[side].values for side in (0, 1) if network.encoder(side).embedding is table]
        rows = len(np.unique(np.concatenate(sides))) if table.row_sparse else table.weight.shape[0]
        moved += rows * table.dim
    return 2.0 * 4 * copies * moved
