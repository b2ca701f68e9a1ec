"""A training job from its configuration to its model directory: set up, fit, save, test."""

from __future__ import annotations

import json
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import torch

from object2vec import allocator, artifact
from object2vec.archive import find_model
from object2vec.atomic_files import checksum
from object2vec.data.vocabulary import read_vocabulary
from object2vec.errors import AlgorithmError, ArtifactError
from object2vec.hyperparameters import Hyperparameters, typed, with_recipe
from object2vec.model.network import Network
from object2vec.model.pretrained import load_pretrained
from object2vec.ops import library
from object2vec.schema.schema import Schema
from object2vec.training import warm_start
from object2vec.training.channels import read_channels
from object2vec.training.checkpoints import Checkpoints
from object2vec.training.checks import (
    Job,
    auxiliary_files,
    channel_warnings,
    check_channels,
    has_one_side,
    without_second_side,
)
from object2vec.training.distributed import SINGLE_PROCESS, Group
from object2vec.training.evaluation import evaluate
from object2vec.training.graceful_shutdown import Stop
from object2vec.training.labels import calibrate
from object2vec.training.memory_estimate import check_memory, explain_memory_errors
from object2vec.training.model_writer import ModelWriter
from object2vec.training.report import Report, Style, make_report
from object2vec.training.trainer import Trainer

logger = logging.getLogger(__name__)


def run(job: Job, *, group: Group = SINGLE_PROCESS, stop: Stop | None = None, style: Style = "sagemaker") -> None:
    """Run a training job. On `stop`, save the best model so far and end.

    All ranks of a group run the same job at the same time. Rank 0 prints the log lines and writes the model.

    Raises:
        UserError: the configuration or the data cannot be used.
        AlgorithmError: training failed.
    """
    clock = Clock()
    allocator.keep_freed()
    kernels = library.load()
    logger.log(logging.WARNING if kernels.warning else logging.INFO, kernels.warning or f"Kernels: {kernels.build}")
    if group.any_rank(has_one_side(job)):
        logger.info("Records of channel train have no in1: enc1_network is none")
        job = without_second_side(job)
    _log_configuration(job)
    with explain_memory_errors(job.hyperparameters):
        _run(job, clock, group, stop or Stop(), style)


def _run(job: Job, clock: Clock, group: Group, stop: Stop, style: Style) -> None:
    epochs, silent = job.hyperparameters.epochs, not group.is_main
    report = make_report(style, host=job.host, epochs=epochs, model_dir=job.model_dir, silent=silent)
    check_channels(job)
    auxiliary_files(job)
    check_memory(job.hyperparameters, group.device)
    if group.is_main:
        artifact.check_writable(job.model_dir)
    checkpoints = _find_checkpoints(job, group)
    trainer = _make_trainer(job, report, group, checkpoints)
    writer = ModelWriter(job, trainer)
    stop.emergency_save = writer.write
    train, validation, test, trainer.ranking = read_channels(job, group, checkpoints)
    logger.info(f"Number of GPUs being used: {group.ranks_per_host if group.device.type == 'cuda' else 0}")
    clock.lap("setuptime")
    try:
        if trainer.epochs_before and not (checkpoints and checkpoints.found):
            logger.info("Warming the optimizer up: an epoch in which no weight moves")
            trainer.warm_up(train, stop)
        stop.training = True
        best = trainer.fit(train, validation, stop)
        if best.epoch is not None:
            report.best(best, repeat=best.epoch != trainer.reported)
            writer.labels = calibrate(job, trainer.network, validation) if group.is_main else None
        elif group.is_main:
            logger.warning("Stopped before the first epoch ended: the model has the weights of that moment")
        clock.lap("training.time")
        writer.write()
        clock.lap("model.serialize.time")
        if test and not group.any_rank(stop()):
            network = _as_written(trainer.network, job.hyperparameters)
            report.tested(evaluate(network, test, trainer.objective, group), test.size)
        clock.lap("model.score.time")
        group.barrier()  # the platform may end all hosts when the first one has ended
    except BaseException as error:
        if not (isinstance(error, AlgorithmError) and group.peer_lost and stop()):
            _raise_with_best(error, writer)
        writer.write()  # another rank was stopped first, and had no time to wait for this one
    report.finished(clock.started, clock.laps | {"totaltime": 1000 * (time.time() - clock.started)})


def _raise_with_best(error: BaseException, writer: ModelWriter) -> NoReturn:
    """Write the best model so far, if there is one, and raise `error` with a sentence that says so."""
    best = writer.trainer.best
    if best.epoch is None or not writer.trainer.group.is_main:
        raise error
    what = f"the model of epoch {best.epoch}, the best so far,"
    try:
        writer.write()
        kept = f"{what} is in {writer.job.model_dir}"
    except Exception as failure:
        if str(failure) == str(error):  # writing it is what failed
            raise error from None
        kept = f"{what} could not be written ({failure})"
    if isinstance(error, AlgorithmError):
        raise AlgorithmError(f"{error}; {kept}") from error
    error.add_note(kept)
    with suppress(OSError):  # standard output may be what failed
        logger.error(f"Training failed; {kept}")
    raise error


