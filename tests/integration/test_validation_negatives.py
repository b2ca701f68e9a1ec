"""Validation and test channels with only positives, if training draws negatives."""

from __future__ import annotations

import json
import logging
import random
import re
from pathlib import Path

import pytest

from object2vec.errors import UserError
from object2vec.hyperparameters import parse
from object2vec.training.job import Job, run
from ranks import TEST_SHARES, Ranks, score_positives
from small import SMALL, StopAfter, write_pairs

Row = tuple[list[int], list[int], float]
VALUES = SMALL | {"enc0_max_seq_len": 1, "mlp_layers": 0, "comparator_list": "hadamard", "negative_sampling_rate": 3}


def likes(users: int = 200, items: int = 120) -> tuple[list[Row], list[Row]]:
    """Return positives of users: ten items of their own group for training, two others for validation."""
    draw, train, validation = random.Random(0), [], []
    for user in range(1, users + 1):
        own = draw.sample([item for item in range(1, items + 1) if item % 4 == user % 4], 12)
        rows = [([user], [item], 1.0) for item in own]
        train += rows[:10]
        validation += rows[10:]
    draw.shuffle(train)
    return train, validation


def job(folder: Path, train: list[Row], others: dict[str, list[Row]], **values: object) -> Job:
    """Return a job on these channels."""
    channels = {name: write_pairs(folder / name, rows) for name, rows in {"train": train, **others}.items()}
    model = folder / "model"
    return Job(configuration=parse(VALUES | values), channels=channels, model_dir=model)


def printed(lines: list[str], metric: str) -> list[float]:
    """Return a metric by epoch."""
    found = dict(re.findall(rf"epoch=(\d+), {metric}>=(\S+)", "\n".join(lines)))
    return [float(value) for value in found.values()]


def test_validation_negatives_select_a_better_epoch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without negatives, the best epoch is the one that scores most pairs as positive.

    Validation accuracy then exceeds train accuracy, and falls while the model improves. With negatives it follows train
    accuracy, and training is longer.
    """
    train, validation = likes()
    best, accuracies = {}, {}
    values = {"enc0_vocab_size": 201, "epochs": 12, "mini_batch_size": 64, "learning_rate": 0.01}
    values |= {"token_embedding_storage_type": "row_sparse"}
    for mode in ("off", "auto"):
        caplog.clear()
        run(job(tmp_path, train, {"validation": validation}, **values, validation_negative_sampling=mode))
        best[mode] = json.loads((tmp_path / "model" / "config.json").read_text())["training"]["best_epoch"]
        of_train, of_validation = (
            printed(caplog.messages, f"{name} accuracy <score") for name in ("train", "validation")
        )
        accuracies[mode] = list(zip(of_train, of_validation, strict=True))
    assert best["off"] < best["auto"]
    assert accuracies["off"][0][1] < 0.1
    assert all(abs(of_train - of_validation) < 0.1 for of_train, of_validation in accuracies["auto"][1:])
    assert accuracies["auto"][best["auto"]][1] > 0.8


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records if "positives only" in record.msg]


@pytest.mark.parametrize("channel", ["validation", "test"])
@pytest.mark.parametrize("output_layer", ["softmax", "mean_squared_error"])
def test_log_names_the_setting_for_validation_negatives(
    channel: str, output_layer: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If it is off, a warning names the setting; if it is on, the log describes the negatives."""
    rows: list[Row] = [([n % 8 + 1], [n % 3 + 1], 1.0) for n in range(24)]
    values = {"epochs": 1, "output_layer": output_layer}
    run(job(tmp_path, rows, {channel: rows}, **values))
    warning = f"Channel {channel} holds positives only, so its metrics say nothing about negatives"
    advice = "set validation_negative_sampling=auto to draw negatives for it too"
    assert said(caplog) == [("WARNING", f"{warning}: {advice}")]
    caplog.clear()
    run(job(tmp_path, rows, {channel: rows}, **values, validation_negative_sampling="auto"))
    line = (
        f"Channel {channel} holds positives only: 3 negatives are drawn for each positive, the same ones in every epoch"
    )
    assert said(caplog) == [("INFO", line)]


@pytest.mark.parametrize("mode", ["off", "auto"])
@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ([1.0, 0.0], {}),
        ([0.0, 0.0], {}),
        ([1.0, 1.0], {"negative_sampling_rate": 0}),
        ([5.0, 0.5], {"output_layer": "mean_squared_error"}),
    ],
    ids=["mixed", "negatives only", "no sampling", "ratings"],
)
def test_channels_with_negatives_are_not_changed(
    labels: list[float], values: dict[str, object], mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With labels of both kinds, or without negative sampling, nothing is logged and no pair is added."""
    train: list[Row] = [([n % 8 + 1], [n % 3 + 1], 1.0) for n in range(24)]
    rows = [([n % 8 + 1], [n % 3 + 1], labels[n % 2]) for n in range(10)]
    others = {"validation": rows, "test": rows}
    run(job(tmp_path, train, others, epochs=1, **values, validation_negative_sampling=mode))
    assert said(caplog) == []
    assert any(line.startswith("Finished scoring on 10 examples") for line in caplog.messages)


def test_resumed_job_has_the_same_validation_negatives(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A repeatedly interrupted job prints the losses of an uninterrupted one. Another setting is rejected."""
    train, validation = likes(40, 48)
    values = {"enc0_vocab_size": 60, "epochs": 3, "mini_batch_size": 100, "validation_negative_sampling": "auto"}
    made = job(tmp_path, train, {"validation": validation, "test": validation}, **values)
    run(made)
    whole = printed(caplog.messages, "validation cross_entropy <loss")
    tested = {line for line in caplog.messages if line.startswith("#test_score")}
    caplog.clear()
    given = {"channels": made.channels, "model_dir": made.model_dir, "checkpoint_dir": tmp_path / "checkpoints"}
    for _ in range(3):
        run(Job(configuration=made.configuration, **given), stop=StopAfter(20))
    with pytest.raises(UserError, match="validation_negative_sampling is auto there and off here"):
        run(Job(configuration=parse({**made.configuration.given, "validation_negative_sampling": "off"}), **given))
    run(Job(configuration=made.configuration, **given))
    assert printed(caplog.messages, "validation cross_entropy <loss") == whole
    assert len(whole) == 3
    assert {line for line in caplog.messages if line.startswith("#test_score")} == tested


def test_warning_if_no_negatives_are_possible(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All users like all items, in training or in validation."""
    train: list[Row] = [([user], [item], 1.0) for user in (1, 2) for item in (1, 2, 3)]
    validation: list[Row] = [([user], [item], 1.0) for user in (1, 2) for item in (3, 4)]
    run(job(tmp_path, train, {"test": validation}, epochs=1, validation_negative_sampling="auto"))
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and "could not be" in r.msg]
    assert len(warnings) == 2
    assert warnings[1].startswith("of 12 negatives 12 could not be drawn")


def test_hosts_draw_negatives_for_their_shards(tmp_path: Path) -> None:
    """Whether a channel has only positives depends on all shards; an empty one adds nothing."""
    with Ranks(score_positives, tmp_path) as ranks:
        ended = [ranks.ends(rank) for rank in (0, 1)]
    assert [code for code, _ in ended] == [0, 0], ended[0][1] + ended[1][1]
    scored = [int(count) for count in re.findall(r"Finished scoring on (\d+) examples", ended[0][1])]
    assert scored == [12 if share == "one negative" else 36 for share in TEST_SHARES]
