"""The roofline: peak rates of this machine, and the minimum work of a workload.

A batch needs at least the time of its matrix products at the measured peak. It also needs at least the time to read and
write its rows at the measured memory bandwidth.
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
from object2vec.model.network import TERMS_OF_COMPARATOR, Network


@dataclass(frozen=True, slots=True)
class Machine:
    """Measured peak rates, with the threads of training."""

    flops: float  # per second, in float32 matrix products
    bandwidth: float  # bytes per second, reads and writes together


@dataclass(frozen=True, slots=True)
class Demand:
    """The minimum work of a batch of `pairs`: no padding, and each unique object encoded once."""

    pairs: float
    flops: float
    bytes: float

    def rate(self, machine: Machine) -> float:
        """Return the maximum pairs per second on this machine."""
        return self.pairs / max(self.flops / machine.flops, self.bytes / machine.bandwidth)

    def compute_bound(self, machine: Machine) -> bool:
        return self.flops / machine.flops > self.bytes / machine.bandwidth


def measure_machine(size: int = 2048, megabytes: int = 256) -> Machine:
    """Measure both peaks, each as the best of several short runs."""
    a, b, c = (torch.randn(size, size) for _ in range(3))
    flops = 2 * size**3 / _best(lambda: torch.mm(a, b, out=c))
    table = torch.ones(megabytes * 2**18)
    bandwidth = 2 * megabytes * 2**20 / _best(lambda: table.mul_(1.0001))
    return Machine(flops, bandwidth)


def median_machine(machines: Sequence[Machine]) -> Machine:
    """Return the median of measurements that were taken between those of the implementations."""
    return Machine(statistics.median(m.flops for m in machines), statistics.median(m.bandwidth for m in machines))


def _best(run: Callable[[], object], tries: int = 4) -> float:
    """Return the minimum time of a call, in seconds."""
    times = []
    for _ in range(tries):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def demand_of(batches: Batches, network: Network, hyperparameters: Hyperparameters, *, look_at: int = 20) -> Demand:
    """Return the mean demand of the first batches of an epoch."""
    each = [_demand(batch, network, hyperparameters) for batch in islice(batches.epoch(0), look_at)]
    pairs, flops, amount = np.mean(each, axis=0)
    return Demand(float(pairs), float(flops), float(amount))


def _demand(batch: Batch, network: Network, hyperparameters: Hyperparameters) -> tuple[int, float, float]:
    weights = encoder_products = 0.0
    for side, encoder in enumerate(hyperparameters.encoders):
        encoder_products += _products(encoder, hyperparameters.enc_dim, batch.objects[side])
    width = hyperparameters.encoding_dim(0) * sum(
        len(TERMS_OF_COMPARATOR[name]) for name in hyperparameters.comparator_list
    )
    for _ in range(hyperparameters.mlp_layers):
        weights += width * hyperparameters.mlp_dim
        width = hyperparameters.mlp_dim
    weights += width * hyperparameters.scores
    if hyperparameters.ranks:  # all in0 with all in1
        encoder_products += len(batch.objects[0]) * len(batch.objects[1]) * width
    # A product costs 2 operations per weight and row, and has two gradients of the same cost.
    return len(batch), 6 * (encoder_products + weights * len(batch)), _bytes(batch, network, hyperparameters)


def _products(encoder: EncoderHyperparameters, dim: int, objects: Sequences) -> float:
    """Count the multiplications of an encoder's forward pass; the mean of embeddings has almost none."""
    tokens, lengths = len(objects.values), objects.lengths
    inputs, layers = encoder.token_embedding_dim, encoder.layers
    if encoder.network == "hcnn":
        widths = [dim // layers] * layers
        return tokens * encoder.cnn_filter_width * sum(i * o for i, o in zip([inputs, *widths], widths, strict=False))
    if encoder.network == "bilstm":
        units = dim // 2
        recurrent_steps = int(np.maximum(lengths - 1, 0).sum())  # the first step has a zero hidden state
        given = [inputs] + [dim] * (layers - 1)
        return sum(2 * 4 * units * (tokens * i + recurrent_steps * units) for i in given)
    return 0.0


def _bytes(batch: Batch, network: Network, hyperparameters: Hyperparameters) -> float:
    """Count the bytes that the optimizer reads and writes: each updated weight and its state.

    A table that is not row_sparse is updated completely, because Adam's moments never reach zero.
    """
    copies = {"adam": 3, "adagrad": 2, "rmsprop": 2, "sgd": 1, "adadelta": 3}[hyperparameters.optimizer]
    tables = {id(encoder.embedding): encoder.embedding for encoder in (network.enc0, network.enc1)}
    moved = sum(p.numel() for p in network.parameters()) - sum(t.weight.numel() for t in tables.values())
    for table in tables.values():
        sides = [batch.objects[side].values for side in (0, 1) if network.encoder(side).embedding is table]
        rows = len(np.unique(np.concatenate(sides))) if table.row_sparse else table.weight.shape[0]
        moved += rows * table.dim
    return 2.0 * 4 * copies * moved
