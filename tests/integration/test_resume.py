"""Jobs that are interrupted and resume: exactly the same losses and the same model."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path

import numpy as np
import pytest

import object2vec
from object2vec.errors import AlgorithmError, UserError
from object2vec.hyperparameters import parse
from object2vec.ops import library
from object2vec.training import checkpoints
from object2vec.training.job import Job, run
from small import SMALL, StopAfter, write_pairs

#: Configurations whose checkpoints have different contents.
KINDS: dict[str, dict[str, object]] = {
    **{optimizer: {"optimizer": optimizer} for optimizer in ("adadelta", "adagrad", "adam", "rmsprop", "sgd")},
    **{
        f"row sparse {optimizer}": {"optimizer": optimizer, "token_embedding_storage_type": "row_sparse"}
        for optimizer in ("adagrad", "adam", "sgd")
    },
    "tied, averaged": {"tied_token_embedding_weight": True, "ema_decay": 0.9, "dropout": 0.3, "token_dropout": 0.3},
    "common tokens": {"tied_token_embedding_weight": True, "mark_common_tokens": True},
    "hcnn, negatives": {"enc0_network": "hcnn", "negative_sampling_rate": 2, "dropout": 0.2},
    "bilstm, buckets": {"enc0_network": "bilstm", "bucket_width": 2, "weight_decay": 0.01},
    "regression": {"output_layer": "mean_squared_error", "mlp_layers": 0, "comparator_list": "hadamard"},
    "tied encoder": {
        **{"enc0_network": "bilstm", "tied_encoder_weight": True, "ema_decay": 0.9, "matryoshka_dims": [2, 4]}
    },
    "projection": {
        **{"token_pooling": "sum", "token_dropout": 0.3, "pooled_projection": "tanh"},
        **{"comparator_list": "cosine, concat", "mlp_layers": 0},
    },
    "ranking": {
        **{"ranking_loss": "in_batch_softmax", "output_layer": "mean_squared_error", "comparator_list": "cosine"},
        **{"mlp_layers": 0, "temperature": 0.1, "log_q_correction": 0.5, "sampled_candidates": 2, "dropout": 0.2},
    },
    "several labels": {"output_layer": "sigmoid", "num_classes": 3},
    "one side": {"enc1_network": "none", "mlp_layers": 0},
    "early stop": {"early_stopping_patience": 1, "early_stopping_tolerance": 0.1, "epochs": 9, "dropout": 0.5},
}
QUICK = ("row sparse adam", "tied, averaged")
COMMON = {"epochs": 4, "mini_batch_size": 8, "learning_rate": 0.02, "early_stopping_patience": 5}


def channels(folder: Path, count: int = 60, *, positives: bool = False) -> dict[str, Path]:
    draw = random.Random(1)
    found = {}
    for name in ("train", "validation", "test"):
        sides = [[[draw.randint(1, 8) for _ in range(draw.randint(1, 6))] for _ in range(count)] for _ in range(2)]
        rows = [(in0, in1, float(positives or in0[0] % 2 == in1[0] % 2)) for in0, in1 in zip(*sides, strict=True)]
        found[name] = write_pairs(folder / name, rows)
    return found


def without_in1(path: Path) -> Path:
    """Rewrite a channel without in1."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    lines = (json.dumps({"in0": record["in0"], "label": record["label"]}) for record in records)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def job(folder: Path, *, name: str = "", resumed: bool = True, **values: object) -> Job:
    """Return a small job on the channels of a folder; `name` is for its model and checkpoints."""
    given = {path.name: path for path in folder.iterdir() if path.is_file()} or channels(
        folder, positives="ranking_loss" in values
    )
    if values.get("enc1_network") == "none":
        given = {name: without_in1(path) for name, path in given.items()}
    return Job(
        configuration=parse(SMALL | COMMON | values),
        channels=given,
        model_dir=folder / f"{name}model",
        checkpoint_dir=folder / f"{name}checkpoints" if resumed else None,
    )


def measured(lines: list[str]) -> dict[str, str]:
    """Return the printed value of each metric; a metric that is printed twice must be equal."""
    found: dict[str, str] = {}
    for line in lines:
        if line.startswith("#quality_metric"):
            name, _, value = line.rpartition("=")
            assert found.setdefault(name, value) == value, line
    return found


