"""A training job, and the quick checks that run before torch is imported."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from object2vec import artifact
from object2vec.data.channels import CHANNELS, PAIR_CHANNELS
from object2vec.data.jsonlines import check_first_record, first_record
from object2vec.data.vocabulary import find_row_vocabulary, is_table
from object2vec.errors import DataError, HyperparameterError, shortened
from object2vec.hyperparameters import Hyperparameters, Parsed, parse, typed
from object2vec.hyperparameters.table import RANKING_METRICS
from object2vec.schema.schema import Schema
from object2vec.training import warm_start

#: Channels that SageMaker's SDK adds for its own use.
SDK_CHANNELS: Final = ("code", "sm_drivers")
#: Beginnings of names that people give a validation channel.
VALIDATION_NAMES: Final = ("dev", "eval")
#: Metrics of each channel by output layer, and those of any training.
METRICS: Final = {True: ("mean_squared_error",), False: ("accuracy", "cross_entropy")}
TRAIN_METRICS: Final = ("train:progress", "train:throughput")
OBJECTIVE: Final = "_tuning_objective_metric"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to train on and where to put the model.

    `configuration` is parsed once, where the job is made. `channels` maps train, validation, test and auxiliary to
    files or folders; only train must be there. A channel called model has a model to go on from, packed or not.
    `content_types` holds those that the platform names; a channel without one is JSON Lines. Of the channels in
    `sharded` each host has a part of its own, which may be nothing; the others are the same on each host. With a
    `checkpoint_dir`, that of the first rank, the job goes on from the newest checkpoint in it, and writes new ones.
    `on_epoch` is called with the record of each finished epoch.
    """

    configuration: Parsed
    channels: Mapping[str, Path]
    model_dir: Path
    content_types: Mapping[str, str] = field(default_factory=dict)
    sharded: Container[str] = ()
    host: str = "algo-1"
    checkpoint_dir: Path | None = None
    on_epoch: Callable[[dict[str, Any]], object] | None = None

    @property
    def hyperparameters(self) -> Hyperparameters:
        return self.configuration.hyperparameters


def check_job(job: Job) -> None:
    """Check paths and the first record of each channel before torch is imported.

    Training checks all of it again. Pipes are not opened, and a channel that is shared out may be empty.

    Raises:
        UserError: the configuration or the data cannot be used.
    """
    check_channels(job)
    job = without_second_side(job) if has_one_side(job) else job
    auxiliary_files(job)
    artifact.check_writable(job.model_dir)
    schema_files(job)
    if "model" in job.channels:
        warm_start.check_model(job.channels["model"], job.configuration)
    for name in PAIR_CHANNELS:
        if name in job.channels and name not in job.sharded:
            check_first_record(name, job.channels[name], job.hyperparameters)


def has_one_side(job: Job) -> bool:
    """Return whether the first record of training has no in1, and the configuration leaves open what encodes it."""
    if "train" not in job.channels or typed("enc1_network", job.configuration.given) in job.configuration.given:
        return False
    record = first_record("train", job.channels["train"])
    return isinstance(record, dict) and {"in0", "label"} <= record.keys() and "in1" not in record


def without_second_side(job: Job) -> Job:
    """Return the job with `enc1_network=none`; unchanged if other hyperparameters need two sides."""
    given = job.configuration.given
    try:
        configuration = parse({**given, typed("enc1_network", given): "none"})
    except HyperparameterError:
        return job
    return replace(job, configuration=configuration)


def check_channels(job: Job) -> None:
    """Check that the job has the channels that it needs.

    Raises:
        DataError: the train channel is missing, or the tuning objective is a metric that the job does not have.
    """
    given = ", ".join(job.channels) or "none"
    if "train" not in job.channels:
        raise DataError(f"There is no train channel, wanted one; the channels are: {given}")
    metric = job.hyperparameters.early_stopping_metric
    if metric in RANKING_METRICS and "validation" not in job.channels:
        raise DataError(f"early_stopping_metric is {metric}, wanted a validation channel; the channels are: {given}")
    objective = job.configuration.tuning_objective
    channel, _, metric = objective.partition(":")
    if channel not in PAIR_CHANNELS or not metric:
        return
    if channel not in job.channels:
        raise DataError(f"{OBJECTIVE} is {objective}, wanted a {channel} channel; the channels are: {given}")
    regression = job.hyperparameters.squared_error
    if metric in METRICS[not regression]:
        names = " or ".join(f"{channel}:{name}" for name in METRICS[regression])
        raise DataError(f"{OBJECTIVE} is {objective}, wanted for this output_layer {names}")


