"""Memory and answers of a server stay the same under load for SOAK seconds (20)."""

from __future__ import annotations

import json
import os
import random
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from object2vec import artifact
from servers import Server
from small import configured, network_of

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("SOAK", "20"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model of 100 MB, in the shape of a model of film ratings."""
    directory = tmp_path_factory.mktemp("ml") / "model"
    hyperparameters = configured(
        output_layer="mean_squared_error",
        enc0_vocab_size=84_000,
        enc0_max_seq_len=50,
        enc0_token_embedding_dim=300,
        mlp_dim=256,
        tied_token_embedding_weight="True",
    )
    artifact.save(directory, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    return directory


@pytest.fixture
def server(model: Path, tmp_path: Path) -> Iterator[Server]:
    server = Server(model, tmp_path / "log")
    yield server
    assert server.stop()[0] == 0, server.log.read_text()
    assert "Traceback" not in server.log.read_text()


def pairs(count: int, generator: random.Random, most: int = 1) -> bytes:
    def side() -> list[int]:
        return [generator.randrange(84_000) for _ in range(generator.randint(1, most))]

    return json.dumps({"instances": [{"in0": side(), "in1": side()} for _ in range(count)]}).encode()


def memory(pid: int, what: str = "VmRSS") -> int:
    """Return the memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/status").read_text().partition(f"{what}:")[2].split()[0]) * 1024


def proportional(server: Server, what: str = "Pss") -> int:
    """Return the memory of a whole server in bytes; shared pages count once.

    `Pss_Anon` excludes mapped files.
    """
    pids = [server.process.pid, *server.workers()]
    rollups = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(text.partition(f"\n{what}:")[2].split()[0]) for text in rollups) * 1024


def test_long_request_takes_little_memory(model: Path, tmp_path: Path) -> None:
    """A request with all pairs of a validation set takes less than ten times its body."""
    generator = random.Random(1)
    films = [generator.randrange(84_000) for _ in range(500)]
    body = json.dumps(
        {"instances": [{"in0": [generator.choice(films)], "in1": [generator.choice(films)]} for _ in range(9430)]}
    ).encode()
    some = json.dumps({"instances": [{"in0": [film], "in1": [film]} for film in films]}).encode()

    def risen() -> int:
        server = Server(model, tmp_path / "log", SAGEMAKER_MODEL_SERVER_WORKERS="1")
        for _ in range(100):  # by every thread, what a pass takes and keeps; and the rows that the body reads
            server.send("POST", "/invocations", some)
        [worker] = server.workers()
        before = memory(worker, "VmHWM")
        status, reply = server.send("POST", "/invocations", body)
        assert (status, len(json.loads(reply)["predictions"])) == (200, 9430)
        after = memory(worker, "VmHWM")
        assert server.stop()[0] == 0
        return after - before

    least = min(risen() for _ in range(3))  # the system counts by the megabyte where there are many threads
    print(f"a body of {len(body)} bytes: {least} bytes more")
    assert least < 10 * len(body)


def test_long_reply_takes_little_memory(model: Path, tmp_path: Path) -> None:
    """A reply of 100 MB with Content-Length is written to disk first, not held in memory."""
    generator = random.Random(1)
    films = [generator.randrange(84_000) for _ in range(500)]
    body = json.dumps({"instances": [{"in0": [generator.choice(films)]} for _ in range(90_000)]}).encode()
    some = json.dumps({"instances": [{"in0": [film]} for film in films]}).encode()
    server = Server(model, tmp_path / "log", SAGEMAKER_MODEL_SERVER_WORKERS="1")
    for _ in range(100):
        server.send("POST", "/invocations", some, accept="application/x-npy")
    [worker] = server.workers()
    before = memory(worker, "VmHWM")
    connection = server.connection()
    connection.request("POST", "/invocations", body, {"Accept": "application/x-npy"})
    reply = connection.getresponse()
    length = int(reply.headers["Content-Length"])  # an asynchronous endpoint refuses a reply without
    assert (reply.status, length) == (200, 128 + 90_000 * 300 * 4)
    assert sum(map(len, iter(lambda: reply.read(2**20), b""))) == length
    connection.close()
    after = memory(worker, "VmHWM")
    assert server.stop()[0] == 0
    print(f"a body of {len(body)} bytes, a reply of {length}: {after - before} bytes more")
    assert after - before < 10 * len(body) + 10 * 2**20
    assert after - before < length / 2


def test_workers_share_a_model(model: Path, tmp_path: Path) -> None:
    """Four workers take less than 1.3 times the memory of one, plus 60 MB each."""
    taken = {}
    for workers in (1, 4):
        server = Server(model, tmp_path / f"log{workers}", SAGEMAKER_MODEL_SERVER_WORKERS=str(workers))
        generator = random.Random(1)
        for _ in range(100):
            assert server.send("POST", "/invocations", pairs(200, generator, most=50))[0] == 200
        taken[workers] = proportional(server)
        assert server.stop()[0] == 0
    print({workers: f"{size / 2**20:.0f} MB" for workers, size in taken.items()})
    assert taken[4] < 1.3 * taken[1] + 4 * 60 * 2**20


def taken(server: Server, seconds: float) -> float:
    """Return the median memory of a server in the second half of a period."""
    time.sleep(seconds / 2)
    moments = []
    end = time.monotonic() + seconds / 2
    while time.monotonic() < end:
        moments.append(proportional(server, "Pss_Anon"))
        time.sleep(0.1)
    return statistics.median(moments)


def test_mixed_load_has_no_failures_and_constant_memory(server: Server) -> None:
    """Eight clients send requests of every kind; memory does not grow after a warm-up."""
    stopping = threading.Event()
    faults: list[tuple[int, bytes]] = []
    counts = [0] * 8

    def ask(client: int) -> None:
        generator = random.Random(client)
        while not stopping.is_set():
            kind = generator.randrange(6)
            if kind == 5:
                status, reply = server.send("POST", "/invocations", b'{"instances": [{"in0": [-1]}]}')
                wanted = 400
            elif kind == 4:
                status, reply = server.send("GET", "/ping")
                wanted = 200
            else:
                body = pairs([1, 1, 100, 2000][kind], generator, most=[1, 50, 20, 3][kind])
                status, reply = server.send("POST", "/invocations", body)
                wanted = 200
            if status != wanted:
                faults.append((status, reply))
            counts[client] += 1

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(8)]
    for thread in threads:
        thread.start()
    middle, last = (taken(server, SECONDS / 2) for _ in range(2))
    stopping.set()
    for thread in threads:
        thread.join(60)
    print(f"{sum(counts)} requests, {middle / 2**20:.0f} MB in the middle, {last / 2**20:.0f} MB at the end")
    assert faults == []
    assert last < 1.1 * middle