def weights(model: Path) -> bytes:
    return (model / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_repeatedly_interrupted_job_equals_uninterrupted_one(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that stops every few batches has exactly the metrics, last lines and model of an uninterrupted one."""
    values = {"epochs": 3} | KINDS[kind]
    run(job(tmp_path, name="whole ", resumed=False, **values))
    whole, last = measured(caplog.messages), caplog.messages[-12:]
    caplog.clear()
    starts = 0
    while not any("test cross_entropy" in line or "test mean_squared_error" in line for line in caplog.messages):
        starts += 1
        assert starts < 100, "it does not come to its end"
        run(job(tmp_path, **values), stop=StopAfter(12))
    assert starts > 2
    assert measured(caplog.messages) == whole
    assert [line for line in last if line.startswith(("#quality", "Best", "Early"))] == [
        line for line in caplog.messages[-12:] if line.startswith(("#quality", "Best", "Early"))
    ]
    assert weights(tmp_path / "model") == weights(tmp_path / "whole model")
    configs = [(tmp_path / f"{name}model" / "config.json").read_text() for name in ("", "whole ")]
    assert configs[0] == configs[1]


def test_last_two_epoch_checkpoints_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Four epochs leave the last two checkpoints, with two files each, and nothing else."""
    run(job(tmp_path))
    folder = tmp_path / "checkpoints"
    names = [f"checkpoint-00{epoch}-000000000" for epoch in (3, 4)]
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{name}{suffix}" for name in names for suffix in (".json", ".safetensors")
    ]
    assert [line for line in caplog.messages if line.startswith("Saved")] == [
        f'Saved checkpoint to "{folder}/checkpoint-00{epoch}-000000000.json"' for epoch in (1, 2, 3, 4)
    ]
    ends = []
    for _ in range(2):  # the first run, and one with nothing left to train
        ends.append([line for line in caplog.messages if line.startswith(("Best model", "#quality_metric"))])
        caplog.clear()
        run(job(tmp_path))
    best = next(n for n, line in enumerate(ends[0]) if line.startswith("Best model"))
    assert ends[1] == ends[0][best:]


def test_checkpoint_is_written_within_a_long_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When the interval has passed, a checkpoint follows the batch, and a job resumes from it."""
    run(job(tmp_path, name="whole ", resumed=False, epochs=1))
    whole = measured(caplog.messages)
    caplog.clear()
    monkeypatch.setattr(checkpoints, "INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "MAX_TIME_SHARE", float("inf"))
    made = job(tmp_path, epochs=1)
    run(made)
    assert sum(line.startswith("Saved") for line in caplog.messages) == 9  # 8 batches, and the epoch
    for path in (tmp_path / "checkpoints").glob("checkpoint-001-*"):
        path.unlink()
    caplog.clear()
    run(made)
    assert f"Going on from checkpoint-000-000000008 in {tmp_path}/checkpoints: epoch 0, batch 8" in caplog.messages
    assert measured(caplog.messages) == whole


def interrupted_job(folder: Path) -> list[Path]:
    """Return a job that was stopped in its third epoch, and its checkpoint files, newest first."""
    run(job(folder), stop=StopAfter(25))
    return sorted((folder / "checkpoints").iterdir(), reverse=True)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_damaged_checkpoint_is_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The job resumes from the previous checkpoint, and ends with the same result."""
    run(job(tmp_path, name="whole ", resumed=False))
    whole = measured(caplog.messages)
    newest = interrupted_job(tmp_path)[0]
    flip(newest)
    caplog.clear()
    run(job(tmp_path))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"{newest.with_suffix('.json')} is no whole checkpoint (")
    assert f"Going on from checkpoint-002-000000000 in {tmp_path}/checkpoints: epoch 2, batch 0" in caplog.messages
    assert measured(caplog.messages).items() <= whole.items()
    assert weights(tmp_path / "model") == weights(tmp_path / "whole model")