def _as_written(network: Network, hyperparameters: Hyperparameters) -> Network:
    """Round the network's token embeddings to the type that the model file has; return the network."""
    if hyperparameters.token_embedding_dtype == "float16":
        for table in network.tables:
            table.weight.data = artifact.to_float16(table.weight.data.cpu()).to(network.device)
    return network


class Clock:
    """Times the parts of a job in milliseconds; `started` is a time.time()."""

    def __init__(self) -> None:
        self.started = self._lap = time.time()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Count the time since the last call under `name`."""
        now = time.time()
        self.laps[name] = 1000 * (now - self._lap)
        self._lap = now


def _log_configuration(job: Job) -> None:
    logger.info(f"Provided configuration: {json.dumps(dict(job.configuration.given), default=str)}")
    for notice in (*job.configuration.warnings, *channel_warnings(job)):
        logger.warning(notice)
    if job.hyperparameters.recipe != "none":
        given = job.configuration.given
        chosen = {name: value for name, value in with_recipe(given).items() if name not in given}
        logger.info(f"Recipe {job.hyperparameters.recipe} sets: {json.dumps(chosen)}")
    logger.info(f"Final configuration: {json.dumps(job.hyperparameters.to_dict())}")
    for side, encoder in enumerate(job.hyperparameters.encoders):
        if not job.hyperparameters.has_enc_dim(side) and job.hyperparameters.enc_dim != encoder.token_embedding_dim:
            logger.info(f"enc{side} is pooled_embedding: its encodings have token_embedding_dim numbers, not enc_dim")


def _find_checkpoints(job: Job, group: Group) -> Checkpoints | None:
    """Return the job's checkpoints with the newest one found; None if rank 0 has no checkpoint directory."""
    directory = group.broadcast_text(str(job.checkpoint_dir or ""))
    if not directory:
        logger.info("Checkpoint loading and saving are disabled.")
        return None
    checkpoints = Checkpoints(Path(directory), group)
    checkpoints.find()
    settings = job.hyperparameters.to_dict()
    fingerprint: dict[str, object] = {typed(name, job.configuration.given): value for name, value in settings.items()}
    del fingerprint["epochs"]  # a job may go on for longer
    if group.is_main:
        there = auxiliary_files(job)
        if "model" in job.channels:
            model = find_model(job.channels["model"])
            there["channel model"] = model / artifact.WEIGHTS if model.is_dir() else model
        fingerprint |= {name: f"a file of checksum {checksum(path)}" for name, path in there.items() if path.is_file()}
    checkpoints.check_fingerprint(fingerprint | {"number of processes": group.size})
    return checkpoints


def _make_trainer(job: Job, report: Report, group: Group, checkpoints: Checkpoints | None) -> Trainer:
    """Return a new trainer, or one that continues from a checkpoint."""
    network = _make_network(job)
    epochs = 0
    if "model" in job.channels and group.is_main:
        try:
            epochs = warm_start.load_initial_weights(job.channels["model"], network, job.hyperparameters)
        except ArtifactError as error:
            raise warm_start.channel_error(error, job.configuration) from error
        logger.info(f"Going on with the model in {job.channels['model']}")
    epochs = int(group.sum([epochs])[0])
    network.to(group.device)
    group.broadcast_weights(network)
    trainer = Trainer(network, job.hyperparameters, report, group, checkpoints, epochs, job.on_epoch)
    if checkpoints and checkpoints.found:
        trainer.load_state_dict(checkpoints.found)
        checkpoints.found.close()
        where = f"epoch {trainer.epoch}, batch {trainer.batch}"
        logger.info(f"Going on from {checkpoints.found.name} in {checkpoints.directory}: {where}")
    return trainer


def _make_network(job: Job) -> Network:
    """Return a new network with its pretrained embeddings."""
    hyperparameters, files = job.hyperparameters, auxiliary_files(job)
    torch.manual_seed(hyperparameters.seed)
    network = Network(hyperparameters)
    schema = Schema.load(job.channels["schema"]) if "schema" in job.channels else None
    for side, encoder in enumerate(hyperparameters.encoders):
        name = encoder.pretrained_embedding_file
        if name and not (side and hyperparameters.tied_token_embedding_weight):
            if schema and not encoder.vocab_file:
                vocabulary = schema.sides[side].words()
            else:
                ids = read_vocabulary(files[encoder.vocab_file], encoder.vocab_size)
                vocabulary = {word: [token] for word, token in ids.items()}
            coverage = load_pretrained(files[name], vocabulary, network.encoder(side).embedding.weight)
            coverage.log(f"enc{side}", name, frozen=encoder.frozen)
    return network
