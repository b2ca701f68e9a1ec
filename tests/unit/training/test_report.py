"""The lines of a job, in the built-in's shapes."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from builtin import PATTERNS
from object2vec.data.batches import Batches
from object2vec.training.best_model import BestModel
from object2vec.training.console import Totals
from object2vec.training.objective import Metrics, Objective
from object2vec.training.report import LineHandler, SageMakerReport, log_as
from small import pairs_of

CLASSES = {"perplexity": 1.3511, "cross_entropy": 0.3009043032168976, "accuracy": 0.8743719598054276}
NUMBER = {"mean_squared_error": 0.9123456789}


@pytest.fixture
def report() -> SageMakerReport:
    return SageMakerReport(host="algo-1", epochs=20)


def metrics_of(rows: int, batches: int) -> Metrics:
    metrics = Metrics(Objective(regression=False))
    for _ in range(batches):
        metrics.add(0.5, rows // batches, rows // batches)
    return metrics


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_pass_over_the_training_data(report: SageMakerReport, caplog: pytest.LogCaptureFixture) -> None:
    """After the pass come stars, the time, the metrics for people, and a line for each metric but perplexity."""
    report.measured(0, "train", CLASSES, 69.207756)
    assert messages(caplog) == [
        "**************",
        "Completed Epoch: 0, time taken: 0:01:09.207756",
        "Epoch 0 Training metrics:   perplexity: 1.351 cross_entropy: 0.301 accuracy: 0.874 ",
        "#quality_metric: host=algo-1, epoch=0, train cross_entropy <loss>=0.3009043032168976",
        "#quality_metric: host=algo-1, epoch=0, train accuracy <score>=0.8743719598054276",
    ]


def test_validation(report: SageMakerReport, caplog: pytest.LogCaptureFixture) -> None:
    """Validation prints its metrics for people and for the platform."""
    report.measured(7, "validation", CLASSES, 1.0)
    report.measured(8, "validation", NUMBER, 1.0)
    assert messages(caplog) == [
        "Epoch 7 Validation metrics: perplexity: 1.351 cross_entropy: 0.301 accuracy: 0.874 ",
        "#quality_metric: host=algo-1, epoch=7, validation cross_entropy <loss>=0.3009043032168976",
        "#quality_metric: host=algo-1, epoch=7, validation accuracy <score>=0.8743719598054276",
        "Epoch 8 Validation metrics: mean_squared_error: 0.912 ",
        "#quality_metric: host=algo-1, epoch=8, validation mean_squared_error <loss>=0.9123456789",
    ]


def test_the_end_of_an_epoch(report: SageMakerReport, caplog: pytest.LogCaptureFixture) -> None:
    """An epoch ends with what early stopping says, stars, two #metrics documents, progress and throughput."""
    started = time.time() - 2
    report.epoch(1, metrics_of(1000, 4), Totals(2000, 8), started, ["current loss: 0.5"])
    judged, stars, totals, progress, seen, throughput = messages(caplog)
    assert (judged, stars) == ("current loss: 0.5", "**************")
    assert progress == "#progress_metric: host=algo-1, completed 10.0 % of epochs"
    (rate,) = re.fullmatch(PATTERNS["train:throughput"], throughput).groups()
    assert 100 < float(rate) <= 500
    first = document(totals)
    assert first["Dimensions"] == {"Algorithm": "ObjectToVec", "Host": "algo-1", "Operation": "training"}
    assert list(first["Metrics"]) == ["epochs", "early_stop.time", "update.time"]
    assert first["Metrics"]["epochs"] == {"sum": 20.0, "count": 1, "min": 20, "max": 20}
    assert 2000 <= first["Metrics"]["update.time"]["sum"] < 10_000
    assert first["StartTime"] == started
    assert first["EndTime"] >= started + 2
    second = document(seen)
    assert second["Dimensions"] == {
        "Algorithm": "ObjectToVec",
        "Host": "algo-1",
        "Operation": "training",
        "epoch": 1,
        "Meta": "training_data_iter",
    }
    assert {name: value["sum"] for name, value in second["Metrics"].items()} == {
        "Total Records Seen": 2000.0,
        "Total Batches Seen": 8.0,
        "Max Records Seen Between Resets": 1000.0,
        "Max Batches Seen Between Resets": 4.0,
        "Reset Count": 2.0,
        "Number of Records Since Last Reset": 1000.0,
        "Number of Batches Since Last Reset": 4.0,
    }


def document(line: str) -> dict:
    """The JSON of a #metrics line, which a blank line follows."""
    assert line.startswith("#metrics {")
    assert line.endswith("}\n")
    return json.loads(line.removeprefix("#metrics "))


