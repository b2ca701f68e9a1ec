"""Measure how fast servers answer: ours, an empty endpoint under the same gunicorn, and a plain Flask server.

All servers run at the same time and are measured in turn in each round, so other load affects all of them. The client
is a process of its own (`load.py`). It sends requests in closed loop, or in open loop at a rate. Our server and the
empty endpoint keep connections open. The plain server closes each one.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from workloads import Workload, workloads

from object2vec import artifact
from object2vec.data.sequences import Pairs
from object2vec.model.network import Network
from object2vec.sagemaker.serving import read_settings
from object2vec.serving.server import allocate, gunicorn_arguments

HERE = Path(__file__).parent
#: Different requests in measurement, or fewer where there are no more.
BODIES: Final = 2000


@dataclass(frozen=True, slots=True)
class Case:
    """A load for our server and its `peers`: closed loop, or with `rate` that many requests a second."""

    workload: str
    instances: int
    clients: int
    peers: tuple[str, ...]
    rate: int | None = None
    type: str = "application/json"

    @property
    def load(self) -> str:
        return f"{self.clients}" if self.rate is None else f"{self.rate:,} a second"


CASES: Final = [
    Case("W1-64", 1, 1, ("empty", "plain")),
    Case("W1-64", 1, 16, ("empty", "plain")),
    Case("W1-64", 1, 64, ("empty", "plain")),
    Case("W1-64", 1, 64, ("empty",), rate=500),
    Case("W1-64", 1, 64, ("empty",), rate=1000),
    Case("W1-64", 100, 16, ("plain", "plain, batched")),
    Case("W1-64", 9_430, 1, ("plain", "plain, batched")),
    Case("W3", 1, 16, ("plain",)),
    Case("W3", 20, 16, ("plain", "plain, batched")),
    Case("W4", 1, 16, ("plain",)),
    Case("W4", 20, 16, ("plain", "plain, batched")),
]


@dataclass(frozen=True, slots=True)
class Measurement:
    rate: float  # replies per second
    latencies: Sequence[float]  # seconds of each, ascending

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.latencies, share))


def main() -> None:
    arguments = parse_arguments()
    print("| workload | instances | clients | server | requests/s | p50, ms | p99, ms | ours is | its p99 is |")
    print("|---|---:|---:|---|---:|---:|---:|---:|---:|")
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for workload in workloads():
            cases = [case for case in CASES if case.workload == workload.name]
            if workload.name in (arguments.only or [case.workload for case in CASES]):
                model, pairs = Path(folder) / workload.name, workload.make()
                write_model(model, workload)
                names = {"object2vec", *(name for case in cases for name in case.peers)}
                with ExitStack() as stack:
                    ports = {name: stack.enter_context(serving(name, model)) for name in sorted(names)}
                    for case in cases:
                        bodies = bodies_of(pairs, case.instances)
                        chosen = {name: ports[name] for name in ("object2vec", *case.peers)}
                        measured.append(report(workload, case, measure(chosen, case, bodies, arguments)))
    about = {"load": os.getloadavg()[0], "torch": torch.__version__}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(about | {"cases": measured}, indent=1) + "\n")
    print(f"\nThe same as JSON: {arguments.out}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one server in one round, at least")
    parser.add_argument("--only", nargs="*", default=[], help="names of workloads, such as W1-64 W3")
    parser.add_argument("--out", type=Path, default=Path("build/bench/serving.json"))
    return parser.parse_args()


def write_model(directory: Path, workload: Workload) -> None:
    """Write a model of the workload's shape with initial weights."""
    torch.manual_seed(0)
    network = Network(workload.hyperparameters)
    artifact.save(directory, network, workload.hyperparameters, training={}, vocabularies={})


