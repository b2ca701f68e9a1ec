"""From the platform's environment to a running server: settings, and the gunicorn that they ask for.

The same server runs in the image and on a laptop. gunicorn is a command here, and never imported.
"""

from __future__ import annotations

import atexit
import gc
import io
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from object2vec.archive import extract, find_model
from object2vec.data.media_types import canonical
from object2vec.errors import Object2VecError, UserError
from object2vec.resources import cpus, memory_available
from object2vec.sagemaker.environment import Directories
from object2vec.serving.headers import TYPES, Mode, to_mode

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)

#: Connections that one worker holds at a time. Invocations take turns in it and /ping does not: it waits only where
#: there are more connections than these.
THREADS: Final = 512
#: Seconds for a worker to load its model in: the platform's own budget before it gives up on a container.
TIMEOUT: Final = 480
#: Seconds that running requests get after SIGTERM; the platform kills after 30.
GRACE: Final = 25
#: Seconds that an idle connection stays open, longer than a proxy in front keeps one for its next request.
KEEP_ALIVE: Final = 75
#: The exit status of a worker, or of the whole server, with which gunicorn gives up and starts no other.
CANNOT_LOAD: Final = 3
MB: Final = 2**20
#: Bytes of memory that the server takes before there is a model, and each worker beside it for its requests, about.
SERVER: Final = 300 * MB
WORKER: Final = 100 * MB
#: Folders that workers share, one for a model from an archive, and the server's empty working directory.
WORKING_FOLDER: Final = "cwd"
SCRATCH_FOLDERS: Final = ("metrics", "models", "archive", WORKING_FOLDER)
#: Variables by which gunicorn, Flask or systemd would change the server's settings. Other tools set them for their own.
FOREIGN_VARIABLES: Final = frozenset(
    {
        "FLASK_DEBUG",
        "FORWARDED_ALLOW_IPS",
        "GUNICORN_CMD_ARGS",
        "GUNICORN_FD",
        "GUNICORN_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "PORT",
        "SCRIPT_NAME",
        "SENDFILE",
        "WEB_CONCURRENCY",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is to run on."""

    cpus: int
    memory: int  # bytes
    gpu: bool

    @classmethod
    def here(cls) -> Machine:
        gpu = any(Path("/dev").glob("nvidia[0-9]*"))
        return cls(cpus=cpus(), memory=memory_available(), gpu=gpu)

    def workers(self, weights: int) -> int:
        """As many as there are CPUs and memory for, beside weights of so many bytes, which they share."""
        # One model on a GPU: its memory is what is scarce, and it works on one request at a time.
        return 1 if self.gpu else max(1, min(self.cpus, (self.memory - SERVER - weights) // WORKER))

    def bodies(self, workers: int, weights: int) -> int:
        """Bytes that each worker may take for the requests that are under way."""
        return max(WORKER, (self.memory - SERVER - weights) // workers)

    def bodies_beside_models(self, workers: int) -> int:
        """The same on a multi-model endpoint: a quarter of the memory is for bodies."""
        return max(WORKER, self.bodies(workers, 0) // 4)

    def room(self, workers: int) -> int:
        """Bytes that the models of a multi-model endpoint may take."""
        return max(0, self.memory - SERVER - workers * self.bodies_beside_models(workers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A server as its user asked for it.

    `workers` is None for as many as fit; `max_payload` is in bytes, None for no limit; `accept` is None for replies in
    the request's type.
    """

    model: Path
    multi_model: bool
    mode: Mode
    port: int
    workers: int | None
    timeout: int
    max_payload: int | None
    accept: str | None
    machine: Machine
    host: str = "0.0.0.0"  # noqa: S104 -- in a container; the command names its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a server uses of its machine. Each worker may take `body_bytes` for the requests in progress;
    `models_bytes` is the memory for the models of a multi-model endpoint, None for a single model."""

    workers: int
    threads: int  # of each worker, for computing
    body_bytes: int
    models_bytes: int | None


def serve() -> int:
    """Become the server that the environment describes: what the image's `serve` runs. Returns only to fail."""
    try:
        start(read_settings(os.environ))
    except Object2VecError as error:
        sys.stderr.write(f"serve: error: {error}\n")
        return error.exit_code


def read_settings(environment: Mapping[str, str], machine: Machine | None = None) -> Settings:
    """The settings in SageMaker's variables; an empty one counts as not set.

    Raises:
        UserError: a variable has no value that can be meant.
    """
    given = {name: value for name, value in environment.items() if value}
    batch = given.get("SAGEMAKER_BATCH", "").lower() == "true"
    payload = _integer(given, "SAGEMAKER_MAX_PAYLOAD_IN_MB", 100 if batch else 25, least=0)
    workers = "SAGEMAKER_MODEL_SERVER_WORKERS"
    return Settings(
        model=Directories.of(given).model,
        multi_model=given.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true",
        mode=to_mode(given.get("INFERENCE_PREFERRED_MODE", "classification"), "INFERENCE_PREFERRED_MODE", UserError),
        port=_integer(given, "SAGEMAKER_BIND_TO_PORT", 8080, most=65_535),
        workers=_integer(given, workers, 1) if workers in given else None,
        timeout=_integer(given, "SAGEMAKER_MODEL_SERVER_TIMEOUT", TIMEOUT),
        max_payload=payload * MB or None,  # batch transform's 0 means streamed, as long as there is memory for
        accept=_accept(given.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT")),
        machine=machine or Machine.here(),
    )


def allocate(settings: Settings) -> Resources:
    """Divide the machine between the workers, for the model and the options that were finally chosen."""
    machine = settings.machine
    weights = 0 if settings.multi_model else weights_bytes(settings.model)
    workers = settings.workers or machine.workers(weights)
    return Resources(
        workers=workers,
        threads=max(1, machine.cpus // workers),  # so that workers do not compete for the CPUs
        body_bytes=machine.bodies_beside_models(workers) if settings.multi_model else machine.bodies(workers, weights),
        models_bytes=machine.room(workers) if settings.multi_model else None,
    )


def weights_bytes(model: Path) -> int:
    """Return the size of a model's weights in memory, which is that of its files; 0 if there are none."""
    return sum(file.stat().st_size for file in model.glob("*.safetensors") if file.is_file())


def start(settings: Settings) -> NoReturn:
    """Become the server.

    Raises:
        ArtifactError: there is no model to serve; whether it can be loaded shows only then.
    """
    if not settings.multi_model:
        settings = replace(settings, model=find_model(settings.model))
    settings = replace(settings, model=settings.model.absolute())
    scratch = Path(tempfile.mkdtemp(prefix="object2vec-"))
    try:
        for name in SCRATCH_FOLDERS:
            (scratch / name).mkdir()
        if settings.model.is_file():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `scratch` is removed
            settings = replace(settings, model=extract(settings.model, scratch / "archive"))
        resources = allocate(settings)
        command = [sys.executable, *arguments(settings, resources, scratch)]
        environment = child_environment(os.environ, resources.threads, scratch)
        # gunicorn puts its working directory on sys.path and reads gunicorn.conf.py there. This one is empty.
        os.chdir(scratch / WORKING_FOLDER)
        sys.stdout.flush()
        os.execve(sys.executable, command, environment)  # noqa: S606
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def child_environment(environment: Mapping[str, str], threads: int, scratch: Path) -> dict[str, str]:
    """Return gunicorn's environment: that of this process, without variables that change the server's settings."""
    given = {name: value for name, value in environment.items() if name not in FOREIGN_VARIABLES}
    if not re.fullmatch(r"\s*[1-9][0-9]{0,5}(\s*,\s*[1-9][0-9]{0,5})*\s*", given.get("OMP_NUM_THREADS", "")):
        given["OMP_NUM_THREADS"] = str(threads)  # OpenMP would ignore it and take every CPU
    if "PYTHONPATH" in given:  # relative to the user's working directory, which gunicorn leaves
        entries = given["PYTHONPATH"].split(os.pathsep)
        given["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in entries if entry)  # noqa: PTH100
    return {
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait leave the CPU to those that answer
        "MALLOC_ARENA_MAX": "1",  # not one for each of many threads, of which one works at a time
        **given,
        "PROMETHEUS_MULTIPROC_DIR": str(scratch / "metrics"),
    }


def arguments(settings: Settings, resources: Resources, scratch: Path) -> list[str]:
    """Return Python's arguments, to run gunicorn with `application` below; workers share the folder `scratch`."""
    options = {
        "--config": "python:object2vec.sagemaker.gunicorn_hooks",  # in place of a file of the working directory
        "--bind": f"{settings.host}:{settings.port}",
        "--workers": resources.workers,
        "--worker-class": "object2vec.serving.worker.Worker",
        "--threads": THREADS,
        "--timeout": settings.timeout,
        "--graceful-timeout": GRACE,
        "--keep-alive": KEEP_ALIVE,
    }
    # Without a GPU the model is loaded once, before the port opens, and the workers are forked with it. With one each
    # worker loads its own: CUDA does not survive a fork.
    flags = ["--no-control-socket", *([] if settings.machine.gpu else ["--preload"])]
    call = {
        "directory": str(settings.model),
        "scratch": str(scratch),
        "room": resources.models_bytes,
        "mode": settings.mode,
        "device": None if settings.machine.gpu else "cpu",
        "max_payload": settings.max_payload,
        "bodies": resources.body_bytes,
        "concurrency": resources.workers,
        "accept": settings.accept,
    }
    factory = f"{__name__}:application({', '.join(f'{name}={value!r}' for name, value in call.items())})"
    # -P: modules of the working directory are not imported.
    return ["-P", "-m", "gunicorn", *(str(word) for option in options.items() for word in option), *flags, factory]


def application(
    *,
    directory: str,
    scratch: str,
    room: int | None,
    mode: Mode,
    device: str | None,
    max_payload: int | None,
    bodies: int,
    concurrency: int,
    accept: str | None,
) -> Flask:
    """The application with its model loaded, or without one where there is `room` for many: what gunicorn calls."""
    gc.disable()  # or it would look, over and over, at what torch brings along and keeps
    if os.getpid() == 1:  # which is deaf to SIGTERM without a handler, and gunicorn sets its own once this is done
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from object2vec.ops import library
    from object2vec.serving.application import create_app  # torch is slow to import, and `serve` needs none of it
    from object2vec.serving.memory_budget import MemoryBudget
    from object2vec.serving.model_registry import ModelRegistry
    from object2vec.serving.predictor import Predictor
    from object2vec.serving.telemetry import Telemetry

    if device is not None:  # in the master, and not in each of the workers
        atexit.register(remove_scratch, scratch, os.getpid())
    if warning := library.load().warning:
        logger.warning(warning)
    load = partial(Predictor.load, mode=mode, device=device)
    models: Predictor | ModelRegistry
    try:
        if room is None:
            models = load(directory)
        else:
            register = Path(scratch, "models")
            models = ModelRegistry(
                directory=register, root=Path(directory).parent, capacity=room, workers=concurrency, open=load
            )
    except Object2VecError as error:
        logger.critical("cannot serve: %s", error)
        raise SystemExit(CANNOT_LOAD) from None
    telemetry = Telemetry(shared=Path(scratch, "metrics"), log=io.FileIO(1, "wb", closefd=False))
    app = create_app(
        models,
        max_payload=max_payload,
        concurrency=concurrency,
        accept=accept,
        memory=MemoryBudget(bodies),
        telemetry=telemetry,
    )
    # What stands now stays to the end. The collector need not look at it again: workers go on sharing its memory, and
    # a process ends in a fraction of the time.
    gc.freeze()
    gc.enable()
    return app


def remove_scratch(scratch: str, owner: int) -> None:
    """Remove the folder that workers shared when their master ends. Workers inherit this function and do nothing."""
    if os.getpid() == owner:
        shutil.rmtree(scratch, ignore_errors=True)


def _integer(given: Mapping[str, str], name: str, default: int, least: int = 1, most: int = 10**6) -> int:
    text = given.get(name, str(default))
    if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise UserError(f"{name} is {text!r}, wanted an integer from {least} to {most}")
    return int(text)


def _accept(text: str | None) -> str | None:
    if text is not None and canonical(text) not in TYPES:
        raise UserError(f"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT is {text!r}, wanted {' or '.join(TYPES)}")
    return text
