"""Unknown channels and tuning objectives: what is refused and what is warned about."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from object2vec.data.channels import CHANNELS
from object2vec.errors import DataError
from object2vec.hyperparameters import parse
from object2vec.training.checks import Job, channel_warnings, check_channels
from small import SMALL

KNOWN = ", ".join(CHANNELS)
REGRESSION = {"output_layer": "mean_squared_error"}


def job(channels: Iterable[str], **hyperparameters: object) -> Job:
    return Job(
        configuration=parse(SMALL | hyperparameters),
        channels={name: Path(name) for name in channels},
        model_dir=Path("model"),
    )


def check(made: Job) -> None:
    check_channels(made)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("val", "validation"),
        ("valid", "validation"),
        ("Validation", "validation"),
        ("validaton", "validation"),
        ("evaluation", "validation"),
        ("eval", "validation"),
        ("dev", "validation"),
        ("training", "train"),
        ("tst", "test"),
        ("testing", "test"),
        ("aux", "auxiliary"),
        ("model_data", "model"),
    ],
)
def test_an_unknown_channel_is_warned_about(name: str, nearest: str) -> None:
    """The warning has the nearest known name and all of them."""
    made = job(["train", name])
    sentence = f"channel {name}: not known and not read, the nearest is {nearest}; channels are {KNOWN}"
    assert list(channel_warnings(made)) == [sentence]
    check(made)


def test_a_channel_like_no_other_has_no_nearest() -> None:
    """A name that is like none gets no hint."""
    assert list(channel_warnings(job(["train", "xyz"]))) == [
        f"channel xyz: not known and not read; channels are {KNOWN}"
    ]


def test_known_channels_are_not_warned_about() -> None:
    """The five channels, and those that SageMaker's SDK adds."""
    assert not list(channel_warnings(job([*KNOWN.split(", "), "code", "sm_drivers"])))


@pytest.mark.parametrize(
    ("channels", "objective", "changes", "sentence"),
    [
        (["train", "val"], "validation:accuracy", {}, "wanted a validation channel; the channels are: train, val"),
        (["train"], "test:cross_entropy", {}, "wanted a test channel; the channels are: train"),
        (["train"], '"validation:accuracy"', {}, "wanted a validation channel; the channels are: train"),
        (["train"], "validation:my-own", {}, "wanted a validation channel; the channels are: train"),
        (
            ["train", "validation"],
            "validation:accuracy",
            REGRESSION,
            "wanted for this output_layer validation:mean_squared_error",
        ),
        (
            ["train", "test"],
            "test:mean_squared_error",
            {},
            "wanted for this output_layer test:accuracy or test:cross_entropy",
        ),
        (
            ["train"],
            "train:mean_squared_error",
            {},
            "wanted for this output_layer train:accuracy or train:cross_entropy",
        ),
    ],
)
def test_an_objective_that_the_job_does_not_have(
    channels: list[str], objective: str, changes: dict[str, object], sentence: str
) -> None:
    """A tuning objective of a missing channel, or of another output layer, is refused."""
    with pytest.raises(DataError) as raised:
        check(job(channels, _tuning_objective_metric=objective, **changes))
    unquoted = objective.strip('"')
    assert str(raised.value) == f"_tuning_objective_metric is {unquoted}, {sentence}"


@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        ("validation:accuracy", {}),
        ("test:cross_entropy", {}),
        ("validation:mean_squared_error", REGRESSION),
        ("train:accuracy", {}),
        ("train:throughput", {}),
        ("", {}),
        ("None", {}),
        (None, {}),
    ],
)
def test_an_objective_that_the_job_has(objective: str | None, changes: dict[str, object]) -> None:
    """Metrics of the job's channels and output layer, and no objective at all, are fine."""
    made = job(["train", "validation", "test"], _tuning_objective_metric=objective, **changes)
    check(made)
    assert not list(channel_warnings(made))


def test_a_ranking_metric_is_an_objective_if_it_is_measured() -> None:
    made = job(["train", "validation"], _tuning_objective_metric="validation:mrr", early_stopping_metric="mrr")
    assert not list(channel_warnings(made))


@pytest.mark.parametrize(
    ("objective", "nearest"), [("validation:acuracy", "validation:accuracy"), ("val_accuracy", "validation:accuracy")]
)
def test_an_unknown_objective_is_warned_about(objective: str, nearest: str) -> None:
    """A metric may be defined by the user's own expression: the job continues with a warning."""
    made = job(["train", "validation"], _tuning_objective_metric=objective)
    check(made)
    sentence = f"_tuning_objective_metric is {objective}: no such metric, the nearest is {nearest}"
    assert list(channel_warnings(made)) == [sentence]