def test_job_restarts_if_all_checkpoints_are_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Warnings name all of them. The job starts at the first epoch, and removes them."""
    for path in interrupted_job(tmp_path):
        flip(path)
    caplog.clear()
    run(job(tmp_path))
    assert sum("is no whole checkpoint" in line for line in caplog.messages) == 2
    assert any("Completed Epoch: 0" in line for line in caplog.messages)
    caplog.clear()
    run(job(tmp_path))
    assert not any("is no whole checkpoint" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"learning_rate": 0.03}, "learning_rate is 0.02 there and 0.03 here"),
        ({"mlp_dim": 6, "seed": 1}, "mlp_dim is 5 there and 6 here; seed is 0 there and 1 here"),
        ({"epochs": 2}, "epochs is 2, and the checkpoint checkpoint-002-000000003 is past epoch 1, wanted more epochs"),
    ],
)
def test_checkpoint_of_another_configuration_is_rejected(
    tmp_path: Path, values: dict[str, object], sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The error lists all differences before data is read, and keeps all files."""
    before = interrupted_job(tmp_path)
    caplog.clear()
    with pytest.raises(UserError) as raised:
        run(job(tmp_path, **values))
    assert sentence in str(raised.value)
    assert not any("Creating data iterator" in line for line in caplog.messages)
    assert sorted((tmp_path / "checkpoints").iterdir(), reverse=True) == before


@pytest.mark.parametrize("channel", ["train", "validation"])
def test_checkpoint_of_other_data_is_rejected(tmp_path: Path, channel: str) -> None:
    """One changed label is an error; the test channel may change."""
    interrupted_job(tmp_path)
    channels(tmp_path / "other", 61)
    lines = (tmp_path / channel).read_text().splitlines()
    lines[0], lines[1] = lines[1], lines[0]
    (tmp_path / "test").write_text(lines[0])
    (tmp_path / channel).write_text("\n".join(lines))
    with pytest.raises(UserError, match=rf"another job: channel {channel} is 60 pairs of checksum \w+ there and 60 pa"):
        run(job(tmp_path))


def test_finished_job_continues_with_more_epochs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A finished job with more epochs continues as if it had them from the start."""
    run(job(tmp_path, name="whole ", resumed=False, epochs=6))
    whole = measured(caplog.messages)
    run(job(tmp_path, epochs=4))
    caplog.clear()
    run(job(tmp_path, epochs=6))
    assert "Completed Epoch: 3" not in caplog.text
    assert measured(caplog.messages).items() <= whole.items()
    assert weights(tmp_path / "model") == weights(tmp_path / "whole model")


def test_failed_checkpoint_write_does_not_end_the_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If the folder disappears during the job, each epoch logs a warning, and the model is written."""
    made = job(tmp_path)

    class Removing(StopAfter):
        def __call__(self) -> bool:
            if (tmp_path / "checkpoints").is_dir():
                (tmp_path / "checkpoints").rmdir()
            return False

    run(made, stop=Removing(0))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 4
    assert all(line.endswith("training goes on, and a restart begins anew") for line in warnings)
    assert object2vec.load(tmp_path / "model")


def test_unwritable_checkpoint_folder_fails_at_start(tmp_path: Path) -> None:
    """A file in place of the folder is an error at the start."""
    made = job(tmp_path)
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(UserError, match=r"checkpoints: no checkpoint can be written here \(File exists\), wanted a fo"):
        run(made)


def test_checkpoint_of_a_newer_version_is_rejected(tmp_path: Path) -> None:
    """The format of a newer version is unknown."""
    newest = interrupted_job(tmp_path)[1]
    document = json.loads(newest.read_text())
    document["values"]["format_version"] = 2
    document["checksum"] = checkpoints._checksum(document["values"])
    newest.write_text(json.dumps(document))
    with pytest.raises(UserError, match="written in format 2, wanted 1 or older; use a newer object2vec"):
        run(job(tmp_path))


def test_checkpoint_of_another_optimizer_implementation_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without kernels, as on a GPU, torch's optimizers update the tables, and their state differs."""
    interrupted_job(tmp_path)
    monkeypatch.setattr(library, "available", lambda: False)
    with pytest.raises(UserError, match="was written on another kind of device, or by another object2vec; wanted the"):
        run(job(tmp_path))


def test_diverged_job_keeps_its_best_epoch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The error names the epoch, the batch, and the location of the best model."""
    values = {"output_layer": "mean_squared_error", "optimizer": "sgd", "learning_rate": 0.01, "mlp_layers": 0}
    rows = [([n % 8 + 1], [1], 1.3) for n in range(60)]
    (tmp_path / "train").parent.mkdir(exist_ok=True)
    write_pairs(tmp_path / "train", rows)
    with pytest.raises(AlgorithmError) as raised:
        run(job(tmp_path, resumed=False, epochs=100, **values, weight_decay=220))
    assert "The loss is" in str(raised.value)
    assert f"the best so far, is in {tmp_path / 'model'}" in str(raised.value)
    assert np.isfinite(object2vec.load(tmp_path / "model").score([([1], [1])])).all()
