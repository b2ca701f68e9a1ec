"""The log lines of a job, in the exact form of the built-in algorithm, which metric definitions and tuning parse.

Each line is flushed, and none is rewritten. `make_report` chooses between these lines and those of `console`.
"""

# ruff: noqa: ARG002 -- the methods are those of ConsoleReport, which needs other arguments
from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from object2vec.hyperparameters.table import RANKING_METRICS
from object2vec.training.console import ConsoleHandler, ConsoleReport, Totals, write

if TYPE_CHECKING:
    from object2vec.training.best_model import BestModel
    from object2vec.training.objective import Metrics

Item = TypeVar("Item")
#: The built-in's lines; a table of epochs with a progress bar; the table alone; warnings and errors alone.
Style = Literal["sagemaker", "bar", "plain", "quiet"]

logger = logging.getLogger("object2vec.training")

#: An epoch's progress is printed each time as many batches are done.
BATCHES_A_LINE: Final = 100
TITLES: Final = {"train": "Training", "validation": "Validation"}
STARS: Final = "*" * 14
PREFIXED: Final = logging.Formatter("[%(asctime)s %(levelname)s %(thread)d] %(message)s", "%m/%d/%Y %H:%M:%S")


class LineHandler(logging.Handler):
    """Writes each record to standard output as the built-in does: `[month/day/year time LEVEL thread] text`."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        write(text if text.startswith("#metrics") else PREFIXED.format(record), sys.stdout)


def log_as(style: Style) -> None:
    """Print the package's log in a style; a second call replaces the style."""
    root = logging.getLogger("object2vec")
    root.setLevel(logging.INFO if style == "sagemaker" else logging.WARNING)
    root.propagate = False
    root.handlers = [other for other in root.handlers if not isinstance(other, LineHandler | ConsoleHandler)]
    root.addHandler(LineHandler() if style == "sagemaker" else ConsoleHandler())


def make_report(style: Style, *, host: str, epochs: int, model_dir: Path, silent: bool = False) -> Report:
    """Return the report of a job in a style; a `silent` one is for ranks that print nothing."""
    if style == "sagemaker" and not silent:
        return SageMakerReport(host=host, epochs=epochs)
    quiet = silent or style == "quiet"
    return ConsoleReport(epochs=epochs, model_dir=model_dir, bar=style == "bar" and not silent, quiet=quiet)


