"""What a person sees of a job: the table of epochs, the progress bar, warnings."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import pty
import re
import struct
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from tqdm import tqdm

from object2vec import cli
from object2vec.training.best_model import BestModel
from object2vec.training.console import ConsoleReport, Totals
from object2vec.training.objective import Metrics, Objective
from object2vec.training.report import LineHandler, Style, log_as, make_report

SMALL = ["enc0_network=pooled_embedding", "enc0_max_seq_len=4", "enc0_vocab_size=9", "enc0_token_embedding_dim=4"]

NOW = 1_000_000.0


def metrics_of(loss: float, *, regression: bool = False) -> Metrics:
    """Return metrics of 1,000 pairs, 750 of which are correct."""
    metrics = Metrics(Objective(regression=regression))
    metrics.add(loss, 1000, 0 if regression else 750)
    return metrics


def report_epoch(report: ConsoleReport, epoch: int, loss: float, *, best: bool, regression: bool = False) -> None:
    """Report an epoch whose validation loss is twice its training loss."""
    metrics = metrics_of(loss, regression=regression)
    report.measured(epoch, "train", metrics.values(), 0.5)
    report.measured(epoch, "validation", metrics_of(2 * loss, regression=regression).values(), 0.5)
    report.epoch(epoch, metrics, Totals(), NOW - 2, [], best=best)


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ConsoleReport:
    monkeypatch.setattr("object2vec.training.console.time", SimpleNamespace(time=lambda: NOW))
    return ConsoleReport(epochs=5, model_dir=Path("build/model"))


# The table.


def test_table_of_classification(report: ConsoleReport, capsys: pytest.CaptureFixture[str]) -> None:
    """There are two header lines, a line for each epoch, and a mark at each best epoch so far."""
    report_epoch(report, 0, 0.5, best=True)
    report_epoch(report, 1, 0.25, best=True)
    report_epoch(report, 2, 1e19, best=False)
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "                        train              validation",
        "epoch        loss    accuracy        loss    accuracy   seconds     pairs/s  * best so far",
        "    0      0.5000      0.7500       1.000      0.7500       2.0       2,000  *",
        "    1      0.2500      0.7500      0.5000      0.7500       2.0       2,000  *",
        "    2   1.000e+19      0.7500   2.000e+19      0.7500       2.0       2,000",
    ]


def test_table_of_regression_without_validation(report: ConsoleReport, capsys: pytest.CaptureFixture[str]) -> None:
    """There are columns only for what is measured."""
    metrics = metrics_of(0.125, regression=True)
    report.measured(0, "train", metrics.values(), 0.25)
    report.epoch(0, metrics, Totals(), NOW - 2, [], best=True)
    assert capsys.readouterr().out.splitlines() == [
        "            train",
        "epoch        loss   seconds     pairs/s  * best so far",
        "    0      0.1250       2.0       4,000  *",
    ]


def test_end_of_a_job_has_the_best_epoch(report: ConsoleReport, capsys: pytest.CaptureFixture[str]) -> None:
    """The metrics of the best epoch, the test channel, the time and the directory of the model follow."""
    report.stopped_early(3)
    metrics = {"train": metrics_of(0.25).values(), "validation": metrics_of(0.5).values()}
    report.best(BestModel(epoch=1, loss=0.5, metrics=metrics))
    report.tested(metrics_of(0.75), 512)
    report.finished(NOW - 5, {})
    assert capsys.readouterr().out.splitlines() == [
        "Stopped early after epoch 3: the loss no longer fell by early_stopping_tolerance",
        "Best epoch 1: train cross_entropy 0.2500, accuracy 0.7500; validation cross_entropy 0.5000, accuracy 0.7500",
        "Test on 1,000 pairs: cross_entropy 0.7500, accuracy 0.7500",
        "Finished in 5.0 s; the model is in build/model",
    ]


def test_quiet_prints_only_warnings(capsys: pytest.CaptureFixture[str], package_logger: logging.Logger) -> None:
    """A job prints its warnings and nothing else."""
    log_as("quiet")
    report = make_report("quiet", host="algo-1", epochs=5, model_dir=Path("m"))
    assert isinstance(report, ConsoleReport)
    report_epoch(report, 0, 0.5, best=True)
    package_logger.info("not printed")
    package_logger.warning("printed")
    report.best(BestModel(epoch=0, loss=0.5))
    report.finished(NOW - 5, {})
    assert capsys.readouterr() == ("", "object2vec: warning: printed\n")


def test_a_resumed_job_says_where_it_goes_on(report: ConsoleReport, capsys: pytest.CaptureFixture[str]) -> None:
    """The first epoch says so, later ones do not."""
    list(report.batches_of(2, [1], 1, metrics_of(0.5), done=7))
    assert capsys.readouterr().out == "Resuming at epoch 2, batch 7\n"
    report_epoch(report, 2, 0.5, best=True)
    list(report.batches_of(3, [1], 1, metrics_of(0.5)))
    assert "Resuming" not in capsys.readouterr().out


@pytest.mark.parametrize("style", ["sagemaker", "bar", "plain", "quiet"])
@pytest.mark.usefixtures("package_logger")
def test_ranks_that_do_not_lead_print_nothing(style: Style, capsys: pytest.CaptureFixture[str]) -> None:
    """In every style, neither a line, nor a table, nor a bar is printed."""
    log_as(style)
    report = make_report(style, host="algo-2", epochs=1, model_dir=Path("m"), silent=True)
    assert list(report.batches_of(0, range(100), 100, metrics_of(0.5))) == list(range(100))
    report.measured(0, "train", metrics_of(0.5).values(), 1.0)
    report.epoch(0, metrics_of(0.5), Totals(), time.time(), [])
    assert capsys.readouterr() == ("", "")


def test_characters_outside_the_encoding_are_escaped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Characters that the encoding lacks are escaped."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    ConsoleReport(epochs=1, model_dir=Path("東京")).finished(time.time(), {})
    assert stream.buffer.getvalue().endswith(b"the model is in \\u6771\\u4eac\n")


def test_style_of_the_log_can_be_changed(package_logger: logging.Logger) -> None:
    """A later style replaces an earlier one; nothing is printed twice."""
    for style in ("plain", "sagemaker", "quiet", "sagemaker"):
        log_as(style)
    assert sum(isinstance(handler, LineHandler) for handler in package_logger.handlers) == 1
    assert package_logger.level == logging.INFO


# The command, with and without a terminal.


@pytest.fixture(scope="module")
def train_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write pairs, some of which are longer than max_seq_len, which gives a warning."""
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    pairs = [{"in0": [n % 8 + 1] * 5, "in1": [n // 9 % 8 + 1], "label": n % 2} for n in range(60)]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return path


def argv(train_file: Path, out: Path, *more: str) -> list[str]:
    channels = ["--train", str(train_file), "--validation", str(train_file), "--test", str(train_file)]
    return ["train", *channels, "--out", str(out), *more, "--hyperparameters", *SMALL, "epochs=2", "mini_batch_size=1"]


def on_terminal(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what the command prints on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    monkeypatch.setenv("TERM", "xterm")
    with ThreadPoolExecutor() as pool, os.fdopen(theirs, "w", encoding="utf-8", buffering=1) as terminal:
        printed = pool.submit(read_to_the_end, ours)
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, terminal)
        status = cli.main(arguments)
        terminal.close()
    text = printed.result().decode().replace("\r\n", "\n")
    assert status == 0, text
    return text


def read_to_the_end(terminal: int) -> bytes:
    """Read until the other end is closed, which Linux reports as an error."""
    printed = b""
    with os.fdopen(terminal, "rb", buffering=0) as file, suppress(OSError):
        while part := file.read(65536):
            printed += part
    return printed


def lines_left(printed: str) -> list[str]:
    """Return the lines that stay on a terminal: the text after the last carriage return of each."""
    return [line.rpartition("\r")[2] for line in printed.split("\n")]


ROW = r" +{} +[\d.e-]+ +[\d.]+ +[\d.e-]+ +[\d.]+ +\d+\.\d +[\d,]+(  \*)?"


def test_terminal_shows_a_bar_and_a_table(train_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar has a rate, a loss and the time left, and disappears; the table and the warning stay."""
    printed = on_terminal(argv(train_file, tmp_path / "m"), monkeypatch)
    assert re.search(r"\repoch 0/1: +\d+%\|.*\| +[\d.?]+k? ?pairs/s, [\d:?]+ left", printed)
    left = [line for line in lines_left(printed) if line]
    assert left[0].startswith("object2vec: warning: One or more sequences have been truncated")
    rows = [line for line in left if re.fullmatch(ROW.format("[01]"), line)]
    assert len(rows) == 2
    assert rows[0].endswith("  *")
    assert any(re.fullmatch(r"Best epoch \d: train .*; validation .*", line) for line in left)
    assert left[-1].endswith(f"; the model is in {tmp_path / 'm'}")
    assert "%|" not in "".join(left)
    assert "#metrics" not in printed


def test_bar_shows_the_loss(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows it at each refresh except the first; here each batch refreshes."""
    monkeypatch.setattr("object2vec.training.console.tqdm", partial(tqdm, mininterval=0))
    metrics = Metrics(Objective(regression=False))
    report = ConsoleReport(epochs=1, model_dir=Path("m"), bar=True)
    for _ in report.batches_of(0, range(5), 50, metrics):
        metrics.add(0.25, 10, 5)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"epoch 0/0: +80%\|.*pairs/s, [\d:]+ left, loss 0\.2500", err)


def test_warnings_are_above_the_bar(capsys: pytest.CaptureFixture[str], package_logger: logging.Logger) -> None:
    """A warning has its own line, and the bar is redrawn below it."""
    log_as("bar")
    report = ConsoleReport(epochs=1, model_dir=Path("m"), bar=True)
    for _ in report.batches_of(0, [1], 1000, metrics_of(0.5)):
        package_logger.warning("look here")
    err = capsys.readouterr().err
    assert "\robject2vec: warning: look here\n" in err
    assert err.index("look here") < err.rindex("epoch 0/0:")


def test_plain_style_rewrites_no_line_on_a_terminal(
    train_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are no carriage returns or escape codes."""
    printed = on_terminal(argv(train_file, tmp_path / "m", "--log", "plain"), monkeypatch)
    assert "\r" not in printed
    assert "\x1b" not in printed
    assert len(re.findall(ROW.format("[01]"), printed)) == 2


@pytest.mark.parametrize(
    ("out", "err", "term", "style"),
    [
        (True, True, "xterm", "bar"),
        (True, True, "dumb", "sagemaker"),
        (True, False, "xterm", "sagemaker"),
        (False, True, "xterm", "sagemaker"),
        (False, False, "xterm", "sagemaker"),
    ],
)
def test_default_style(monkeypatch: pytest.MonkeyPatch, out: bool, err: bool, term: str, style: str) -> None:
    """The bar needs a terminal for both outputs; otherwise the log has the built-in's lines."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: out, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: err, raising=False)
    monkeypatch.setenv("TERM", term)
    assert cli._log_style() == style


@pytest.mark.parametrize("style", ["plain", "quiet", "sagemaker", None])
def test_log_without_a_terminal(
    train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], style: str | None
) -> None:
    """The default is the built-in's lines; a table is on standard output, warnings on standard error."""
    assert cli.main(argv(train_file, tmp_path / "m", *(["--log", style] if style else []))) == 0
    out, err = capsys.readouterr()
    built_in = style in ("sagemaker", None)
    assert ("#quality_metric: host=algo-1, epoch=1, train accuracy <score>=" in out) == built_in
    assert len(re.findall(ROW.format("[01]"), out)) == (2 if style == "plain" else 0)
    assert (out == "") == (style == "quiet")
    assert "One or more sequences have been truncated" in (out if built_in else err)
    assert all(line.startswith("object2vec: warning: ") for line in err.splitlines())
    assert "\r" not in out + err
