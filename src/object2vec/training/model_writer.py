"""Write the model of a training job, once."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from torch import Tensor

from object2vec import artifact
from object2vec.errors import AlgorithmError
from object2vec.retrieval.label_probabilities import LabelProbabilities
from object2vec.training.best_model import cpu_buffer, is_finite
from object2vec.training.checks import Job, auxiliary_files, schema_files
from object2vec.training.trainer import Trainer

logger = logging.getLogger(__name__)


class ModelWriter:
    """Writes the best epoch's model, or the current weights before one has ended; once, on rank 0 only.

    `write` may be called from another thread while a step runs. The model of the best epoch is always one whole epoch.
    Before an epoch has ended, a step may change the weights while they are copied. The model then loads and is finite,
    but some weights may be from before the step and others from after it.
    """

    def __init__(self, job: Job, trainer: Trainer) -> None:
        self.job = job
        self._files = auxiliary_files(job)
        self._schema_files = schema_files(job)
        self.trainer = trainer
        #: The calibration of the best epoch, for a model that gives labels.
        self.labels: LabelProbabilities | None = None
        self._lock = threading.Lock()
        self._written = False

    def write(self) -> None:
        with self._lock:
            if self.trainer.group.is_main and not self._written:
                with suppress(OSError):  # standard output may be a closed pipe or on a full disk
                    logger.info(f"Serializing model to {self.job.model_dir}")
                with self.trainer.best.lock:
                    self._save()
            self._written = True

    def _save(self) -> None:
        best, hyperparameters = self.trainer.best, self.job.hyperparameters
        metric = hyperparameters.early_stopping_metric
        epochs = 0 if best.epoch is None else best.epoch + 1
        artifact.save(
            self.job.model_dir,
            self.trainer.network,
            hyperparameters,
            training={
                "best_epoch": best.epoch,
                "watched": self.trainer.objective.monitor if metric == "loss" else metric,
                "best_loss": best.loss if epochs else None,  # JSON has no infinity
                "epochs": self.trainer.epochs_before + epochs,
                "history": self.trainer.history,
                **({"labels": self.labels.to_json()} if self.labels else {}),
            },
            vocabularies=self._schema_files
            | {e.vocab_file: self._files[e.vocab_file] for e in hyperparameters.encoders if e.vocab_file},
            weights=best.weights if epochs else self._current_weights(),
        )

    def _current_weights(self) -> dict[str, Tensor]:
        """Return a copy of the current weights.

        Raises:
            AlgorithmError: one of them is not finite.
        """
        copies = {
            name: cpu_buffer(weight).copy_(weight) for name, weight in self.trainer.network.trainable_weights.items()
        }
        for name, weight in copies.items():
            if not is_finite(weight):
                raise AlgorithmError(f"No model is written: {name} is not finite, and no epoch has ended")
        return copies
