"""From the platform's variables to gunicorn's arguments; the server itself is started in the integration tests."""

from __future__ import annotations

import ast
import gc
import gzip
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from object2vec import artifact
from object2vec.errors import ArtifactError, UserError
from object2vec.sagemaker.serving import read_settings, serve
from object2vec.serving.memory_budget import COLUMN_BYTES
from object2vec.serving.server import (
    LOAD_FAILED_STATUS,
    MB,
    SERVER_BYTES,
    WORKER_BYTES,
    Machine,
    Settings,
    allocate,
    application,
    gunicorn_arguments,
    gunicorn_environment,
    mapped_bytes,
    start,
)
from small import configured, network_of

FOUR = Machine(cpus=4, memory=2**33, gpu=False)
GPU = Machine(cpus=8, memory=2**33, gpu=True)
SCRATCH = Path("nowhere")  # removed at the end of what serves


def settings(machine: Machine = FOUR, **environment: str) -> Settings:
    return read_settings(environment, machine)


def words_of(of: Settings) -> list[str]:
    return gunicorn_arguments(of, allocate(of), SCRATCH)


def value_of(argument: str, of: Settings) -> str:
    words = words_of(of)
    return words[words.index(argument) + 1]


def call_of(of: Settings) -> dict[str, object]:
    """The arguments of the factory, as gunicorn reads them from its last word."""
    module, _, call = words_of(of)[-1].partition(":")
    assert module == "object2vec.serving.server"
    expression = ast.parse(call, mode="eval").body
    assert isinstance(expression, ast.Call)
    assert isinstance(expression.func, ast.Name)
    assert expression.func.id == application.__name__
    return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in expression.keywords}


# The environment.


def test_without_variables() -> None:
    """What the platform expects: its port, all CPUs, 25 MB, replies in the request's type."""
    assert settings() == Settings(
        model=Path("/opt/ml/model"),
        multi_model=False,
        mode="classification",
        host="0.0.0.0",
        port=8080,
        workers=None,
        timeout=480,
        max_payload=25 * 2**20,
        accept=None,
        machine=FOUR,
    )


def test_whole_numbers_as_tools_write_them() -> None:
    given = settings(SAGEMAKER_MODEL_SERVER_WORKERS="2.0", SAGEMAKER_MAX_PAYLOAD_IN_MB="1e2")
    assert (given.workers, given.max_payload) == (2, 100 * 2**20)


def test_with_variables() -> None:
    given = settings(
        SAGEMAKER_BASE_DIR="/somewhere",
        INFERENCE_PREFERRED_MODE="embedding",
        SAGEMAKER_BIND_TO_PORT="9000",
        SAGEMAKER_MODEL_SERVER_WORKERS="3",
        SAGEMAKER_MODEL_SERVER_TIMEOUT="30",
        SAGEMAKER_MAX_PAYLOAD_IN_MB="6",
        SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="application/jsonlines",
    )
    assert (given.model, given.mode, given.port) == (Path("/somewhere/model"), "embedding", 9000)
    assert (given.workers, given.timeout) == (3, 30)
    assert (given.max_payload, given.accept) == (6 * 2**20, "application/jsonlines")


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"SAGEMAKER_BATCH": "true"}, 100 * 2**20),
        ({"SAGEMAKER_BATCH": "True"}, 100 * 2**20),
        ({"SAGEMAKER_BATCH": "false"}, 25 * 2**20),
        ({"SAGEMAKER_BATCH": "true", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "1"}, 2**20),
        ({"SAGEMAKER_BATCH": "true", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}, None),
    ],
)
def test_payload(environment: dict[str, str], wanted: int | None) -> None:
    """A batch transform may send more, in either spelling; its 0 means streamed without limit."""
    assert settings(**environment).max_payload == wanted


@pytest.mark.parametrize(("memory", "bodies"), [(8300, 2000), (1100, 200), (500, 100), (100, 100)])
def test_memory_for_bodies(memory: int, bodies: int) -> None:
    """What is left beside the server is the workers', in equal parts; there has to be some in any case."""
    machine = Machine(cpus=4, memory=memory * MB, gpu=False)
    assert allocate(settings(machine, SAGEMAKER_MODEL_SERVER_WORKERS="4")).body_bytes == bodies * MB


@pytest.mark.parametrize("memory", [1400 * MB, 2**32, 2**36])
def test_a_multi_model_endpoint_takes_the_longest_body_too(memory: int) -> None:
    """Its models do not take the memory for it."""
    given = settings(Machine(cpus=2, memory=memory, gpu=False), SAGEMAKER_MULTI_MODEL="true")
    assert given.max_payload is not None
    resources = allocate(given)
    assert resources.body_bytes >= COLUMN_BYTES * given.max_payload
    assert resources.models_bytes is not None
    assert resources.models_bytes + 2 * resources.body_bytes + SERVER_BYTES == memory


