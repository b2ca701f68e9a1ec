"""A training job, and the checks of it that take no time: they run before torch is imported."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from object2vec import artifact
from object2vec.data.jsonlines import check_first_record
from object2vec.errors import DataError
from object2vec.hyperparameters import Hyperparameters, parse
from object2vec.training import warm_start

#: The channels that hold pairs.
PAIR_CHANNELS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to train on and where to put the model.

    `channels` maps train, validation, test and auxiliary to files or folders; only train must be there. A channel
    called model has a model to go on from, packed or not.
    `content_types` holds those that the platform names; a channel without one is JSON Lines. Of the channels in
    `sharded` each host has a part of its own, which may be nothing; the others are the same on each host. With a
    `checkpoint_dir`, that of the first rank, the job goes on from the newest checkpoint in it, and writes new ones.
    """

    hyperparameters: Mapping[str, object]
    channels: Mapping[str, Path]
    model_dir: Path
    content_types: Mapping[str, str] = field(default_factory=dict)
    sharded: Container[str] = ()
    host: str = "algo-1"
    checkpoint_dir: Path | None = None


def check_job(job: Job) -> None:
    """Check what would end a job soon after its start: hyperparameters, paths, the first record of each channel.

    Training checks all of it again. Pipes are not opened, and a channel that is shared out may be empty.

    Raises:
        UserError: the configuration or the data cannot be used.
    """
    hyperparameters = parse(job.hyperparameters).hyperparameters
    auxiliary_files(job, hyperparameters)
    artifact.check(job.model_dir)
    if "model" in job.channels:
        warm_start.check_model(job.channels["model"], hyperparameters, job.hyperparameters)
    for name in PAIR_CHANNELS:
        if name in job.channels and name not in job.sharded:
            check_first_record(name, job.channels[name], hyperparameters)


def auxiliary_files(job: Job, hyperparameters: Hyperparameters) -> dict[str, Path]:
    """Return the files of the auxiliary channel that the configuration names.

    Raises:
        DataError: a file or the channel is missing.
    """
    names = {name for e in hyperparameters.encoders for name in (e.pretrained_embedding_file, e.vocab_file) if name}
    return {name: _auxiliary(job, name) for name in sorted(names)}


def _auxiliary(job: Job, name: str) -> Path:
    if "auxiliary" not in job.channels:
        raise DataError(f"There is no auxiliary channel, wanted one with the file {name}")
    path = job.channels["auxiliary"] / name
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in job.channels["auxiliary"].glob("*"))) or "nothing"
        raise DataError(f"{path}: no such file; the auxiliary channel has {there}")
    return path