def test_early_stopping_and_the_best_epoch(report: SageMakerReport, caplog: pytest.LogCaptureFixture) -> None:
    """Stopping early prints the built-in's three lines, and the best epoch its one."""
    report.stopped_early(6)
    report.best(BestModel(epoch=3, loss=0.18128))
    assert messages(caplog) == [
        "Early stopping criterion met! Stopping training at epoch: 6",
        "Early stop condition met. Stopping training.",
        "#progress_metric: host=algo-1, completed 100 % epochs",
        "Best model based on epoch 3. Best loss: 0.181",
    ]


def test_the_test_channel(report: SageMakerReport, caplog: pytest.LogCaptureFixture) -> None:
    """The test channel's metrics are printed in each of the built-in's seven forms."""
    metrics = metrics_of(60_000, 3)
    values = metrics.values()
    report.tested(metrics, 512)
    perplexity, loss = values["perplexity"], values["cross_entropy"]
    assert messages(caplog) == [
        "Finished scoring on 60000 examples from 3 batches, each of size 512.",
        "Test Metrics:perplexity: 1.649 cross_entropy: 0.500 accuracy: 1.000 ",
        "Test Metric names:['perplexity', 'cross_entropy', 'accuracy']",
        f"Test Metric values:[{perplexity}, {loss}, 1.0]",
        f"Test Metric names and values:[('perplexity', {perplexity}), ('cross_entropy', {loss}), ('accuracy', 1.0)]",
        f"#test_score (algo-1) : ('perplexity', {perplexity})",
        f"#test_score (algo-1) : ('cross_entropy', {loss})",
        "#test_score (algo-1) : ('accuracy', 1.0)",
        f"#quality_metric: host=algo-1, test cross_entropy <loss>={loss}",
        "#quality_metric: host=algo-1, test accuracy <score>=1.0",
    ]


def test_the_end_of_a_job(report: SageMakerReport, caplog: pytest.LogCaptureFixture) -> None:
    """A job ends with how long its parts took, in milliseconds."""
    report.finished(1000.0, {"setuptime": 12.5, "totaltime": 99.0})
    (line,) = messages(caplog)
    assert document(line)["StartTime"] == 1000.0
    assert document(line)["Metrics"]["setuptime"] == {"sum": 12.5, "count": 1, "min": 12.5, "max": 12.5}


def batches(count: int) -> Iterator:
    pairs = Batches(pairs_of([([1], [2], 1.0)] * count), size=1)
    return pairs.in_order()


def test_progress_is_printed_each_hundred_batches(report: SageMakerReport, caplog: pytest.LogCaptureFixture) -> None:
    """Every batch is passed on, and each hundredth prints the rate, the time and the metrics so far."""
    metrics = metrics_of(512, 1)
    assert len(list(report.batches_of(4, batches(250), 250, metrics))) == 250
    printed = messages(caplog)
    assert len(printed) == 4
    for number, line in ((100, printed[0]), (200, printed[2])):
        shape = (
            rf"Epoch: 4, batches: {number}, num_examples: 512, \d+\.\d samples/sec, epoch time so far: 0:00:0\d\.\d+"
        )
        assert re.fullmatch(shape, line)
    assert printed[1] == "\tTraining metrics: perplexity: 1.649 cross_entropy: 0.500 accuracy: 1.000 "


def test_nothing_rewrites_a_line(capsys: pytest.CaptureFixture[str], package_logger: logging.Logger) -> None:
    """No carriage return is printed; what is printed are whole lines with the prefix."""
    log_as("sagemaker")
    report = SageMakerReport(host="algo-1", epochs=2)
    list(report.batches_of(0, batches(100), 100, metrics_of(100, 100)))
    out, err = capsys.readouterr()
    assert err == ""
    assert "\r" not in out
    prefix = r"\[\d\d/\d\d/\d{4} \d\d:\d\d:\d\d INFO \d+\] "
    for line in out.splitlines():
        assert re.match(prefix + "(Epoch: 0, batches: 100|\tTraining metrics: )", line)


def test_metrics_documents_have_no_prefix_and_a_blank_line(
    capsys: pytest.CaptureFixture[str], package_logger: logging.Logger
) -> None:
    """A #metrics line starts its line and a blank line follows; every other line has the built-in's prefix."""
    log_as("sagemaker")
    SageMakerReport(host="algo-1", epochs=2).finished(1.0, {"totaltime": 2.0})
    logging.getLogger("object2vec.x").warning("text")
    first, blank, second = capsys.readouterr().out.splitlines()
    assert first.startswith('#metrics {"StartTime": 1.0, ')
    assert blank == ""
    assert re.fullmatch(r"\[\d\d/\d\d/\d{4} \d\d:\d\d:\d\d WARNING \d+\] text", second)