def test_empty_variables_are_not_set() -> None:
    """As `docker run --env NAME=` leaves them."""
    names = (
        "SAGEMAKER_BASE_DIR",
        "INFERENCE_PREFERRED_MODE",
        "SAGEMAKER_BIND_TO_PORT",
        "SAGEMAKER_MODEL_SERVER_WORKERS",
    )
    assert settings(**dict.fromkeys(names, "")) == settings()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("INFERENCE_PREFERRED_MODE", "fast", "is 'fast', wanted one of classification, regression, embedding"),
        ("SAGEMAKER_BIND_TO_PORT", "80 80", "is '80 80', wanted an integer from 1 to 65535"),
        ("SAGEMAKER_BIND_TO_PORT", "65536", "is '65536', wanted an integer from 1 to 65535"),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "0", "is '0', wanted an integer from 1 to 1000000"),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "-1", "is '-1', wanted an integer from 1 to 1000000"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "1.5", "is '1.5', wanted an integer from 0 to 1000000"),
        ("SAGEMAKER_MULTI_MODEL", "yes", "is 'yes', wanted true or false"),
        ("SAGEMAKER_BATCH", "on", "is 'on', wanted true or false"),
        (
            "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
            "text/csv",
            "is 'text/csv', wanted application/json or application/jsonlines",
        ),
    ],
)
def test_variables_that_mean_nothing(name: str, value: str, sentence: str) -> None:
    """The server does not start on a guess."""
    with pytest.raises(UserError) as raised:
        settings(**{name: value})
    assert str(raised.value) == f"{name} {sentence}"


# The machine.


@pytest.mark.parametrize(("weights", "workers"), [(0, 3), (50, 3), (WORKER_BYTES, 2), (10 * WORKER_BYTES, 1)])
def test_little_memory_makes_few_workers(tmp_path: Path, weights: int, workers: int) -> None:
    """The server starts as many workers as fit in memory next to the weights, and at least one."""
    machine = Machine(cpus=8, memory=SERVER_BYTES + 3 * WORKER_BYTES + 50, gpu=False)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(weights)
    assert allocate(replace(settings(machine), model=tmp_path)).workers == workers


def test_much_memory_makes_a_worker_for_each_cpu() -> None:
    assert allocate(settings(Machine(cpus=2, memory=2**40, gpu=False))).workers == 2


@pytest.mark.parametrize(("workers", "room"), [("1", 2 * WORKER_BYTES + 50), ("3", 50), ("4", 0)])
def test_models_get_what_is_left(workers: str, room: int) -> None:
    machine = Machine(cpus=8, memory=SERVER_BYTES + 3 * WORKER_BYTES + 50, gpu=False)
    given = settings(machine, SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_MODEL_SERVER_WORKERS=workers)
    assert allocate(given).models_bytes == room


def test_multi_model(tmp_path: Path) -> None:
    """In either spelling; the server starts without a model, with room for many."""
    for text in ("true", "True"):
        given = settings(SAGEMAKER_MULTI_MODEL=text)
        assert given.multi_model
        assert call_of(given)["models_bytes"] == (FOUR.memory - SERVER_BYTES) * 3 // 4
    assert not settings(SAGEMAKER_MULTI_MODEL="false").multi_model


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_memory_is_divided_for_the_model_and_workers_that_are_served(tmp_path: Path, workers: int | None) -> None:
    """Options of the command replace those of the environment before anything is computed from them."""
    sizes = {"model-00001-of-00002.safetensors": 700 * MB, "model-00002-of-00002.safetensors": 300 * MB}
    for name, size in sizes.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    given = replace(settings(SAGEMAKER_MODEL_SERVER_WORKERS="2"), model=tmp_path, workers=workers)
    resources = allocate(given)
    count = workers or FOUR.cpus
    assert (resources.workers, resources.threads) == (count, FOUR.cpus // count)
    assert resources.body_bytes == (FOUR.memory - SERVER_BYTES - 1000 * MB) // count
    assert resources.models_bytes is None
    assert (call_of(given)["body_bytes"], call_of(given)["concurrency"]) == (resources.body_bytes, count)
    assert value_of("--workers", given) == str(count)


def test_a_large_model_leaves_memory_for_few_workers(tmp_path: Path) -> None:
    """Weights and indexes count: those of the given model, not those of SageMaker's folder, and no other files."""
    machine = Machine(cpus=4, memory=SERVER_BYTES + 500 * MB, gpu=False)
    for name, size in {"model.safetensors": 200, "index-in1.1a.vectors.npy": 50}.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(size * MB)
    (tmp_path / "vocab.json").write_bytes(b"x" * MB)
    assert allocate(replace(settings(machine), model=tmp_path)).workers == 2
    assert allocate(settings(machine)).workers == 4


def test_float16_weights_count_as_they_are(tmp_path: Path) -> None:
    """A table in float16 takes half of the memory, on the disk and after it is loaded."""
    sizes = {}
    for kind in ("float32", "float16"):
        hyperparameters = configured(enc0_vocab_size=5000, token_embedding_dtype=kind)
        artifact.save(tmp_path / kind, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
        sizes[kind] = mapped_bytes(tmp_path / kind)
    assert sizes["float16"] == pytest.approx(sizes["float32"] / 2, rel=0.02)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "3"),
        ({"OMP_NUM_THREADS": "abc"}, "3"),
        ({"OMP_NUM_THREADS": ""}, "3"),
        ({"OMP_NUM_THREADS": "0"}, "3"),
        ({"OMP_NUM_THREADS": "2"}, "2"),
        ({"OMP_NUM_THREADS": "4,2"}, "4,2"),
    ],
)
def test_number_of_threads(given: dict[str, str], wanted: str) -> None:
    """The user's number is kept; a value that OpenMP would ignore is not."""
    assert gunicorn_environment(given, 3, SCRATCH)["OMP_NUM_THREADS"] == wanted