@dataclass(kw_only=True)
class SageMakerReport:
    """Prints the built-in's lines of one job."""

    host: str
    epochs: int

    def batches_of(
        self, epoch: int, batches: Iterable[Item], examples: int, metrics: Metrics, *, done: int = 0, before: float = 0
    ) -> Iterator[Item]:
        """Yield the batches and print a progress line every hundred; `metrics` are those of the epoch so far.

        `done` batches of the epoch took `before` seconds in an interrupted job.
        """
        started = time.perf_counter() - before
        for number, batch in enumerate(batches, start=done + 1):
            yield batch
            if number % BATCHES_A_LINE == 0:
                self._progress(epoch, number, metrics, time.perf_counter() - started)

    def _progress(self, epoch: int, batches: int, metrics: Metrics, seconds: float) -> None:
        rate = metrics.rows / seconds
        logger.info(
            f"Epoch: {epoch}, batches: {batches}, num_examples: {metrics.rows}, {rate:.1f} samples/sec, "
            f"epoch time so far: {timedelta(seconds=seconds)}"
        )
        logger.info(f"\tTraining metrics: {_short(metrics.values())}")

    def measured(self, epoch: int, channel: str, metrics: Mapping[str, float], seconds: float) -> None:
        """Print the metrics of an epoch on the train or validation channel, and the seconds that it took."""
        if channel == "train":
            logger.info(STARS)
            logger.info(f"Completed Epoch: {epoch}, time taken: {timedelta(seconds=seconds)}")
        logger.info(f"Epoch {epoch} {f'{TITLES[channel]} metrics:':<19} {_short(metrics)}")
        self._quality(f"epoch={epoch}, {channel}", metrics)

    def epoch(
        self, epoch: int, metrics: Metrics, totals: Totals, started: float, lines: Iterable[str], *, best: bool = False
    ) -> None:
        """Print the `lines` of early stopping and the counts of an epoch; `started` is a time.time()."""
        ended = time.time()
        lines_from = time.perf_counter()
        for line in lines:
            logger.info(line)
        logger.info(STARS)
        early_stop_milliseconds = 1000 * (time.perf_counter() - lines_from)
        update = 1000 * (ended - started)
        times = {"epochs": self.epochs, "early_stop.time": early_stop_milliseconds, "update.time": update}
        self._metrics(started, ended, times)
        logger.info(f"#progress_metric: host={self.host}, completed {100 * (epoch + 1) / self.epochs} % of epochs")
        seen = {
            "Total Records Seen": totals.records,
            "Total Batches Seen": totals.batches,
            "Max Records Seen Between Resets": metrics.rows,
            "Max Batches Seen Between Resets": metrics.batches,
            "Reset Count": epoch + 1,
            "Number of Records Since Last Reset": metrics.rows,
            "Number of Batches Since Last Reset": metrics.batches,
        }
        self._metrics(started, ended, seen, epoch=epoch, Meta="training_data_iter")
        throughput = metrics.rows / (ended - started)
        logger.info(f"#throughput_metric: host={self.host}, train throughput={throughput} records/second")

    def stopped_early(self, epoch: int, metric: str = "loss") -> None:
        logger.info(f"Early stopping criterion met! Stopping training at epoch: {epoch}")
        logger.info("Early stop condition met. Stopping training.")
        logger.info(f"#progress_metric: host={self.host}, completed 100 % epochs")

    def best(self, best: BestModel, *, repeat: bool = False) -> None:
        """Print which epoch's model is kept; with `repeat`, also its metrics by channel.

        A tuning job uses the value that is printed last, so `repeat` is for a best epoch that was not printed last.
        """
        value = best.loss if best.metric == "loss" else -best.cost
        logger.info(f"Best model based on epoch {best.epoch}. Best {best.metric}: {value:.3f}")
        for channel, values in best.metrics.items() if repeat else ():
            logger.info(f"Best epoch {best.epoch}: {TITLES[channel]} metrics: {_short(values)}")
            self._quality(f"epoch={best.epoch}, {channel}", values)

    def tested(self, metrics: Metrics, size: int) -> None:
        """Print the metrics of the test channel, which was scored in batches of `size`."""
        values = metrics.values()
        logger.info(f"Finished scoring on {metrics.rows} examples from {metrics.batches} batches, each of size {size}.")
        logger.info(f"Test Metrics:{_short(values)}")
        logger.info(f"Test Metric names:{list(values)}")
        logger.info(f"Test Metric values:{list(values.values())}")
        logger.info(f"Test Metric names and values:{list(values.items())}")
        for item in values.items():
            logger.info(f"#test_score ({self.host}) : {item}")
        self._quality("test", values)

    def finished(self, started: float, milliseconds: Mapping[str, float]) -> None:
        """Print how long each part of the job took."""
        self._metrics(started, time.time(), milliseconds)

    def _quality(self, what: str, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if name != "perplexity":
                kind = "score" if name in ("accuracy", *RANKING_METRICS) else "loss"
                logger.info(f"#quality_metric: host={self.host}, {what} {name} <{kind}>={value}")

    def _metrics(self, started: float, ended: float, values: Mapping[str, float], **dimensions: Any) -> None:
        document = {
            "StartTime": started,
            "EndTime": ended,
            "Dimensions": {"Algorithm": "ObjectToVec", "Host": self.host, "Operation": "training", **dimensions},
            "Metrics": {
                name: {"sum": float(value), "count": 1, "min": value, "max": value} for name, value in values.items()
            },
        }
        logger.info(f"#metrics {json.dumps(document)}\n")


def _short(metrics: Mapping[str, float]) -> str:
    """Return the metrics with three digits and a space after each."""
    return "".join(f"{name}: {value:.3f} " for name, value in metrics.items())


Report = SageMakerReport | ConsoleReport
