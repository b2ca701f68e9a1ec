"""The best model so far is written completely, however a job ends after its first epoch."""

from __future__ import annotations

import errno
import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import object2vec
from object2vec import cli
from object2vec.data.batches import Batch
from object2vec.errors import AlgorithmError
from object2vec.hyperparameters import parse
from object2vec.sagemaker.training import _sentence
from object2vec.training import trainer
from object2vec.training.best_model import BestModel
from object2vec.training.checkpoints import Checkpoints
from object2vec.training.graceful_shutdown import Stop
from object2vec.training.job import Job, run
from object2vec.training.step import AutogradStep
from object2vec.training.trainer import Trainer
from ranks import Ranks, run_out_of_memory_on_rank_0, run_out_of_memory_on_rank_1
from small import SMALL, weights_of, write_pairs

ROWS = [([user], [item], float(user % 2 == item % 2)) for user in range(1, 9) for item in range(1, 9)]
VALUES = SMALL | {"mini_batch_size": 8, "epochs": 5, "learning_rate": 0.02, "early_stopping_patience": 5}
#: The message of each error at the end of the job.
ERRORS = {
    "memory": (MemoryError("no room"), AlgorithmError, r"Out of memory \(no room\): .* would help; "),
    "gpu memory": (torch.OutOfMemoryError("CUDA out of memory"), AlgorithmError, r"Out of memory \(CUDA out of memory"),
    "bug": (RuntimeError("a bug"), RuntimeError, "a bug"),
    "type": (TypeError("another bug"), TypeError, "another bug"),
    "disk": (OSError(errno.ENOSPC, "No space left on device"), OSError, "No space left on device"),
    "interrupt": (KeyboardInterrupt(), KeyboardInterrupt, None),
    "exit": (SystemExit(3), SystemExit, "3"),
}


def job(folder: Path, **values: object) -> Job:
    """Return a small job whose loss falls in each epoch."""
    channels = {name: write_pairs(folder / name, ROWS) for name in ("train", "validation")}
    return Job(
        configuration=parse(VALUES | values),
        channels=channels,
        model_dir=folder / "model",
        checkpoint_dir=folder / "checkpoints",
    )