def test_environment_of_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Variables of other tools do not set it up; relative entries of PYTHONPATH stay those of the user's folder."""
    monkeypatch.chdir(tmp_path)
    others = dict.fromkeys(("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "PORT", "SCRIPT_NAME", "SENDFILE"), "abc")
    others |= {"PROMETHEUS_MULTIPROC_DIR": "/elsewhere", "PYTHONPATH": ":lib::/usr/lib/x:", "HOME": "/root"}
    environment = gunicorn_environment(others, 1, Path("/scratch"))
    assert not {"GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "PORT", "SCRIPT_NAME", "SENDFILE"} & set(environment)
    assert environment["PROMETHEUS_MULTIPROC_DIR"] == "/scratch/metrics"
    assert environment["PYTHONPATH"] == f"{tmp_path}/lib:/usr/lib/x"
    assert environment["HOME"] == "/root"


def test_gpu_has_one_worker_that_loads_for_itself() -> None:
    """CUDA does not survive the fork of a loaded master, and memory of a GPU is for one model."""
    assert allocate(settings(GPU)).workers == 1
    assert allocate(settings(GPU, SAGEMAKER_MODEL_SERVER_WORKERS="2")).workers == 2
    assert "--preload" not in words_of(settings(GPU))
    assert call_of(settings(GPU))["device"] is None


def test_without_a_gpu_the_model_is_loaded_once() -> None:
    assert "--preload" in words_of(settings())
    assert call_of(settings())["device"] == "cpu"


# gunicorn's arguments.


def test_arguments() -> None:
    """Address, workers, threads enough that /ping has one beside requests, and less grace than the platform's 30 s."""
    given = settings(SAGEMAKER_BIND_TO_PORT="9000", SAGEMAKER_MODEL_SERVER_TIMEOUT="30")
    assert words_of(given)[:3] == ["-P", "-m", "gunicorn"]
    assert value_of("--bind", given) == "0.0.0.0:9000"
    assert value_of("--workers", given) == "4"
    assert value_of("--worker-class", given) == "object2vec.serving.worker.Worker"
    assert int(value_of("--threads", given)) > 64
    assert value_of("--timeout", given) == "30"
    assert 10 < int(value_of("--graceful-timeout", given)) < 30
    assert int(value_of("--keep-alive", given)) > 60  # the idle time of common proxies
    assert call_of(given) == {
        "directory": "/opt/ml/model",
        "scratch": "nowhere",
        "models_bytes": None,
        "mode": "classification",
        "device": "cpu",
        "max_payload": 25 * 2**20,
        "body_bytes": (FOUR.memory - SERVER_BYTES) // 4,
        "concurrency": 4,
        "accept": None,
    }


def test_any_directory_can_be_named() -> None:
    """What is a quote or a bracket to Python is a letter of a name here."""
    base = """/a b/it's "(x)", y={z}\\n"""
    assert call_of(settings(SAGEMAKER_BASE_DIR=base))["directory"] == str(Path(base, "model"))


# What gunicorn calls, and what stands before it.


@pytest.fixture
def thawed() -> Iterator[None]:
    """The factory freezes the collector's view of a server's process; tests go on in theirs."""
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.usefixtures("thawed")
def test_application_is_loaded(tmp_path: Path) -> None:
    """The arguments that the settings give make an application that answers."""
    hyperparameters = configured()
    artifact.save(tmp_path / "model", network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    app = application(**call_of(settings(SAGEMAKER_BASE_DIR=str(tmp_path))))  # type: ignore[arg-type]
    client = app.test_client()
    assert client.post("/invocations", data='{"instances": [{"in0": [1], "in1": [2]}]}').status_code == 200
    assert gc.isenabled()
    assert client.get("/execution-parameters").get_json()["MaxConcurrentTransforms"] == 4


@pytest.mark.usefixtures("thawed")
def test_application_that_cannot_be_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One sentence, and the status with which gunicorn gives up and starts no other worker."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(SystemExit) as raised:
        application(**call_of(settings(SAGEMAKER_BASE_DIR=str(tmp_path))))  # type: ignore[arg-type]
    assert raised.value.code == LOAD_FAILED_STATUS == 3
    assert "config.json: no format_version" in caplog.text
    assert "Traceback" not in caplog.text


def test_nothing_to_serve(tmp_path: Path) -> None:
    """Seen before gunicorn is started."""
    with pytest.raises(ArtifactError, match=r"model: No such file or directory, wanted a directory with config\.json"):
        start(settings(SAGEMAKER_BASE_DIR=str(tmp_path)))


class _Started(BaseException):
    """What the server is started with, in place of the start."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    hyperparameters = configured()
    directory = tmp_path / "work" / "top" / "trained"
    artifact.save(directory, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    with tarfile.open(tmp_path / "work" / "model.tgz", "w:gz") as archive:
        archive.add(directory.parent, "top")
    return directory


@pytest.mark.parametrize("given", ["top/trained", "top", "model.tgz"])
def test_model_in_a_folder_or_an_archive(
    model: Path, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is one of the user's folder. The server itself runs in an empty one, and shares no file of it."""
    seen: dict[str, object] = {}

    def execve(path: str, command: list[str], environment: dict[str, str]) -> None:
        call = ast.parse(command[-1].partition(":")[2], mode="eval").body
        assert isinstance(call, ast.Call)
        [directory] = [ast.literal_eval(word.value) for word in call.keywords if word.arg == "directory"]
        seen.update(directory=Path(directory), cwd=Path.cwd(), files=list(Path.cwd().iterdir()))
        seen.update(config=(Path(directory) / "config.json").read_bytes())
        raise _Started

    monkeypatch.setattr("object2vec.serving.server.os.execve", execve)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path / "work")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(_Started):
            start(replace(settings(), model=Path(given)))
    finally:
        signal.signal(signal.SIGTERM, handler)
    scratch = Path(str(seen["cwd"])).parent
    assert seen["files"] == []
    assert seen["config"] == (model / "config.json").read_bytes()
    assert (seen["directory"] == model) == given.startswith("top")
    assert scratch.parent == tmp_path
    assert not scratch.exists()


def test_archive_that_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, and no folder is left."""
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(b"no archive"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(ArtifactError, match=r"x\.tar\.gz: cannot be unpacked"):
            start(replace(settings(), model=tmp_path / "x.tar.gz"))
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_serve_tells_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the image runs: the sentence on standard error and a status other than 0."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    assert serve() == ArtifactError.exit_code == 2
    assert capsys.readouterr().err.startswith(f"serve: error: {tmp_path}/model: No such file or directory")
    monkeypatch.setenv("INFERENCE_PREFERRED_MODE", "fast")
    assert serve() == UserError.exit_code
    assert capsys.readouterr().err.startswith("serve: error: INFERENCE_PREFERRED_MODE is 'fast'")


def test_sigterm_right_after_the_fork_ends_a_worker() -> None:
    """The signal waits until the worker has handlers; the master takes signals again."""
    code = """
import os, signal
from gunicorn.workers.gthread import PollableMethodQueue
from object2vec.serving import gunicorn_hooks, worker
os.environ["PROMETHEUS_MULTIPROC_DIR"] = "/nonexistent/metrics"
signal.signal(signal.SIGTERM, lambda *_: None)
gunicorn_hooks.on_starting(None)
gunicorn_hooks.pre_fork(None, None)
if not (child := os.fork()):
    os.kill(os.getpid(), signal.SIGTERM)
    started = object.__new__(worker.Worker)
    started.alive, started.PIPE = True, os.pipe()
    os.set_blocking(started.PIPE[1], False)
    started.method_queue = PollableMethodQueue()
    started.method_queue.init()
    started.init_signals()
    gunicorn_hooks.post_worker_init(started)
    os._exit(started.alive)
assert os.waitpid(child, 0)[1] == 0
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""
    subprocess.run([sys.executable, "-c", code], check=True)