def test_lines_are_printed_once_and_at_once(monkeypatch: pytest.MonkeyPatch, package_logger: logging.Logger) -> None:
    """However often logging is set up, a line is printed once, and flushed."""

    class Stream(io.StringIO):
        flushed = ""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    stream = Stream()
    monkeypatch.setattr(sys, "stdout", stream)
    log_as("sagemaker")
    log_as("sagemaker")
    logging.getLogger("object2vec.training").info("once")
    assert stream.flushed.count("once") == 1
    assert sum(isinstance(handler, LineHandler) for handler in package_logger.handlers) == 1


def test_a_log_of_any_encoding_takes_every_line(
    monkeypatch: pytest.MonkeyPatch, package_logger: logging.Logger
) -> None:
    """What the log's encoding does not have is escaped, not a reason for a job to end."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    for logger in (package_logger, logging.getLogger("object2vec.training"), logging.getLogger()):
        monkeypatch.setattr(logger, "handlers", [])  # those of pytest send the surrogate to xdist, which cannot
    log_as("sagemaker")
    logging.getLogger("object2vec.training").info("東京 \udcff…")
    assert stream.buffer.getvalue().endswith(b"\\u6771\\u4eac \\udcff\\u2026\n")


def test_a_traceback_is_printed_under_its_line(
    capsys: pytest.CaptureFixture[str], package_logger: logging.Logger
) -> None:
    """An error logged with its traceback has both."""
    log_as("sagemaker")
    try:
        raise ValueError("inside")
    except ValueError:
        package_logger.exception("outside")
    out = capsys.readouterr().out
    assert "] outside\nTraceback" in out
    assert "ValueError: inside" in out


@pytest.mark.parametrize("regression", [False, True])
def test_every_pattern_of_the_platform_finds_its_metric(
    report: SageMakerReport, caplog: pytest.LogCaptureFixture, regression: bool
) -> None:
    """For each metric of the kind of job, the platform's own pattern finds a number in the lines."""
    metrics = Metrics(Objective(regression=regression))
    metrics.add(0.25, 3, 0 if regression else 2)
    report.measured(0, "train", metrics.values(), 1.0)
    report.measured(0, "validation", metrics.values(), 1.0)
    report.epoch(0, metrics, Totals(3, 1), time.time() - 1, [])
    report.tested(metrics, 512)
    text = "\n".join(messages(caplog))
    for name, pattern in PATTERNS.items():
        of_this_kind = ("squared" in name) == regression or name in ("train:progress", "train:throughput")
        found = re.findall(pattern, text)
        assert bool(found) is of_this_kind, name
        assert all(np.isfinite(float(number)) for number in found)


def test_the_kept_epoch_s_metrics_are_the_last_that_are_printed(caplog: pytest.LogCaptureFixture) -> None:
    """They are labelled and printed again after those of another epoch: a tuning job reads the last of each."""
    report = SageMakerReport(host="algo-1", epochs=3)
    metrics = {"train": {"cross_entropy": 0.2, "accuracy": 0.9}, "validation": {"cross_entropy": 1.2}}
    report.best(BestModel(epoch=1, loss=1.2, metrics=metrics), repeat=True)
    assert caplog.messages == [
        "Best model based on epoch 1. Best loss: 1.200",
        "Best epoch 1: Training metrics: cross_entropy: 0.200 accuracy: 0.900 ",
        "#quality_metric: host=algo-1, epoch=1, train cross_entropy <loss>=0.2",
        "#quality_metric: host=algo-1, epoch=1, train accuracy <score>=0.9",
        "Best epoch 1: Validation metrics: cross_entropy: 1.200 ",
        "#quality_metric: host=algo-1, epoch=1, validation cross_entropy <loss>=1.2",
    ]
    caplog.clear()
    report.best(BestModel(epoch=2, loss=1.4, metrics={"train": {"cross_entropy": 0.4}}))
    assert caplog.messages == ["Best model based on epoch 2. Best loss: 1.400"]


def test_an_epoch_that_goes_on_counts_on(caplog: pytest.LogCaptureFixture) -> None:
    """After 150 batches in 60 s, done before the job was cut off, the next line is that of batch 200."""
    report = SageMakerReport(host="algo-1", epochs=1)
    list(report.batches_of(0, batches(60), 210, metrics_of(150, 150), done=150, before=60.0))
    assert caplog.messages[0].startswith("Epoch: 0, batches: 200, num_examples: 150, 2.")
    assert "epoch time so far: 0:01:00" in caplog.messages[0]
