"""Code and settings in the working directory, and of other tools, do not affect a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from object2vec import artifact
from servers import COMMAND, Server
from small import configured, network_of

#: Modules that the commands, gunicorn or Python's multiprocessing import.
MODULES = (
    "flask gunicorn json logging_config multiprocessing numpy object2vec orjson pickle prometheus_client queue random "
    "sagemaker_training selectors signal sitecustomize socket struct subprocess threading torch usercustomize werkzeug"
)
#: Variables that gunicorn, Flask, systemd or OpenMP read; each value is wrong.
ENVIRONMENT = {
    "FLASK_DEBUG": "1",
    "FORWARDED_ALLOW_IPS": "abc",
    "GUNICORN_CMD_ARGS": "--bind nowhere:1 --unknown",
    "GUNICORN_FD": "abc",
    "LISTEN_FDS": "abc",
    "LISTEN_PID": "abc",
    "OMP_NUM_THREADS": "abc",
    "PORT": "abc",
    "SCRIPT_NAME": "/elsewhere",
    "SENDFILE": "perhaps",
    "WEB_CONCURRENCY": "abc",
}
BODY = json.dumps({"instances": [{"in0": [1], "in1": [2]}]}).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a working directory with a model, and with files for modules that fail when imported."""
    folder = tmp_path_factory.mktemp("work")
    for name in [*MODULES.split(), "gunicorn.conf"]:
        (folder / f"{name}.py").write_text(f"raise RuntimeError('{name}.py of the working directory was run')\n")
    (folder / "sagemaker").mkdir()
    hyperparameters = configured()
    artifact.save(folder / "model", network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    return folder


@pytest.mark.slow
def test_serve(folder: Path, tmp_path: Path) -> None:
    """A relative model path is relative to the working directory; no folder is left, also for an archive."""
    with tarfile.open(folder / "packed.tgz", "w:gz") as archive:
        archive.add(folder / "model", "model")
    server = Server(Path("packed.tgz"), tmp_path / "log", cwd=folder, TMPDIR=str(tmp_path), **ENVIRONMENT)
    assert server.send("POST", "/invocations", BODY, content_type="application/json")[0] == 200
    assert server.stop()[0] == 0, server.log.read_text()
    assert "Traceback" not in server.log.read_text()
    assert list(tmp_path.glob("object2vec-*")) == []


def run(folder: Path, *words: str, **environment: str) -> str:
    """Return the output of a command that must succeed."""
    done = subprocess.run(
        words, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_train_and_predict(folder: Path) -> None:
    (folder / "pairs.jsonl").write_text('{"in0": [1], "in1": [2], "label": 1}\n{"in0": [3], "in1": [4], "label": 0}\n')
    values = ["enc0_max_seq_len=2", "enc0_vocab_size=9", "epochs=1", "enc0_network=pooled_embedding"]
    words = [COMMAND, "train", "--train", "pairs.jsonl", "--out", "trained", "--hyperparameters", *values]
    run(folder, *words)
    assert "scores" in run(folder, COMMAND, "predict", "--model", "trained", "--input", "pairs.jsonl")


@pytest.mark.slow
def test_multiprocessing_children_ignore_the_working_directory(folder: Path, tmp_path: Path) -> None:
    """Start a process with Python's multiprocessing."""
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing\n"
        "from object2vec.sagemaker.launch import spawn_ranks\n"
        "if __name__ == '__main__':\n"
        "    with spawn_ranks(print, ['cpu', 'cpu']):\n"
        "        [process] = multiprocessing.active_children()\n"
        "        process.join()\n"
    )
    assert run(folder, sys.executable, str(script)) == "['cpu', 'cpu'] 1\n"


@pytest.mark.slow
def test_image_train_ignores_the_working_directory(folder: Path, tmp_path: Path) -> None:
    """AWS's command imports nothing from the working directory or from /opt/ml/code."""
    pytest.importorskip("sagemaker_training")
    for name in ("input/config", "input/data/train", "code", "model", "output"):
        (tmp_path / name).mkdir(parents=True)
    for path in folder.glob("*.py"):
        (tmp_path / "code" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "input/data/train/a.jsonl").write_text('{"in0": [1], "in1": [2], "label": 1}\n')
    values = {"enc0_max_seq_len": "2", "enc0_vocab_size": "9", "epochs": "1", "enc0_network": "pooled_embedding"}
    (tmp_path / "input/config/hyperparameters.json").write_text(json.dumps(values))
    channel = {"TrainingInputMode": "File", "ContentType": "application/jsonlines", "RecordWrapperType": "None"}
    (tmp_path / "input/config/inputdataconfig.json").write_text(json.dumps({"train": channel}))
    hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"}
    (tmp_path / "input/config/resourceconfig.json").write_text(json.dumps(hosts))
    environment = {
        "SAGEMAKER_BASE_DIR": str(tmp_path),
        "SAGEMAKER_TRAINING_MODULE": "object2vec.sagemaker.training:main",
    }
    script = Path(__file__).parents[2] / "container" / "train"
    assert "Training" in run(folder, sys.executable, str(script), **environment)
    assert (tmp_path / "model" / "model.safetensors").is_file()