def channel_warnings(job: Job) -> Iterator[str]:
    """Yield a warning for each channel that is not read, and one for an unknown tuning objective."""
    for name in job.channels:
        if name not in (*CHANNELS, *SDK_CHANNELS):
            nearest = _nearest_channel(name)
            hint = f", the nearest is {nearest}" if nearest else ""
            yield f"channel {name}: not known and not read{hint}; channels are {', '.join(CHANNELS)}"
    metrics = [f"{channel}:{name}" for channel in PAIR_CHANNELS for names in METRICS.values() for name in names]
    metrics += TRAIN_METRICS
    if (metric := job.hyperparameters.early_stopping_metric) in RANKING_METRICS:
        metrics.append(f"validation:{metric}")
    objective = job.configuration.tuning_objective
    if objective and objective not in metrics:
        (nearest,) = difflib.get_close_matches(objective, metrics, n=1, cutoff=0.0)
        yield f"{OBJECTIVE} is {shortened(objective)}: no such metric, the nearest is {nearest}"


def _nearest_channel(name: str) -> str:
    """Return the known channel that a name probably means, or nothing."""
    lower = name.lower()
    if lower.startswith(VALIDATION_NAMES):
        return "validation"
    for known in CHANNELS:
        if known.startswith(lower) or lower.startswith(known):
            return known
    return next(iter(difflib.get_close_matches(lower, CHANNELS, n=1, cutoff=0.5)), "")


def auxiliary_files(job: Job) -> dict[str, Path]:
    """Return the files of the auxiliary channel that the configuration names, and those with the words of tables.

    Raises:
        UserError: a file or the channel is missing, or pretrained embeddings have no vocabulary.
    """
    encoders = job.hyperparameters.encoders
    if "schema" not in job.channels:
        _check_vocabularies(job)
    names = sorted({name for e in encoders for name in (e.pretrained_embedding_file, e.vocab_file) if name})
    folder = job.channels.get("auxiliary")
    if names and folder is None:
        raise DataError(f"There is no auxiliary channel, wanted one with the file {names[0]}")
    files = {name: folder / name for name in names} if folder else {}
    for path in files.values():
        if not path.is_file():
            there = ", ".join(sorted(p.name for p in path.parent.glob("*"))) or "nothing"
            raise DataError(f"{path}: no such file; the auxiliary channel has {there}")
    tables = {files[e.pretrained_embedding_file] for e in encoders if e.pretrained_embedding_file}
    return files | {path.name: path for path in map(find_row_vocabulary, filter(is_table, sorted(tables)))}


def _check_vocabularies(job: Job) -> None:
    """Check that pretrained embeddings have a vocabulary of token ids."""
    errors = []
    for side, encoder in enumerate(dict.fromkeys(job.hyperparameters.encoders)):  # equal encoders are checked once
        if encoder.pretrained_embedding_file and not encoder.vocab_file:
            names = [
                typed(f"enc{side}_{name}", job.configuration.given)
                for name in ("pretrained_embedding_file", "vocab_file")
            ]
            got = f"got '{encoder.pretrained_embedding_file}' and no {names[1]}, wanted both"
            errors.append(f"{names[0]}: {got}: the vocabulary says which word has which token id")
    if errors:
        raise HyperparameterError(errors)


def schema_files(job: Job) -> dict[str, Path]:
    """Return the files of the schema channel, none without one, and check that the schema fits the configuration.

    Raises:
        UserError: the schema cannot be read, or has more token ids than the configuration.
    """
    if "schema" not in job.channels:
        return {}
    folder = job.channels["schema"]
    schema = Schema.load(folder)
    for number, (side, encoder) in enumerate(zip(schema.sides, job.hyperparameters.encoders, strict=True)):
        if side.vocabulary.size > encoder.vocab_size:
            ids = f"{folder}: in{number} has {side.vocabulary.size} token ids"
            raise DataError(f"{ids}, wanted at most enc{number}_vocab_size={encoder.vocab_size}")
    return {name: folder / name for name in schema.fills()}
