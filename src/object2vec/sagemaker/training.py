"""The image's `train`: AWS's `train` command runs `main`, and a failure never ends with exit status 0."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from object2vec.errors import AlgorithmError, Object2VecError, UserError, printable
from object2vec.hyperparameters import Parsed, parse
from object2vec.sagemaker import pipes, supervisor
from object2vec.sagemaker.environment import Directories, TrainingEnvironment, read_config
from object2vec.threads import set_thread_defaults
from object2vec.training.graceful_shutdown import Stop, handle_termination_signals
from object2vec.training.report import log_as

if TYPE_CHECKING:
    from object2vec.training.checks import Job

logger = logging.getLogger(__name__)

#: What the platform shows of the failure file.
SHOWN_CHARACTERS: Final = 1024
#: How AWS's command begins a failure file where it meets something itself, before a traceback.
FRAMEWORK_ERROR: Final = "Framework Error"
_stop: Final = Stop()


def train() -> None:
    """Check the platform's files, for which AWS's command has only tracebacks, then run that command.

    If the job fails or the system kills it, exits with a status other than 0. The failure file then begins with one
    sentence.
    """
    set_thread_defaults(repeatable=True)
    # As process 1, this process would ignore the signal without a handler.
    with handle_termination_signals(_stop, signal.SIGTERM):
        log_as("sagemaker")
        try:
            TrainingEnvironment.read(Directories.from_environment())
        except UserError as error:
            _report(error)
            sys.exit(1)
        supervisor.run_supervised(_hand_over, _complete)


def _hand_over() -> None:
    from sagemaker_training import environment, trainer  # creates folders when it is imported

    # It must take missing and unusual files as `TrainingEnvironment.read` does.
    environment._read_json = lambda path: read_config(Directories.from_environment(), Path(path).name, [])
    trainer.train()


def main() -> None:
    """Run the job that the platform describes; `SAGEMAKER_TRAINING_MODULE` names this function.

    SIGTERM stops it: the batch is finished, the best model so far saved, and the exit status is 0.

    Raises:
        sagemaker_training.errors.ClientError: whatever went wrong, since that command ends with status 0 on some other
            exceptions. The failure file is already written by then.
    """
    with handle_termination_signals(_stop, signal.SIGTERM):
        log_as("sagemaker")
        try:
            _run()
        except BaseException as error:
            from sagemaker_training.errors import ClientError

            _report(error)
            raise ClientError(_sentence(error)) from None


def _run() -> None:
    """Run the job on this host."""
    environment = TrainingEnvironment.read(Directories.from_environment())
    for warning in environment.warnings:
        logger.warning(warning)
    configuration = parse(environment.hyperparameters)

    from object2vec.sagemaker import launch  # takes seconds to import

    run_on(launch.choose_devices(configuration.num_gpus), environment, configuration)


def run_on(devices: Sequence[str], environment: TrainingEnvironment, configuration: Parsed) -> None:
    """Run the job in a process for each of this host's devices.

    Raises:
        UserError: the configuration or the data cannot be used.
        AlgorithmError: training failed, here or in another process of the job.
    """
    from object2vec.sagemaker import launch
    from object2vec.training.checks import Job
    from object2vec.training.job import run

    with pipes.open_channels(environment, readers=len(devices)) as channels:
        job = Job(
            configuration=configuration,
            channels=channels,
            content_types=environment.content_types,
            sharded=environment.sharded,
            model_dir=Directories.from_environment().model,
            host=environment.host,
            checkpoint_dir=environment.checkpoints,
        )
        with (
            launch.spawn_ranks(partial(run_spawned_rank, environment, job), devices) as check,
            launch.join_group(environment, devices, 0, check) as group,
        ):
            run(job, group=group, stop=_stop)


def run_spawned_rank(environment: TrainingEnvironment, job: Job, devices: Sequence[str], number: int) -> None:
    """Run an additional rank of this host, on `devices[number]`; it logs warnings and errors only."""
    from object2vec.sagemaker import launch
    from object2vec.training.job import run

    log_as("sagemaker")
    logging.getLogger("object2vec").setLevel(logging.WARNING)
    with launch.join_group(environment, devices, number) as group:
        run(job, group=group, stop=_stop)


def _complete(code: int) -> None:
    """Report a failure that is not reported yet: the signal that killed the job, or the error of AWS's command."""
    failure = Directories.from_environment().failure
    if code < 0:
        _report(AlgorithmError(f"Training was killed by {signal.Signals(-code).name}"))
        if code == -signal.SIGKILL:  # what follows takes memory itself
            sentence = _out_of_memory()
            failure.unlink(missing_ok=True)
            _report(AlgorithmError(sentence))
    elif not failure.exists():
        _report(AlgorithmError(f"Training ended with status {code}, and the log has the reason"))
    elif (text := failure.read_text(errors="replace")).startswith(FRAMEWORK_ERROR):
        failure.unlink()  # its traceback is in the log too
        _report(AlgorithmError(f"AWS's command around training failed: {text.strip().splitlines()[-1]}"))


def _out_of_memory() -> str:
    """Return the sentence about a job that the system killed, probably because memory ran out."""
    from object2vec.training.memory_estimate import describe_memory_need

    hyperparameters = parse(TrainingEnvironment.read(Directories.from_environment()).hyperparameters).hyperparameters
    need = describe_memory_need(hyperparameters)
    return f"Training was killed by SIGKILL, as the system does where memory runs out: {need}"


def _report(error: BaseException) -> None:
    """Write the error to the failure file, unless it exists; the traceback goes to the log only."""
    failure = Directories.from_environment().failure
    remark = ""
    try:
        failure.parent.mkdir(parents=True, exist_ok=True)
        with failure.open("x", encoding="utf-8", errors="backslashreplace") as file:
            file.write(_sentence(error)[:SHOWN_CHARACTERS])
    except FileExistsError:
        remark = f"{failure} is there, and stays"
    except OSError as problem:
        remark = f"{failure}: cannot be written ({problem})"
    if isinstance(error, UserError):
        logger.error(f"Customer Error: {error}")
    else:
        logger.error("Training failed", exc_info=error)
    if remark:
        logger.warning(remark)


def _sentence(error: BaseException) -> str:
    if isinstance(error, Object2VecError):
        return f"{error.family}: {error}"
    notes = getattr(error, "__notes__", ())
    return "; ".join([f"AlgorithmError: {type(error).__name__}: {printable(str(error))}", *map(printable, notes)])