def fail_in_epoch(epoch: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise an error in the third step of an epoch."""

    def fail(trainer: Trainer, epoch_now: int, batch: int) -> None:
        if (epoch_now, batch) == (epoch, 2):
            raise error

    monkeypatch.setattr(Trainer, "_seed", fail)  # called before each step


def whole_model(folder: Path, epochs: int) -> dict[str, np.ndarray]:
    """Return the weights of a job of `epochs` epochs, the last of which is the best."""
    made = Job(
        configuration=parse(VALUES | {"epochs": epochs}), channels=job(folder).channels, model_dir=folder / "whole"
    )
    run(made)
    assert best_epoch(folder / "whole") == epochs - 1
    return weights_of(object2vec.artifact.load(folder / "whole")[1])


def best_epoch(model: Path) -> int:
    return int(json.loads((model / "config.json").read_text())["training"]["best_epoch"])


def assert_model_of_epoch(folder: Path, epoch: int) -> None:
    """Check that the model directory has all weights of an epoch."""
    wanted = whole_model(folder, epoch + 1)
    assert best_epoch(folder / "model") == epoch
    for name, weight in weights_of(object2vec.artifact.load(folder / "model")[1]).items():
        np.testing.assert_array_equal(weight, wanted[name], err_msg=name)


@pytest.mark.parametrize(("error", "kind", "words"), ERRORS.values(), ids=ERRORS)
def test_any_error_in_a_later_epoch_keeps_the_best_model(
    error: BaseException,
    kind: type[BaseException],
    words: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The error is raised again, and names the epoch and folder of the saved model."""
    kept = f"the model of epoch 1, the best so far, is in {tmp_path / 'model'}"
    with monkeypatch.context() as patch:
        fail_in_epoch(2, error, patch)
        with pytest.raises(kind, match=words) as raised:
            run(job(tmp_path))
    if isinstance(raised.value, AlgorithmError):
        assert str(raised.value).endswith(f"; {kept}")
    else:
        assert raised.value is error
        assert f"Training failed; {kept}" in caplog.messages
        assert _sentence(raised.value).endswith(f"; {kept}")
    assert_model_of_epoch(tmp_path, 1)


@pytest.mark.parametrize("where", ["evaluate", "checkpoint", "step of an average"])
def test_an_error_outside_a_step_keeps_the_best_model(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error during validation, a checkpoint, or averaging of weights."""
    calls = 0

    def after_two(function: Callable[..., object]) -> Callable[..., object]:
        def fail(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls > 2:
                raise MemoryError("no room")
            return function(*arguments, **options)

        return fail

    values: dict[str, object] = {}
    if where == "evaluate":
        monkeypatch.setattr(trainer, "evaluate", after_two(trainer.evaluate))
    elif where == "checkpoint":
        monkeypatch.setattr(Checkpoints, "_write", after_two(Checkpoints._write))
    else:
        fail_in_epoch(2, MemoryError("no room"), monkeypatch)
        values = {"ema_decay": 0.9}
    with pytest.raises(AlgorithmError, match=r"Out of memory \(no room\).*the best so far, is in"):
        run(job(tmp_path, **values))
    assert best_epoch(tmp_path / "model") == (2 if where == "checkpoint" else 1)


def test_an_error_in_the_first_epoch_leaves_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no best model yet, and the error mentions none."""
    fail_in_epoch(0, RuntimeError("a bug"), monkeypatch)
    with pytest.raises(RuntimeError, match="a bug") as raised:
        run(job(tmp_path))
    assert not getattr(raised.value, "__notes__", [])
    assert not list((tmp_path / "model").glob("*"))


def test_an_error_after_a_resume_keeps_the_best_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best epoch may be one before the interruption."""
    run(job(tmp_path, epochs=2))
    (tmp_path / "model" / "config.json").unlink()
    fail_in_epoch(2, MemoryError("no room"), monkeypatch)
    with pytest.raises(AlgorithmError, match="the model of epoch 1, the best so far, is in"):
        run(job(tmp_path))
    assert best_epoch(tmp_path / "model") == 1


def test_failed_write_of_the_best_model_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first error remains the error of the job."""

    def save(*_: object, **__: object) -> None:
        raise AlgorithmError("the disk is full")

    fail_in_epoch(2, MemoryError("no room"), monkeypatch)
    monkeypatch.setattr(object2vec.artifact, "save", save)
    with pytest.raises(AlgorithmError, match=r"Out of memory.*could not be written \(the disk is full\)$"):
        run(job(tmp_path))


def test_model_is_written_if_stdout_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output may be a pipe without a reader."""
    fail_in_epoch(2, BrokenPipeError("gone"), monkeypatch)
    closed = []

    def info(text: str) -> None:
        if text.startswith("Serializing"):
            closed.append(text)
            raise BrokenPipeError("gone")

    def error(text: str) -> None:
        closed.append(text)
        raise BrokenPipeError("gone")

    monkeypatch.setattr("object2vec.training.model_writer.logger.info", info)
    monkeypatch.setattr("object2vec.training.job.logger.error", error)
    with pytest.raises(BrokenPipeError):
        run(job(tmp_path))
    assert len(closed) == 2
    assert best_epoch(tmp_path / "model") == 1


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 128 + signal.SIGINT), (MemoryError("no"), 1)])
def test_the_command_fails_and_keeps_the_best_model(
    error: BaseException, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exit status is not 0."""
    channels = job(tmp_path).channels
    fail_in_epoch(2, error, monkeypatch)
    monkeypatch.setattr("object2vec.training.report.log_as", lambda *_: None)
    words = ["train", "--train", str(channels["train"]), "--validation", str(channels["validation"])]
    words += ["--out", str(tmp_path / "model"), "--hyperparameters", *(f"{n}={v}" for n, v in VALUES.items())]
    assert cli.main(words) == status
    assert_model_of_epoch(tmp_path, 1)


@pytest.mark.parametrize("work", [run_out_of_memory_on_rank_0, run_out_of_memory_on_rank_1])
def test_an_error_on_one_of_two_ranks_keeps_the_best_model(work: Callable[..., None], tmp_path: Path) -> None:
    """Rank 0 writes the model and reports it, whichever rank failed; both end with an error."""
    with Ranks(work, tmp_path) as ranks:
        ended = [ranks.ends(rank) for rank in (0, 1)]
    assert [code for code, _ in ended] == [3, 3]
    kept = "the model of epoch 1, the best so far, is in"
    assert "Out of memory (no room)" in ended[0][1]
    assert "Out of memory (no room)" in ended[1][1]
    assert kept in ended[0][1]
    assert best_epoch(tmp_path / "model") == 1


# ----------------------------------------------------------------------------------------------------------------------
# Forced exits: another thread writes the model while the main thread works.
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("averaged", [False, True])
def test_forced_exit_during_copy_of_best_weights_writes_one_epoch(
    averaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread writes the model after one weight of the third epoch is copied."""
    stop, copied = Stop(), BestModel.buffer_for
    written: list[dict[str, np.ndarray]] = []

    def copy_and_stop(best: BestModel, name: str, parameter: torch.Tensor) -> torch.Tensor:
        if best.epoch == 2 and not written and name == "enc1.embedding.weight":
            assert stop.emergency_save
            thread = threading.Thread(target=stop.emergency_save)
            thread.start()
            thread.join(60)
            written.append(weights_of(object2vec.artifact.load(tmp_path / "model")[1]))
        return copied(best, name, parameter)

    monkeypatch.setattr(BestModel, "buffer_for", copy_and_stop)
    values = {"ema_decay": 0.5} if averaged else {}
    run(job(tmp_path, epochs=3, **values), stop=stop)
    assert len(written) == 1
    assert best_epoch(tmp_path / "model") == 2
    monkeypatch.undo()
    run(
        Job(
            configuration=parse(VALUES | values | {"epochs": 3}),
            channels=job(tmp_path).channels,
            model_dir=tmp_path / "b",
        )
    )
    for name, weight in weights_of(object2vec.artifact.load(tmp_path / "b")[1]).items():
        np.testing.assert_array_equal(written[0][name], weight, err_msg=name)


def test_error_during_copy_of_best_weights_writes_one_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C with one weight copied, the model has weights of only one epoch."""
    copied = BestModel.buffer_for

    def interrupt(best: BestModel, name: str, parameter: torch.Tensor) -> torch.Tensor:
        if best.epoch == 1 and name == "enc1.embedding.weight":
            raise KeyboardInterrupt
        return copied(best, name, parameter)

    with monkeypatch.context() as patch:
        patch.setattr(BestModel, "buffer_for", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(job(tmp_path))
    assert_model_of_epoch(tmp_path, 1)


def test_forced_exit_in_first_epoch_writes_finite_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """During a step that updates weights, the written model loads, and all weights are finite."""
    stop, update = Stop(), AutogradStep.update
    left: list[int] = [3]

    def step_and_stop(step: AutogradStep, batch: Batch, factor: float) -> None:
        update(step, batch, factor)
        left[0] -= 1
        if not left[0]:
            with torch.no_grad():  # a step that has reached one of the tables
                step.network.enc0.embedding.weight += 1
            assert stop.emergency_save
            stop.emergency_save()

    monkeypatch.setattr(AutogradStep, "update", step_and_stop)
    run(job(tmp_path), stop=stop)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["training"]["best_epoch"] is None
    assert all(np.isfinite(w).all() for w in weights_of(object2vec.artifact.load(tmp_path / "model")[1]).values())


def test_forced_exit_writes_no_model_with_nonfinite_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No epoch has ended and the weights diverged; the error names one of them."""
    stop, update = Stop(), AutogradStep.update

    def diverge_and_stop(step: AutogradStep, batch: Batch, factor: float) -> None:
        update(step, batch, factor)
        step.network.enc1.embedding.weight.data[3, 1] = torch.nan
        assert stop.emergency_save
        stop.emergency_save()

    monkeypatch.setattr(AutogradStep, "update", diverge_and_stop)
    what = r"No model is written: enc1\.embedding\.weight is not finite, and no epoch has ended"
    with pytest.raises(AlgorithmError, match=what):
        run(job(tmp_path), stop=stop)
    assert not list((tmp_path / "model").glob("*"))
