"""Train a network: epochs of steps, evaluation after each epoch, the best epoch kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Any

import numpy as np
import torch

from object2vec.data.batches import Batch, Batches
from object2vec.data.prefetch import EpochPrefetcher
from object2vec.data.sequences import Pairs
from object2vec.errors import AlgorithmError, UserError
from object2vec.hyperparameters import Hyperparameters
from object2vec.model.network import Network
from object2vec.training.best_model import BestModel, is_finite
from object2vec.training.checkpoints import Checkpoint, Checkpoints
from object2vec.training.console import Totals
from object2vec.training.distributed import SINGLE_PROCESS, Group
from object2vec.training.divergence import Evidence, divergence_error, largest_embeddings, largest_labels
from object2vec.training.early_stopping import EarlyStopping
from object2vec.training.ema import WeightAverage
from object2vec.training.evaluation import evaluate, largest_output
from object2vec.training.gradient_sync import NO_PAIRS, GradientSync
from object2vec.training.initial_bias import start_at_labels, subtract_initial_scores
from object2vec.training.learning_rate import LearningRateSchedule
from object2vec.training.objective import Metrics, objective_of
from object2vec.training.optimizers import make_optimizers, zero_learning_rate
from object2vec.training.ranking_metrics import RankingMetrics
from object2vec.training.report import Report
from object2vec.training.step import AutogradStep, Step, StepResult, make_step
from object2vec.training.thread_tuner import ThreadTuner

#: A finished epoch: "epoch", and the metrics of "train" and "validation".
EpochRecord = dict[str, Any]


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
        sampled_candidates=hyperparameters.sampled_candidates if hyperparameters.ranks else None,
        in0_balance=hyperparameters.in0_balance,
    )


@dataclass(eq=False)
class Trainer:
    """Trains a network on pairs, together with the other ranks of a group, and reports on it.

    The initial weights were trained for `epochs_before` epochs. `epoch` is the current one. `batch` counts its batches
    so far, `seconds` their time, and `metrics` their loss and accuracy. `totals` are those of all epochs, and
    `reported` is the latest epoch whose metrics were reported. `history` has a record of each finished epoch;
    `on_epoch` is called with it.
    """

    network: Network
    hyperparameters: Hyperparameters
    report: Report
    group: Group = SINGLE_PROCESS
    checkpoints: Checkpoints | None = None
    epochs_before: int = 0
    on_epoch: Callable[[EpochRecord], object] | None = None
    ranking: RankingMetrics | None = None
    epoch: int = field(default=0, init=False)
    batch: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    totals: Totals = field(default=Totals(), init=False)
    reported: int | None = field(default=None, init=False)
    history: list[EpochRecord] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        network, hyperparameters, group = self.network, self.hyperparameters, self.group
        self.objective = objective_of(hyperparameters)
        self.optimizers: Sequence[torch.optim.Optimizer] = make_optimizers(network, hyperparameters)
        self.gradient_sync = GradientSync(group, network)
        self._threads = ThreadTuner(torch.get_num_threads() if group.device.type == "cpu" else 1)
        self.autograd_step = AutogradStep(
            network, self.objective, self.optimizers, self._threads, hyperparameters.gradient_clip_norm
        )
        self.step: Step = self.autograd_step
        if group.size == 1:
            self.step = make_step(network, self.optimizers, self.autograd_step, self._threads)
        self.schedule = LearningRateSchedule(
            hyperparameters.learning_rate_schedule, hyperparameters.learning_rate_warmup, hyperparameters.epochs
        )
        self.early_stopping = EarlyStopping(
            patience=hyperparameters.early_stopping_patience,
            tolerance=hyperparameters.early_stopping_tolerance,
            metric=hyperparameters.early_stopping_metric,
        )
        self.average = WeightAverage(network, hyperparameters.ema_decay) if hyperparameters.ema_decay else None
        self.best = BestModel(metric=hyperparameters.early_stopping_metric)
        self._ahead: EpochPrefetcher | None = None
        self.metrics = Metrics(self.objective)
        # New embeddings are small and need no check.
        given = self.epochs_before or any(encoder.pretrained_embedding_file for encoder in hyperparameters.encoders)
        self._first_embeddings = largest_embeddings(network) if given else {}

    @property
    def eval_network(self) -> Network:
        """The network that is validated and saved: with `ema_decay`, the one with the averaged weights."""
        return self.average.network if self.average else self.network

    def fit(self, train: Batches, validation: Batches | None, stop: Callable[[], bool]) -> BestModel:
        """Train until the last epoch, until early stopping, or until `stop()`, which is checked before each batch.

        The output layer of a network that has not been trained starts at the labels.

        The network then has the weights of the epoch with the lowest validation loss, or training loss if there is
        no validation; with `early_stopping_metric`, of the one with the highest value of it. With
        `ema_decay`, the averaged weights are validated and kept.

        Raises:
            AlgorithmError: the loss is not finite.
        """
        if not self.epochs_before and (self.epoch, self.batch) == (0, 0):
            start_at_labels(self.network.output_bias, train, self.objective, self.group)
            if self.network.starts_as_cosine and not self.objective.ranking:
                subtract_initial_scores(self.network, train, self.group)
        if not self.schedule.is_constant:
            batches = self.group.all_gather([train.examples / (train.size * train.stride)])
            self.schedule = replace(self.schedule, batches=math.ceil(max(batches)[0]))
        try:
            while self.epoch < self.hyperparameters.epochs and not self.early_stopping.stop:
                whole = self._train(train, stop) and self._finish_epoch(train, validation, stop)
                self._save_checkpoint()
                if not whole:
                    break
        finally:
            self._threads.restore()
        if self.early_stopping.stop:
            self.report.stopped_early(self.epoch - 1, self.early_stopping.metric)
        self.best.restore(self.network)
        return self.best

    def warm_up(self, train: Batches, stop: Callable[[], bool]) -> None:
        """Let the optimizers remember gradients as if they had trained the weights, in an epoch in which none moves.

        Their first steps would be too large else, and undo what the last epochs before have learned.

        Raises:
            AlgorithmError: the loss is not finite.
        """
        self.network.train()
        number = self.hyperparameters.epochs  # an order of its own
        with zero_learning_rate(self.optimizers):
            steps = self._steps(number, train.epoch(number), stop)
            for batch, ((_, loss, *_), _) in enumerate(steps):
                if not math.isfinite(loss):  # its gradients make weights NaN also at a rate of 0
                    raise self._diverged(f"The loss is {loss} in the warm-up epoch, batch {batch}", train)
        for optimizer in self.optimizers:  # adagrad sums squares up over all steps
            for known in optimizer.state.values():
                if "sum" in known:
                    known["sum"] *= self.epochs_before

    def _train(self, train: Batches, stop: Callable[[], bool]) -> bool:
        """Train the rest of the epoch; return False if a stop was requested."""
        self.network.train()
        started = time.time() - self.seconds
        steps = self._steps(self.epoch, self._batches_left(train), stop, done=self.batch)
        for (pairs, loss, correct, weight), checkpoint in self.report.batches_of(
            self.epoch, steps, train.examples, self.metrics, done=self.batch, before=self.seconds
        ):
            if not math.isfinite(loss):
                raise self._diverged(f"The loss is {loss} in epoch {self.epoch}, batch {self.batch}", train)
            self.metrics.add(loss, pairs, correct, weight)
            self.batch += 1
            self.seconds = time.time() - started
            if checkpoint:
                self._save_checkpoint()
        return not self.group.any_rank(stop())

    def _batches_left(self, train: Batches) -> Iterator[Batch]:
        """Return the batches left of the epoch; they are prefetched if steps leave a thread idle."""
        if self.step.threads(train.size) < self._threads.most:
            self._ahead = self._ahead or EpochPrefetcher(train)
        return (self._ahead or train).epoch(self.epoch, skip=self.batch)

    def _seed(self, epoch: int, batch: int) -> None:
        """Reseed the step of a batch from (seed, rank, epoch, batch)."""
        if self.hyperparameters.dropout or self.hyperparameters.token_dropout:
            place = self.hyperparameters.seed, self.group.rank, epoch, batch
            torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def _finish_epoch(self, train: Batches, validation: Batches | None, stop: Callable[[], bool]) -> bool:
        """Evaluate the epoch, update the best model and early stopping; return False if a stop was requested."""
        started = time.time() - self.seconds
        metrics = self.metrics.of_all(self.group)
        measured = {"train": metrics.values()}
        self.report.measured(self.epoch, "train", measured["train"], self.seconds)
        self.reported = self.epoch
        loss = metrics.loss
        if validation:
            validated = evaluate(self.eval_network, validation, self.objective, self.group, stop)
            if self.group.any_rank(stop()):
                return False
            measured["validation"] = validated.values()
            if self.ranking:
                value = self.ranking.measure(self.early_stopping.metric, self.eval_network, self.group)
                measured["validation"][self.early_stopping.metric] = value
            self.report.measured(self.epoch, "validation", measured["validation"], self.seconds)
            loss = validated.loss
        if not math.isfinite(loss):
            kind = "validation" if validation else "training"
            raise self._diverged(f"The {kind} loss is {loss} in epoch {self.epoch}", train, validation)
        metric = self.early_stopping.metric
        cost = loss if metric == "loss" else -measured["validation" if validation else "train"][metric]
        if cost < self.best.cost:
            self._check_weights(train)
        self.best.update_if_better(self.epoch, loss, self.eval_network, measured, cost)
        self.totals = Totals(self.totals.records + metrics.rows, self.totals.batches + metrics.batches)
        lines, best = self.early_stopping.judge(cost), self.best.epoch == self.epoch
        self.report.epoch(self.epoch, metrics, self.totals, started, lines, best=best)
        self.history.append({"epoch": self.epoch, **measured})
        if self.on_epoch:
            self.on_epoch(self.history[-1])
        self.epoch, self.batch, self.seconds = self.epoch + 1, 0, 0.0
        self.metrics = Metrics(self.objective)
        return True

    def _diverged(self, what: str, train: Batches, validation: Batches | None = None) -> AlgorithmError:
        """Return the error for a loss that is not finite, with `validation` that of validation; all ranks call it."""
        labels = {"validation": validation.labels} if validation else {}
        evidence = Evidence(
            hyperparameters=self.hyperparameters,
            trained=(self.epoch, self.batch) > (0, 0),
            labels=largest_labels({**labels, "train": train.labels}, self.group),
            embeddings=self._first_embeddings,
            prediction=largest_output(self.eval_network, validation) if validation else None,
        )
        return divergence_error(what, evidence)

    def _check_weights(self, train: Batches) -> None:
        """Check that weights are finite; the last steps of an epoch have not shown in a loss."""
        for name, weight in self.eval_network.trainable_weights.items():
            if not is_finite(weight):
                what = f"{name} is no longer finite after epoch {self.epoch}, batch {self.batch - 1}"
                raise self._diverged(what, train)  # all ranks have these weights

    def _save_checkpoint(self) -> None:
        """Write a checkpoint, if the job has checkpoints; all ranks call this."""
        if self.checkpoints and (self.epoch or self.batch):
            self.checkpoints.save(self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return all that decides the rest of training, by reference; all ranks call this.

        Batches and random numbers depend on seed, epoch and batch alone, so they are not part of it.
        """
        tensors = self._weights
        optimizers: list[dict[str, dict[str, Any]]] = []
        for number, optimizer in enumerate(self.optimizers):
            optimizers.append({})
            for index, entries in optimizer.state_dict()["state"].items():
                rest = {name: entry for name, entry in entries.items() if not isinstance(entry, torch.Tensor)}
                optimizers[-1][str(index)] = rest
                names = entries.keys() - rest.keys()
                tensors |= {f"optimizer.{number}.{index}.{name}": entries[name] for name in names}
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "tensors": tensors,
            "seconds": self.seconds,
            "history": self.history,
            "metrics": self.group.all_gather(self.metrics.numbers),
            "kinds": self._optimizer_kinds,
            "optimizers": optimizers,
            **(self.average.state_dict() if self.average else {}),
            **self.best.state_dict(),
            **self.early_stopping.state_dict(),
            **self.totals._asdict(),
            "latest": self.reported,
        }

    @property
    def _weights(self) -> dict[str, torch.Tensor]:
        """The current, best and averaged weights, by their names in a checkpoint."""
        parts = {"weights": self.network.trainable_weights, "best": self.best.weights}
        if self.average:
            parts["average"] = self.average.network.trainable_weights
        return {f"{part}.{name}": weight for part, named in parts.items() for name, weight in named.items()}

    def load_state_dict(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint of the same configuration; all ranks call this.

        Raises:
            UserError: it has trained for longer than this job may, or its optimizers keep other state.
        """
        epochs, values = self.hyperparameters.epochs, checkpoint.values
        if values.get("kinds") != self._optimizer_kinds:
            what = f"the checkpoint {checkpoint.name} was written on another kind of device, or by another object2vec"
            raise UserError(f"{what}; wanted the same, or another folder for checkpoints")
        if (values["epoch"], values["batch"]) > (epochs, 0):
            past = f"the checkpoint {checkpoint.name} is past epoch {epochs - 1}"
            raise UserError(f"epochs is {epochs}, and {past}, wanted more epochs")
        self.best.load_state_dict(values, self.network)
        if self.average:
            self.average.load_state_dict(values)
        for name, weight in self._weights.items():
            checkpoint.read(name, weight)
        for number, optimizer in enumerate(self.optimizers):
            state = {int(index): dict(rest) for index, rest in values["optimizers"][number].items()}
            for full in checkpoint.names(f"optimizer.{number}."):
                index, name = full.split(".")[2:]
                state[int(index)][name] = checkpoint.new(full)
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        self.early_stopping.load_state_dict(values)
        self.totals, self.reported = Totals(values["records"], values["batches"]), values["latest"]
        self.epoch, self.batch, self.seconds = values["epoch"], values["batch"], values["seconds"]
        self.history = values.get("history", [])  # a checkpoint of an older version has none
        self.metrics = Metrics(self.objective, values["metrics"][self.group.rank])

    @property
    def _optimizer_kinds(self) -> list[str]:
        """The classes of the optimizers, which depend on the device; each keeps its own state."""
        return [type(optimizer).__name__ for optimizer in self.optimizers]

    def _steps(
        self, epoch: int, batches: Iterator[Batch], stop: Callable[[], bool], done: int = 0
    ) -> Iterator[tuple[StepResult, bool]]:
        """Take a step for each batch of an epoch after the first `done` ones, until `stop()` is true on any rank.

        Yields each result, and whether to write a checkpoint after it.
        """
        if self.group.size > 1:
            yield from self._steps_with_ranks(epoch, batches, stop, done)
            return
        batches = takewhile(lambda _: not stop(), batches)
        size = 1 if self.average else self.step.batches_per_call(self.hyperparameters.mini_batch_size)
        while some := list(islice(batches, size)):
            checkpoint = self._checkpoint_due
            self._seed(epoch, done)
            *results, last = self.step(some, [self.schedule.factor(epoch, done + i) for i in range(len(some))])
            if self.average:
                self.average.update(self.network)
            done += len(some)
            yield from ((result, False) for result in results)
            yield last, checkpoint  # weights are those after the last batch

    def _steps_with_ranks(
        self, epoch: int, batches: Iterator[Batch], stop: Callable[[], bool], done: int
    ) -> Iterator[tuple[StepResult, bool]]:
        """Take the steps of this rank's batches, then of no pairs until every rank has finished its own."""
        batch = next(batches, NO_PAIRS)
        agreed = self.gradient_sync.agree(pairs=len(batch), weight=batch.weight, stop=stop())
        while agreed.pairs and not agreed.stop:
            following = next(batches, NO_PAIRS)
            self._seed(epoch, done)
            share = batch.weight / agreed.weight if agreed.weight else 0.0
            loss, correct = self.autograd_step.backward(batch, share)
            agreed = self.gradient_sync.agree(
                pairs=len(following),
                weight=following.weight,
                stop=stop(),
                checkpoint=self._checkpoint_due,
                loss=loss.item(),
                row_counts=self.gradient_sync.compact(),
            )
            self.gradient_sync.sum(agreed.row_counts)
            self.autograd_step.update(batch, self.schedule.factor(epoch, done))
            if self.average:
                self.average.update(self.network)
            done += 1
            yield StepResult(len(batch), agreed.loss, correct, batch.weight), agreed.checkpoint
            batch = following

    @property
    def _checkpoint_due(self) -> bool:
        return self.checkpoints is not None and self.checkpoints.due
