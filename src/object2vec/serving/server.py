"""Start gunicorn with a model: settings, resources and gunicorn_arguments.

The same server runs in the image and on a laptop. gunicorn is run as a command and never imported.
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
from typing import TYPE_CHECKING, Any, Final, NoReturn

from object2vec.archive import extract, find_model
from object2vec.errors import Object2VecError
from object2vec.hyperparameters import INDEX_FILES
from object2vec.resources import cpus, memory_available
from object2vec.serving.headers import Mode

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)

#: Connections of one worker at a time. Invocations are computed in turn. /ping waits only if all connections are used.
CONNECTIONS_PER_WORKER: Final = 512
#: Seconds that a worker gets to load its model, as the platform gives a container.
LOAD_SECONDS: Final = 480
#: Seconds that running requests get after SIGTERM. The platform kills after 30.
SHUTDOWN_SECONDS: Final = 25
#: Seconds that an idle connection stays open, longer than a proxy in front keeps one for its next request.
KEEP_ALIVE_SECONDS: Final = 75
#: The exit status of a worker, or of the whole server, with which gunicorn gives up and starts no other.
LOAD_FAILED_STATUS: Final = 3
MB: Final = 2**20
#: Approximate memory of the server without a model, and of each worker for its requests.
SERVER_BYTES: Final = 300 * MB
WORKER_BYTES: Final = 100 * MB
#: Folders that workers share, one for a model from an archive, and the server's empty working directory.
CWD_FOLDER: Final = "cwd"
SCRATCH_FOLDERS: Final = ("metrics", "models", "archive", CWD_FOLDER)
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
    """The CPUs, memory and GPU of this machine."""

    cpus: int
    memory: int  # bytes
    gpu: bool

    @classmethod
    def detect(cls) -> Machine:
        return cls(cpus=cpus(), memory=memory_available(), gpu=any(Path("/dev").glob("nvidia[0-9]*")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings that a user chose.

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
    """The resources of a server.

    Each worker may use `body_bytes` for requests in progress, an equal part of the memory without server and weights.
    In a multi-model endpoint it is a quarter of that, and the models may use `models_bytes`, else None.
    """

    workers: int
    threads: int  # of each worker, for computing
    body_bytes: int
    models_bytes: int | None


def allocate(settings: Settings) -> Resources:
    """Divide the machine between the workers, for the model and the options that were finally chosen."""
    machine = settings.machine
    memory = machine.memory - SERVER_BYTES - (0 if settings.multi_model else mapped_bytes(settings.model))
    # One model on a GPU: its memory is what is scarce, and it works on one request at a time.
    workers = settings.workers or (1 if machine.gpu else max(1, min(machine.cpus, memory // WORKER_BYTES)))
    body_bytes, models_bytes = max(WORKER_BYTES, memory // workers), None
    if settings.multi_model:
        body_bytes = max(WORKER_BYTES, body_bytes // 4)
        models_bytes = max(0, memory - workers * body_bytes)
    return Resources(
        workers=workers,
        threads=max(1, machine.cpus // workers),  # so that workers do not compete for the CPUs
        body_bytes=body_bytes,
        models_bytes=models_bytes,
    )


def mapped_bytes(model: Path) -> int:
    """Return the size of a model's weights and indexes in memory, which is that of its files; 0 if there are none."""
    files = (file for name in ("*.safetensors", INDEX_FILES) for file in model.glob(name))
    return sum(file.stat().st_size for file in files if file.is_file())