def bodies_of(pairs: Pairs, instances: int) -> str:
    """Return requests with pairs from all parts of the data, as the JSON list that `load.py` reads."""
    starts = np.linspace(0, len(pairs) - instances, min(BODIES, len(pairs) // instances), dtype=np.int64)
    return json.dumps([_body_of(pairs, range(start, start + instances)) for start in starts])


def _body_of(pairs: Pairs, rows: range) -> str:
    tokens = [[side.slice(row, row + 1).values.tolist() for side in pairs.sides] for row in rows]
    return json.dumps({"instances": [{"in0": in0, "in1": in1} for in0, in1 in tokens]})


@contextmanager
def serving(name: str, model: Path) -> Iterator[int]:
    """Start a server, and yield its port when it accepts connections."""
    port = free_port()
    settings = read_settings({"SAGEMAKER_BASE_DIR": str(model), "SAGEMAKER_BIND_TO_PORT": str(port)})
    settings = replace(settings, model=model)
    resources = allocate(settings)
    gunicorn = ["-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", str(resources.workers), "--timeout", "60"]
    command = str(Path(sys.executable).with_name("object2vec"))
    arguments = {
        "object2vec": [command, "serve", "--model", str(model), "--port", str(port)],
        "empty": [*gunicorn_arguments(settings, resources, Path("unused"))[:-1], "plain_server:empty()"],
        "plain": [*gunicorn, f"plain_server:predictor({str(model)!r}, batched=False)"],
        "plain, batched": [*gunicorn, f"plain_server:predictor({str(model)!r}, batched=True)"],
    }[name]
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    # A server with our hooks removes the parent of its folder of metrics when it ends.
    metrics = str(Path(tempfile.mkdtemp(prefix="object2vec-")) / "metrics")
    own = {"PYTHONPATH": path, "GUNICORN_CMD_ARGS": "--log-level warning", "PROMETHEUS_MULTIPROC_DIR": metrics}
    environment = os.environ | own
    process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL)
    try:
        wait(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def wait(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server accepts connections.

    Raises:
        RuntimeError: it has ended, or accepts none within a minute.
    """
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
        if process.poll() is not None:
            break
    raise RuntimeError("a server did not start")


def measure(
    ports: Mapping[str, int], case: Case, bodies: str, arguments: argparse.Namespace
) -> dict[str, list[Measurement]]:
    """Return the measurements of each server, one a round."""
    for port in ports.values():
        drive(port, case, arguments.seconds / 2, bodies)  # warm up
    rows: dict[str, list[Measurement]] = {name: [] for name in ports}
    for _ in range(arguments.rounds):
        for name, port in ports.items():
            rows[name].append(drive(port, case, arguments.seconds, bodies))
    return rows


def drive(port: int, case: Case, seconds: float, bodies: str) -> Measurement:
    rate = [] if case.rate is None else [str(case.rate)]
    command = [sys.executable, str(HERE / "load.py"), case.type, str(port), str(case.clients), str(seconds), *rate]
    done = subprocess.run(command, input=bodies, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return Measurement(result["rate"], result["latencies"])


def report(workload: Workload, case: Case, rows: Mapping[str, list[Measurement]]) -> dict[str, Any]:
    """Print a row for each server, and return the same as JSON. Ratios are medians over rounds."""
    found = []
    ours = rows["object2vec"]
    for name, measurements in rows.items():
        rate = statistics.median(measurement.rate for measurement in measurements)
        p50, p99 = (
            statistics.median(measurement.percentile(share) for measurement in measurements) for share in (50, 99)
        )
        faster, later = (
            statistics.median(ratio)
            for ratio in (
                [own.rate / measurement.rate for own, measurement in zip(ours, measurements, strict=True)],
                [
                    own.percentile(99) / measurement.percentile(99)
                    for own, measurement in zip(ours, measurements, strict=True)
                ],
            )
        )
        cells = [workload.description, f"{case.instances:,}", case.load] if measurements is ours else ["", "", ""]
        cells += [name, f"{rate:,.1f}", f"{1e3 * p50:,.1f}", f"{1e3 * p99:,.1f}"]
        cells += ["", ""] if measurements is ours else [f"{faster:.2f} times", f"{later:.2f} times"]
        print("|", " | ".join(cells), "|", flush=True)
        found.append({"server": name, "rate": rate, "p50": p50, "p99": p99, "ratio": faster, "p99_ratio": later})
    return asdict(case) | {"servers": found}


if __name__ == "__main__":
    main()
