"""All that decides the rest of a training, taken out of a trainer and put back into one.

Which pairs a batch has, and what is random in a step, hangs on seed, epoch and batch alone, and is none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from object2vec.errors import UserError
from object2vec.training.checkpoints import Saved, State
from object2vec.training.objective import Metrics

if TYPE_CHECKING:
    from object2vec.training.trainer import Trainer


def collect(trainer: Trainer, metrics: Sequence[Sequence[float]]) -> State:
    """A trainer's state, as references; `metrics` are the numbers of each rank's."""
    tensors = {f"weights.{name}": weight for name, weight in trainer.network.moving.items()}
    tensors |= {f"best.{name}": weight for name, weight in trainer.best.weights.items()}
    if trainer.average:
        tensors |= {f"average.{name}": weight for name, weight in trainer.average.network.moving.items()}
    known: list[dict[str, dict[str, Any]]] = []
    for number, optimizer in enumerate(trainer.optimizers):
        known.append({})
        for place, parts in optimizer.state_dict()["state"].items():
            rest = {name: part for name, part in parts.items() if not isinstance(part, Tensor)}
            known[-1][str(place)] = rest
            tensors |= {f"optimizer.{number}.{place}.{name}": parts[name] for name in parts.keys() - rest.keys()}
    values = {
        "seconds": trainer.seconds,
        "metrics": metrics,
        "kinds": _kinds(trainer),
        "optimizers": known,
        "average_steps": trainer.average.steps if trainer.average else 0,
        "best_epoch": trainer.best.epoch,
        "best_loss": None if trainer.best.epoch is None else trainer.best.loss,
        "best_metrics": trainer.best.metrics,
        "losses": trainer.early_stopping.losses,
        "bad": trainer.early_stopping.bad,
        "records": trainer.report.records,
        "batches": trainer.report.batches,
        "latest": trainer.report.latest,
    }
    return State(epoch=trainer.epoch, batch=trainer.batch, tensors=tensors, values=values)


def restore(trainer: Trainer, saved: Saved) -> None:
    """Let a trainer go on from a checkpoint, which must be one of its configuration.

    Raises:
        UserError: it has trained for longer than this job is to, or with optimizers that keep other things.
    """
    epochs, values = trainer.hyperparameters.epochs, saved.values
    if values.get("kinds") != _kinds(trainer):
        what = f"the checkpoint {saved.name} was written on another kind of device, or by another object2vec"
        raise UserError(f"{what}; wanted the same, or another folder for checkpoints")
    if (saved.epoch, saved.batch) > (epochs, 0):
        past = f"the checkpoint {saved.name} is past epoch {epochs - 1}"
        raise UserError(f"epochs is {epochs}, and {past}, wanted more epochs")
    for name, weight in trainer.network.moving.items():
        saved.read(f"weights.{name}", weight)
    if trainer.average:
        trainer.average.steps = values["average_steps"]
        for name, weight in trainer.average.network.moving.items():
            saved.read(f"average.{name}", weight)
    for number, optimizer in enumerate(trainer.optimizers):
        known = {int(place): dict(rest) for place, rest in values["optimizers"][number].items()}
        for full in saved.names(f"optimizer.{number}."):
            place, name = full.split(".")[2:]
            known[int(place)][name] = saved.new(full)
        optimizer.load_state_dict({"state": known, "param_groups": optimizer.state_dict()["param_groups"]})
    best, stopping, report = trainer.best, trainer.early_stopping, trainer.report
    if values["best_epoch"] is not None:
        best.epoch, best.loss, best.metrics = values["best_epoch"], values["best_loss"], values["best_metrics"]
        for name, weight in trainer.network.moving.items():
            saved.read(f"best.{name}", best.buffer_for(name, weight))
    stopping.losses, stopping.bad = values["losses"], values["bad"]
    report.records, report.batches, report.latest = values["records"], values["batches"], values["latest"]
    trainer.epoch, trainer.batch, trainer.seconds = saved.epoch, saved.batch, values["seconds"]
    trainer.metrics = Metrics.of(trainer.objective, values["metrics"][trainer.group.rank])


def _kinds(trainer: Trainer) -> list[str]:
    """The optimizers: each kind keeps things of its own, and which it is hangs on the device too."""
    return [type(optimizer).__name__ for optimizer in trainer.optimizers]
