"""The output of a job on a terminal: a progress bar and a table of epochs."""

# ruff: noqa: ARG002 -- the methods are those of SageMakerReport, which needs other arguments
from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO, TypeVar

from tqdm import tqdm

from object2vec.hyperparameters.table import RANKING_METRICS

if TYPE_CHECKING:
    from object2vec.training.best_model import BestModel
    from object2vec.training.objective import Metrics

Item = TypeVar("Item")

BAR: Final = "{desc}: {percentage:3.0f}%|{bar}| {rate_fmt}, {remaining} left{postfix}"
#: The metrics of the table, and the titles of their columns.
COLUMNS: Final = {"cross_entropy": "loss", "mean_squared_error": "loss", "accuracy": "accuracy"} | {
    name: name for name in RANKING_METRICS
}
#: Characters of a metric's column.
WIDTH: Final = 12


class ConsoleHandler(logging.Handler):
    """Writes each record to standard error as `object2vec: level: text`, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        write(f"object2vec: {record.levelname.lower()}: {self.format(record)}", sys.stderr)


def write(text: str, stream: TextIO) -> None:
    """Write a line above a progress bar, and flush it; characters that the stream's encoding lacks are escaped."""
    encoding = stream.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)
    stream.flush()


class Totals(NamedTuple):
    """Counts over the epochs of a job so far."""

    records: int = 0
    batches: int = 0


@dataclass(kw_only=True)
class ConsoleReport:
    """The report of one job: a table on standard output unless `quiet`; with `bar` a bar on standard error.

    Its methods are those of `SageMakerReport`.
    """

    epochs: int
    model_dir: Path
    bar: bool = False
    quiet: bool = False
    _measured: dict[str, Mapping[str, float]] = field(default_factory=dict)  # the columns of the epoch, by channel
    _seconds: float = 0.0
    _has_titles: bool = False

    def batches_of(
        self, epoch: int, batches: Iterable[Item], examples: int, metrics: Metrics, *, done: int = 0, before: float = 0
    ) -> Iterator[Item]:
        """Yield the batches and move the bar; see `SageMakerReport.batches_of`."""
        if not self._has_titles and (epoch or done):  # no epoch has ended in this job
            self._print(f"Resuming at epoch {epoch}, batch {done}")
        with tqdm(
            desc=f"epoch {epoch}/{self.epochs - 1}",
            total=examples,
            initial=metrics.rows,
            unit=" pairs",
            unit_scale=True,
            bar_format=BAR,
            dynamic_ncols=True,
            leave=False,
            disable=not self.bar,
        ) as bar:
            for batch in batches:
                yield batch
                if bar.update(metrics.rows - bar.n):
                    bar.set_postfix_str(f"loss {metrics.loss:#.4g}", refresh=False)

    def measured(self, epoch: int, channel: str, metrics: Mapping[str, float], seconds: float) -> None:
        """Keep the metrics of an epoch, and the seconds that it took."""
        self._measured[channel] = {name: value for name, value in metrics.items() if name in COLUMNS}
        self._seconds = seconds

    def epoch(
        self, epoch: int, metrics: Metrics, totals: Totals, started: float, lines: Iterable[str], *, best: bool = False
    ) -> None:
        """Print the row of an epoch, marked if it is the `best` so far."""
        if not self._has_titles:
            self._print_titles()
        cells = [f"{value:>#{WIDTH}.4g}" for shown in self._measured.values() for value in shown.values()]
        rate = metrics.rows / max(self._seconds, 1e-9)
        mark = "  *" if best else ""
        self._print(f"{epoch:>5}{''.join(cells)}{time.time() - started:>10.1f}{rate:>12,.0f}{mark}")

    def _print_titles(self) -> None:
        self._has_titles = True
        groups = titles = ""
        for channel, metrics in self._measured.items():
            groups += f"{channel:>{WIDTH * len(metrics)}}"
            titles += "".join(f"{COLUMNS[name]:>{WIDTH}}" for name in metrics)
        self._print(f"     {groups}")
        self._print(f"epoch{titles}{'seconds':>10}{'pairs/s':>12}  * best so far")

    def stopped_early(self, epoch: int, metric: str = "loss") -> None:
        """Say that early stopping ended training after an epoch."""
        what = "the loss no longer fell" if metric == "loss" else f"{metric} no longer rose"
        self._print(f"Stopped early after epoch {epoch}: {what} by early_stopping_tolerance")

    def best(self, best: BestModel, *, repeat: bool = False) -> None:
        """Say which epoch's model is kept, and its metrics by channel."""
        texts = [f"{channel} {_describe(values)}" for channel, values in best.metrics.items()]
        self._print(f"Best epoch {best.epoch}: {'; '.join(texts)}")

    def tested(self, metrics: Metrics, size: int) -> None:
        """Print the metrics of the test channel."""
        self._print(f"Test on {metrics.rows:,} pairs: {_describe(metrics.values())}")

    def finished(self, started: float, milliseconds: Mapping[str, float]) -> None:
        """Print how long the job took, and where its model is."""
        self._print(f"Finished in {time.time() - started:.1f} s; the model is in {self.model_dir}")

    def _print(self, text: str) -> None:
        if not self.quiet:
            write(text, sys.stdout)


def _describe(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:#.4g}" for name, value in metrics.items() if name in COLUMNS)
