"""The `train` of the image: AWS's own `train` command runs `main`, and no failure of it ends with exit status 0."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from typing import Final, Never

from object2vec.errors import Object2VecError, UserError
from object2vec.hyperparameters import parse
from object2vec.sagemaker.environment import Directories, TrainingEnvironment
from object2vec.signals import heeded
from object2vec.training.stopping import Stop

logger = logging.getLogger(__name__)

#: What the platform shows of the failure file.
SHOWN_CHARACTERS: Final = 1024
_stop: Final = Stop()


def train() -> None:
    """Check the platform's files, which AWS's command meets with a traceback, then hand over to that command.

    Exits with a status other than 0 and one sentence first in the failure file where the job cannot be done.
    """
    with heeded(_stop, signal.SIGTERM):  # as process 1 it would be ignored without a handler, also while torch loads
        from object2vec.training.report import log_to_stdout

        log_to_stdout()
        try:
            TrainingEnvironment.read(Directories.of())
        except UserError as error:
            _report(error)
            sys.exit(1)
        from sagemaker_training import trainer  # creates folders when it is imported

        trainer.train()


def main() -> None:
    """Run the job that the platform describes; `SAGEMAKER_TRAINING_MODULE` names this function.

    SIGTERM stops it: the batch is finished, the best model so far saved, and the exit status is 0.

    Raises:
        sagemaker_training.errors.ClientError: whatever went wrong, since that command ends with status 0 on some other
            exceptions. The failure file is already written by then.
    """
    with heeded(_stop, signal.SIGTERM):
        from object2vec.training.report import log_to_stdout

        log_to_stdout()
        try:
            _run()
        except BaseException as error:
            _fail(error)


def _run() -> None:
    """Run the job on this host, in a process for each of its GPUs."""
    from object2vec.sagemaker import hosts

    environment = TrainingEnvironment.read(Directories.of())
    devices = hosts.choose_devices(parse(environment.hyperparameters).num_gpus)
    with hosts.processes_beside(take_part_beside, devices):
        take_part(devices)


def take_part_beside(devices: Sequence[str], number: int) -> None:
    """Take part in the job as a further process of this host, whose first one speaks for it."""
    from object2vec.training.report import log_to_stdout

    log_to_stdout()
    logging.getLogger("object2vec").setLevel(logging.WARNING)
    take_part(devices, number)


def take_part(devices: Sequence[str], number: int = 0) -> None:
    """Take part in the job as this host's process for `devices[number]`.

    Raises:
        UserError: the configuration or the data cannot be used.
        AlgorithmError: training failed, here or in another process of the job.
    """
    from object2vec.sagemaker import hosts
    from object2vec.training.job import Job, run

    directories = Directories.of()
    environment = TrainingEnvironment.read(directories)
    job = Job(
        hyperparameters=environment.hyperparameters,
        channels=environment.channels,
        content_types=environment.content_types,
        sharded=environment.sharded,
        model_dir=directories.model,
        host=environment.host,
        checkpoint_dir=environment.checkpoints,
    )
    with hosts.joined(environment, devices, number) as group:
        run(job, group=group, stop=_stop)


def _fail(error: BaseException) -> Never:
    from sagemaker_training.errors import ClientError

    _report(error)
    raise ClientError(_sentence(error)) from None


def _report(error: BaseException) -> None:
    """Write the sentence to the failure file, unless one is there; the traceback goes to the log only."""
    if isinstance(error, UserError):
        logger.error(f"Customer Error: {error}")
    else:
        logger.error("Training failed", exc_info=error)
    failure = Directories.of().failure
    try:
        failure.parent.mkdir(parents=True, exist_ok=True)
        with failure.open("x") as file:
            file.write(_sentence(error)[:SHOWN_CHARACTERS])
    except FileExistsError:
        logger.info(f"{failure} is there, and stays")
    except OSError as problem:
        logger.error(f"{failure}: cannot be written ({problem})")


def _sentence(error: BaseException) -> str:
    if isinstance(error, Object2VecError):
        return f"{error.family}: {error}"
    return f"AlgorithmError: {type(error).__name__}: {error}"