def start(settings: Settings) -> NoReturn:
    """Replace this process by the server.

    Raises:
        ArtifactError: there is no model. Whether it can be loaded shows later.
    """
    model = settings.model if settings.multi_model else find_model(settings.model)
    settings = replace(settings, model=model.absolute())
    scratch = Path(tempfile.mkdtemp(prefix="object2vec-"))
    try:
        for name in SCRATCH_FOLDERS:
            (scratch / name).mkdir()
        if settings.model.is_file():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `scratch` is removed
            settings = replace(settings, model=extract(settings.model, scratch / "archive"))
        resources = allocate(settings)
        command = [sys.executable, *gunicorn_arguments(settings, resources, scratch)]
        environment = gunicorn_environment(os.environ, resources.threads, scratch)
        # gunicorn puts its working directory on sys.path and reads gunicorn.conf.py there. This one is empty.
        os.chdir(scratch / CWD_FOLDER)
        sys.stdout.flush()
        os.execve(sys.executable, command, environment)  # noqa: S606
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def gunicorn_environment(environment: Mapping[str, str], threads: int, scratch: Path) -> dict[str, str]:
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


def gunicorn_arguments(settings: Settings, resources: Resources, scratch: Path) -> list[str]:
    """Return Python's arguments that run gunicorn with `application`. Workers share the folder `scratch`."""
    options = {
        "--config": "python:object2vec.serving.gunicorn_hooks",  # in place of a file of the working directory
        "--bind": f"{settings.host}:{settings.port}",
        "--workers": resources.workers,
        "--worker-class": "object2vec.serving.worker.Worker",
        "--threads": CONNECTIONS_PER_WORKER,
        "--timeout": settings.timeout,
        "--graceful-timeout": SHUTDOWN_SECONDS,
        "--keep-alive": KEEP_ALIVE_SECONDS,
    }
    # Without a GPU the model is loaded once, before the port opens, and the workers are forked with it. With one each
    # worker loads its own: CUDA does not survive a fork.
    flags = ["--no-control-socket", *([] if settings.machine.gpu else ["--preload"])]
    call = {
        "directory": str(settings.model),
        "scratch": str(scratch),
        "models_bytes": resources.models_bytes,
        "mode": settings.mode,
        "device": None if settings.machine.gpu else "cpu",
        "body_bytes": resources.body_bytes,
        "concurrency": resources.workers,
        "max_payload": settings.max_payload,
        "accept": settings.accept,
    }
    factory = f"{__name__}:application({', '.join(f'{name}={value!r}' for name, value in call.items())})"
    # -P: modules of the working directory are not imported.
    return ["-P", "-m", "gunicorn", *(str(word) for option in options.items() for word in option), *flags, factory]


def application(
    *,
    directory: str,
    scratch: str,
    models_bytes: int | None,
    mode: Mode,
    device: str | None,
    body_bytes: int,
    concurrency: int,
    **options: Any,
) -> Flask:
    """Return the application for gunicorn, with the `options` of `create_app`.

    The model is loaded now, or with `models_bytes` when a client asks.
    """
    gc.disable()  # it would scan the objects of torch many times
    if os.getpid() == 1:  # it ignores SIGTERM without a handler; gunicorn sets its own later
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
    load = partial(Predictor.load, mode=mode, device=device, with_indexes=True)
    models: Predictor | ModelRegistry
    try:
        if models_bytes is None:
            models = load(directory)
        else:
            register, root = Path(scratch, "models"), Path(directory).parent
            models = ModelRegistry(directory=register, root=root, capacity=models_bytes, workers=concurrency, open=load)
    except Object2VecError as error:
        logger.critical("cannot serve: %s", error)
        raise SystemExit(LOAD_FAILED_STATUS) from None
    telemetry = Telemetry(shared=Path(scratch, "metrics"), log=io.FileIO(1, "wb", closefd=False))
    app = create_app(models, concurrency=concurrency, memory=MemoryBudget(body_bytes), telemetry=telemetry, **options)
    # Objects that exist now live to the end. The collector skips them, so workers keep sharing their memory and a
    # process exits sooner.
    gc.freeze()
    gc.enable()
    return app


def remove_scratch(scratch: str, owner: int) -> None:
    """Remove the folder that workers share when the master exits. In workers, which inherit this hook, do nothing."""
    if os.getpid() == owner:
        shutil.rmtree(scratch, ignore_errors=True)
