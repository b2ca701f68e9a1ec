"""The training loop: epochs of steps, each epoch judged, the best one kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from object2vec.data.batches import Batch, Batches
from object2vec.data.columns import empty
from object2vec.data.sequences import Pairs
from object2vec.errors import AlgorithmError
from object2vec.hyperparameters import Hyperparameters
from object2vec.model.network import Network
from object2vec.model.tokens import Tokens
from object2vec.training.averaging import WeightAverage
from object2vec.training.distributed import ALONE, Exchange, Group
from object2vec.training.early_stopping import EarlyStopping
from object2vec.training.objective import Metrics, Objective
from object2vec.training.optimizers import make_optimizers
from object2vec.training.report import Report

#: Pairs in a scoring batch, and how many tokens they may have at most: how many makes no difference to the scores, and
#: a job that trains in small batches because its sequences are long has no room for large ones here.
SCORING_SIZE = 512
SCORING_TOKENS = 32_768


@dataclass(slots=True, kw_only=True)
class Best:
    """The best epoch so far and its weights; before the first epoch ends, none."""

    epoch: int | None = None
    loss: float = math.inf
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, epoch: int, loss: float, network: Network) -> None:
        """Keep the network's weights if `loss` is the least so far."""
        if loss < self.loss:
            self.epoch, self.loss = epoch, loss
            for name, parameter in network.named_parameters():
                if parameter.requires_grad:
                    self._kept(name, parameter).copy_(parameter.detach())

    def _kept(self, name: str, parameter: Tensor) -> Tensor:
        """Where a parameter is kept: a large one on disk, as memory has no room for it twice."""
        if name not in self.weights:
            self.weights[name] = torch.from_numpy(empty(parameter.numel(), np.float32)).view_as(parameter)
        return self.weights[name]

    def restore(self, network: Network) -> None:
        """Give the network the best epoch's weights; where no epoch has ended it keeps those it has."""
        network.load_state_dict(self.weights, strict=False)


def output_of(network: Network, batch: Batch) -> tuple[Tensor, Tensor]:
    """The network's output (P, C) for a batch of P pairs, and their labels (P,)."""
    device = network.device
    tokens = Tokens.of(batch.objects[0], device), Tokens.of(batch.objects[1], device)
    index = torch.from_numpy(batch.index[0]).to(device), torch.from_numpy(batch.index[1]).to(device)
    output: Tensor = network(tokens, index)
    return output, torch.from_numpy(batch.labels).to(device)


@torch.inference_mode()
def evaluate(network: Network, pairs: Batches, objective: Objective, group: Group = ALONE) -> Metrics:
    """Metrics of the network on the pairs of all ranks, each counted once."""
    network.eval()
    metrics = Metrics(objective)
    for batch in pairs.in_order():
        output, labels = output_of(network, batch)
        metrics.add(objective.loss(output, labels).item(), output, labels)
    return metrics.of_all(group)


def scoring_batches(pairs: Pairs, hyperparameters: Hyperparameters, share: tuple[int, int] = (0, 1)) -> Batches:
    """Pairs cut for scoring."""
    longest = max(1, *(side.longest for side in pairs.sides))
    size = max(min(SCORING_SIZE, SCORING_TOKENS // longest), hyperparameters.mini_batch_size)
    return Batches(pairs, size=size, share=share)


def training_batches(
    pairs: Pairs, hyperparameters: Hyperparameters, share: tuple[int, int] = (0, 1), *, processes: int = 1
) -> Batches:
    """Pairs cut for training, with negatives and buckets as configured; `processes` have a batch between them."""
    return Batches(
        pairs,
        size=math.ceil(hyperparameters.mini_batch_size / processes),
        bucket_width=hyperparameters.bucket_width,
        negatives=hyperparameters.negative_sampling_rate,
        uniform_negatives=hyperparameters.negative_sampling_distribution == "uniform",
        seed=hyperparameters.seed,
        share=share,
    )


class Trainer:
    """Trains a network on pairs, together with the other ranks of a group, and reports on it."""

    def __init__(
        self, network: Network, hyperparameters: Hyperparameters, report: Report, group: Group = ALONE
    ) -> None:
        self.network = network
        self.hyperparameters = hyperparameters
        self.report = report
        self.group = group
        self.exchange = Exchange(group, network)
        self.objective = Objective(regression=hyperparameters.regression)
        self.optimizers: Sequence[torch.optim.Optimizer] = make_optimizers(network, hyperparameters)
        self.early_stopping = EarlyStopping(
            patience=hyperparameters.early_stopping_patience, tolerance=hyperparameters.early_stopping_tolerance
        )
        self.average = WeightAverage(network, hyperparameters.ema_decay) if hyperparameters.ema_decay else None
        self.best = Best()

    def fit(self, train: Batches, validation: Batches | None, stop: Callable[[], bool]) -> Best:
        """Train until the last epoch, until early stopping, or until `stop()` is true, which is asked each batch.

        The network is left with the best epoch's weights: the one of the least validation loss, or training loss
        where there is no validation. With `ema_decay` what is validated and kept is the average of the weights.

        Raises:
            AlgorithmError: the loss is no finite number.
        """
        judged = self.average.network if self.average else self.network
        for epoch in range(self.hyperparameters.epochs):
            started = time.time()
            metrics = self._train(epoch, train, stop)
            if self.group.any(stop()):
                break
            self.report.trained(epoch, metrics.values(), time.time() - started)
            loss = metrics.loss
            if validation:
                validated = evaluate(judged, validation, self.objective, self.group)
                self.report.validated(epoch, validated.values())
                loss = validated.loss
            _check_finite(loss, f"epoch {epoch}", self.hyperparameters)
            self.best.offer(epoch, loss, judged)
            self.report.epoch(epoch, metrics, started, self.early_stopping.judge(loss))
            if self.early_stopping.stop:
                self.report.stopped_early(epoch)
                break
        self.best.restore(self.network)
        return self.best

    def _train(self, epoch: int, train: Batches, stop: Callable[[], bool]) -> Metrics:
        self.network.train()
        metrics = Metrics(self.objective)
        own = self.exchange.batches(train.epoch(epoch), stop)
        batches = self.report.batches_of(epoch, own, train.examples, metrics)
        for number, batch in enumerate(batches):
            loss, output, labels = self._step(batch)
            _check_finite(loss, f"epoch {epoch}, batch {number}", self.hyperparameters)
            metrics.add(loss, output, labels)
        return metrics.of_all(self.group)

    def _step(self, batch: Batch) -> tuple[float, Tensor, Tensor]:
        output, labels = output_of(self.network, batch)
        loss = self.exchange.weighted(self.objective.loss(output, labels))
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        total = self.exchange.sum(loss.detach()).item()
        for optimizer in self.optimizers:
            optimizer.step()
        if self.average:
            self.average.update(self.network)
        return total, output.detach(), labels


def _check_finite(loss: float, where: str, hyperparameters: Hyperparameters) -> None:
    if not math.isfinite(loss):
        rate = hyperparameters.learning_rate
        raise AlgorithmError(f"The loss is {loss} in {where}: try a learning_rate below {rate}")
