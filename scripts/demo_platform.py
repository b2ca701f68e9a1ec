"""Do locally what SageMaker does around a container: write a job, run `train`, run a server, send requests."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: The image's `train`, and the command of this Python environment.
TRAIN = Path(__file__).parents[1] / "container" / "train"
OBJECT2VEC = Path(sys.executable).with_name("object2vec")

#: A pair of a channel or a request: `in0`, `in1`, and `label` in a channel.
Record = dict[str, Any]


def write_job(base: Path, hyperparameters: Mapping[str, str], channels: Mapping[str, Iterable[Record]]) -> None:
    """Write the files under /opt/ml: three configuration files, and a folder for each channel."""
    configuration = base / "input" / "config"
    configuration.mkdir(parents=True)
    inputs = {name: {"TrainingInputMode": "File", "ContentType": "application/jsonlines"} for name in channels}
    resources = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"}
    (configuration / "hyperparameters.json").write_text(json.dumps(hyperparameters, indent=2))
    (configuration / "inputdataconfig.json").write_text(json.dumps(inputs, indent=2))
    (configuration / "resourceconfig.json").write_text(json.dumps(resources, indent=2))
    for name, records in channels.items():
        folder = base / "input" / "data" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.jsonl").write_text(to_json_lines(records))


def run_job(base: Path) -> None:
    """Run the container's `train`. Write its log to train.log, and print its metrics."""
    environment = os.environ | {
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_TRAINING_MODULE": "object2vec.sagemaker.training:main",
    }
    command = [sys.executable, str(TRAIN)]
    with (
        (base / "train.log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as job,
    ):
        label = ""
        for line in job.stdout or ():
            log.write(line)
            if re.search(r"Best model based on epoch \d+", line):
                label = "best: "  # its metrics are repeated unless it is the last epoch
            if metric := re.search(r"#quality_metric: host=\S+, (.+) <\w+>=(\S+)", line):
                name = metric[1] if metric[1].startswith("test") else f"{label}{metric[1]}"
                print(f"  {name:<46}{float(metric[2]):.4f}", flush=True)
    if job.returncode:
        failure = base / "output" / "failure"
        sys.exit(f"{failure.read_text() if failure.exists() else 'training failed'}\n(see {log.name})")


@contextmanager
def serving(base: Path) -> Iterator[str]:
    """Serve the model of a job and yield the URL for requests; stop the server by SIGTERM."""
    port = free_port()
    with (base / "serve.log").open("w") as log:
        command = [str(OBJECT2VEC), "serve", "--model", str(base / "model"), "--port", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(server, f"http://127.0.0.1:{port}/ping")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(timeout=30)
    if code:
        sys.exit(f"the server ended with {code}, see {log.name}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(server: subprocess.Popen[bytes], url: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"no server answers at {url}")


def scores(url: str, pairs: Sequence[Record], at_once: int = 1000) -> list[float]:
    """Return the regression value, or the probability of the last class, of each pair. Send and receive JSON."""
    found: list[float] = []
    for start in range(0, len(pairs), at_once):
        request = json.dumps({"instances": pairs[start : start + at_once]})
        reply = json.loads(post(url, "application/json", request))
        found += [prediction["scores"][-1] for prediction in reply["predictions"]]
    return found


def embeddings(url: str, objects: Iterable[Record]) -> list[list[float]]:
    """Return the embedding of each object. Send and receive JSON Lines."""
    reply = post(url, "application/jsonlines", to_json_lines(objects))
    return [json.loads(line)["embeddings"] for line in reply.splitlines()]


def post(url: str, content_type: str, body: str) -> str:
    request = urllib.request.Request(url, body.encode(), {"Content-Type": content_type})
    with urllib.request.urlopen(request, timeout=60) as reply:
        text: str = reply.read().decode()
        return text


def to_json_lines(records: Iterable[Record]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)
