"""The Docker client, `/opt/ml` trees to mount, and containers."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

IMAGE = os.environ.get("OBJECT2VEC_IMAGE", "object2vec:cpu")
VOCABULARY = 40

#: A job of a few seconds; values are strings, as the platform writes them.
HYPERPARAMETERS = {
    "enc0_max_seq_len": "4",
    "enc0_vocab_size": str(VOCABULARY),
    "enc0_network": "pooled_embedding",
    "enc0_token_embedding_dim": "8",
    "mlp_layers": "1",
    "mlp_dim": "16",
    "epochs": "3",
    "mini_batch_size": "32",
    "learning_rate": "0.01",
}


def docker(*words: str, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the Docker client; a failing test shows its output."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        pytest.fail(f"docker {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def pairs(count: int, seed: int) -> list[str]:
    """Return lines of a channel: two short sequences, positive if the parities of their first tokens are equal."""
    draw = random.Random(seed)
    lines = []
    for _ in range(count):
        in0, in1 = ([draw.randrange(1, VOCABULARY) for _ in range(draw.randint(1, 4))] for _ in range(2))
        lines.append(json.dumps({"label": int(in0[0] % 2 == in1[0] % 2), "in0": in0, "in1": in1}))
    return lines


class OptMl:
    """A tree in the layout of `/opt/ml`, as the platform creates it before it starts a container."""

    def __init__(
        self,
        root: Path,
        hyperparameters: Mapping[str, str] = HYPERPARAMETERS,
        channels: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self.root = root
        if channels is None:
            channels = {name: pairs(200, seed) for seed, name in enumerate(("train", "validation", "test"))}
        for folder in ("input/config", "input/data", "model", "output/data"):
            (root / folder).mkdir(parents=True)
        for name, lines in channels.items():
            (root / "input/data" / name).mkdir()
            (root / "input/data" / name / "part-0.jsonl").write_text("".join(f"{line}\n" for line in lines))
        self.config("hyperparameters", hyperparameters)
        self.config(
            "inputdataconfig",
            {
                name: {
                    "ContentType": "application/jsonlines",
                    "RecordWrapperType": "None",
                    "S3DistributionType": "FullyReplicated",
                    "TrainingInputMode": "File",
                }
                for name in channels
            },
        )
        self.config(
            "resourceconfig",
            {
                "current_group_name": "homogeneousCluster",
                "current_host": "algo-1",
                "current_instance_type": "ml.m5.large",
                "hosts": ["algo-1"],
                "instance_groups": [
                    {"hosts": ["algo-1"], "instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.large"}
                ],
                "network_interface_name": "eth0",
            },
        )

    def config_file(self, name: str) -> Path:
        return self.root / "input/config" / f"{name}.json"

    def config(self, name: str, value: object) -> None:
        self.config_file(name).write_text(json.dumps(value))

    @property
    def mount(self) -> str:
        return f"{self.root}:/opt/ml"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def failure(self) -> str:
        path = self.root / "output/failure"
        return path.read_text() if path.exists() else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    body: bytes
    content_type: str

    def json(self) -> Any:
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A running or finished container."""

    id: str

    def wait(self, timeout: float = 300) -> int:
        """Return the exit status after the end."""
        return int(docker("wait", self.id, timeout=timeout).stdout)

    def log(self) -> str:
        done = docker("logs", self.id)
        return done.stdout + done.stderr

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(docker("inspect", "--format", "{{json .State}}", self.id).stdout)
        return state

    def stop(self) -> tuple[int, float]:
        """Stop with SIGTERM, as the platform does; return the exit status and the seconds."""
        start = time.monotonic()
        docker("stop", "--time", "30", self.id)
        return int(self.state()["ExitCode"]), time.monotonic() - start

    def run(self, *command: str) -> str:
        return docker("exec", self.id, *command).stdout

    def send(
        self,
        path: str,
        body: bytes | None = None,
        content_type: str | None = None,
        *,
        port: int = 8080,
        accept: str = "",
    ) -> Reply:
        """Send one request to the published port; with a body, a POST."""
        address = docker("port", self.id, f"{port}/tcp").stdout.split()[0]
        headers = {"Accept": accept} if accept else {}
        if content_type:
            headers["Content-Type"] = content_type
        request = urllib.request.Request(f"http://{address}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return Reply(status=reply.status, body=reply.read(), content_type=reply.headers["Content-Type"] or "")
        except urllib.error.HTTPError as error:
            with error:
                return Reply(status=error.code, body=error.read(), content_type=error.headers["Content-Type"] or "")

    def until(self, ready: Callable[[], bool], timeout: float = 300) -> Container:
        """Wait for `ready`; fail with the log if the container ends, or after `timeout`."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if not self.state()["Running"]:
                pytest.fail(f"ended too early, exit {self.state()['ExitCode']}\n{self.log()}")
            try:
                if ready():
                    return self
            except OSError:
                pass
            time.sleep(0.2)
        pytest.fail(f"not ready in {timeout} s\n{self.log()}")

    def until_ping(self, port: int = 8080) -> Container:
        return self.until(lambda: self.send("/ping", port=port).status == 200)


#: `start(*options, command=(…))`
Start = Callable[..., Container]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    opt_ml: OptMl
    exit_code: int
    log: str
