"""The image under AWS's own client: `fit`, `deploy`, `transform` in the local mode of the SageMaker SDK, without AWS.

The SDK runs the containers with docker-compose and gives them what the service would. It is imported only where it is
used: this file is read where there is no SDK, too.
"""

from __future__ import annotations

import io
import json
import random
import re
import socket
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builtin import PATTERNS, RATINGS
from containers import IMAGE, docker

pytestmark = pytest.mark.docker

JSON_LINES = "application/jsonlines"


class Loopback(int):
    """A port that the SDK publishes only on the loopback, not on all addresses of the machine."""

    def __str__(self) -> str:
        return f"127.0.0.1:{int(self)}"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Create an SDK session of an account that does not exist. Remaining containers are found by a label."""
    import boto3
    from sagemaker.local import LocalSession

    account = boto3.Session(aws_access_key_id="none", aws_secret_access_key="none", region_name="us-east-1")
    silent = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
    session = LocalSession(account, sagemaker_config=silent)
    label = f"object2vec.test={uuid.uuid4().hex}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        session.config = {
            "local": {
                "container_root": str(tmp_path_factory.mktemp("sdk")),
                "container_config": {"labels": [label]},
                "serving_port": Loopback(free.getsockname()[1]),
            }
        }
    yield session
    left = docker("ps", "--all", "--quiet", "--filter", f"label={label}").stdout.split()
    if left:
        docker("rm", "--force", "--volumes", *left)
    docker("network", "rm", "sagemaker-local", check=False)  # another user of the SDK may use it


def ratings(count: int, seed: int) -> list[dict[str, Any]]:
    """Return random users and films in the shape of the built-in's notebook."""
    draw = random.Random(seed)
    pairs = [(draw.randrange(1, 944), draw.randrange(1, 1684)) for _ in range(count)]
    return [{"in0": [user], "in1": [film], "label": 1 + (user + film) % 5} for user, film in pairs]


#: Requests to each model.
ASKED = [{side: rating[side] for side in ("in0", "in1")} for rating in ratings(30, seed=2)]


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("channels")
    write(root / "train/part-0.jsonl", ratings(640, seed=0))
    write(root / "validation/part-0.jsonl", ratings(100, seed=1))
    return {name: f"file://{root}/{name}" for name in ("train", "validation")}


def estimator_of(session: Any, output: Path, hosts: int = 1, **changes: object) -> Any:
    """Return the Estimator of the built-in's notebook, with another image and local mode."""
    from sagemaker.estimator import Estimator

    estimator = Estimator(
        image_uri=IMAGE,
        role="arn:aws:iam::123456789012:role/none",
        instance_count=hosts,
        instance_type="local",
        output_path=f"file://{output}",
        sagemaker_session=session,
    )
    estimator.set_hyperparameters(**RATINGS | changes)
    return estimator


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A finished `fit` job: its log, the contents of its archive, and its scores."""

    estimator: Any
    log: str
    names: list[str]
    scores: list[float]


def fit(session: Any, channels: dict[str, str], output: Path, **options: Any) -> Job:
    estimator = estimator_of(session, output, **options)
    log = io.StringIO()
    with redirect_stdout(log):
        estimator.fit(channels)
    assert estimator.model_data == f"file://{output}/model.tar.gz"
    with tarfile.open(output / "model.tar.gz") as archive:
        names = sorted(archive.getnames())
    model = output / "unpacked/model"
    model.mkdir(parents=True)
    # Not with tarfile, which extracts safely only from Python 3.11.4 on.
    subprocess.run(["tar", "-xzf", output / "model.tar.gz", "-C", model], check=True)
    write(output / "unpacked/asked.jsonl", ASKED)
    predict = "object2vec", "predict", "--model", "/unpacked/model", "--input", "/unpacked/asked.jsonl"
    lines = docker("run", "--rm", "--network", "none", "--volume", f"{output}/unpacked:/unpacked:ro", IMAGE, *predict)
    return Job(estimator=estimator, log=log.getvalue(), names=names, scores=scores_of(lines.stdout.splitlines()))


def scores_of(lines: list[str]) -> list[float]:
    return [score for line in lines for score in json.loads(line)["scores"]]


@pytest.fixture(scope="module")
def alone(session: Any, channels: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Job:
    return fit(session, channels, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def together(session: Any, channels: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Run the same job on two hosts, with half the batch on each."""
    return fit(session, channels, tmp_path_factory.mktemp("together"), hosts=2, mini_batch_size=32)


def test_fit_packs_the_model(alone: Job) -> None:
    assert alone.names == ["config.json", "model.safetensors"]
    assert re.search(PATTERNS["validation:mean_squared_error"], alone.log), alone.log
    assert len(set(alone.scores)) == len(ASKED)


def test_fit_on_two_hosts_makes_the_model_of_one(alone: Job, together: Job) -> None:
    """Both containers train, and only the first prints metrics."""
    assert len(set(re.findall(r"(algo-[12]-\w+) .*Number of GPUs being used", together.log))) == 2, together.log
    assert {name[:6] for name in re.findall(r"#quality_metric: host=([\w-]+),", together.log)} == {"algo-1"}
    assert together.names == alone.names
    assert together.scores == pytest.approx(alone.scores, abs=1e-4)


def test_deploy_and_predict(alone: Job) -> None:
    from sagemaker.deserializers import JSONDeserializer, JSONLinesDeserializer
    from sagemaker.serializers import JSONLinesSerializer, JSONSerializer

    # The model serves when `deploy` returns; `wait` would sleep for half a minute.
    predictor = alone.estimator.deploy(1, "local", JSONSerializer(), JSONDeserializer(), wait=False)
    try:
        predictions = predictor.predict({"instances": ASKED})["predictions"]
        [film] = predictor.predict({"instances": [{"in1": [7]}]})["predictions"]
        predictor.serializer, predictor.deserializer = JSONLinesSerializer(), JSONLinesDeserializer()
        lines = predictor.predict(ASKED)
    finally:
        predictor.delete_endpoint()
    assert [score for prediction in predictions for score in prediction["scores"]] == pytest.approx(alone.scores)
    assert lines == predictions
    assert len(film["embeddings"]) == RATINGS["enc1_token_embedding_dim"]


@pytest.mark.parametrize("hosts, strategy", [("alone", "MultiRecord"), ("together", "SingleRecord")])
def test_transform_keeps_the_order_of_lines(
    hosts: str, strategy: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    job: Job = request.getfixturevalue(hosts)
    for part, records in enumerate((ASKED[:20], ASKED[20:], [])):
        write(tmp_path / f"asked/part-{part}.jsonl", records)
    transformer = job.estimator.transformer(
        instance_count=1,
        instance_type="local",
        strategy=strategy,
        accept=JSON_LINES,
        assemble_with="Line",
        output_path=f"file://{tmp_path}/answered",
    )
    # The job has ended when this returns; `wait` would request the log from the service.
    transformer.transform(
        f"file://{tmp_path}/asked", content_type=JSON_LINES, split_type="Line", wait=False, logs=False
    )
    answered = [(tmp_path / f"answered/part-{part}.jsonl.out").read_text() for part in range(3)]
    assert [len(part.splitlines()) for part in answered[:2]] == [20, 10]
    assert answered[2].strip() == ""
    assert scores_of([line for part in answered[:2] for line in part.splitlines()]) == pytest.approx(job.scores)


def error_of(job: Callable[[], object]) -> str:
    try:
        job()
    except RuntimeError as error:
        return str(error)
    return ""


def test_failing_fit_raises_and_packs_the_failure_file(session: Any, channels: dict[str, str], tmp_path: Path) -> None:
    """Compose 1.29 sometimes returns 0 for a failed container: it hears of the death before the log's end.

    Then the SDK does not raise, so `fit` gets three tries. That the container itself does not exit with 0
    is tested without Compose, in tests/container.
    """
    estimator = estimator_of(session, tmp_path, enc1_vocab_size=1000)
    errors = (error_of(lambda: estimator.fit(channels)) for _ in range(3))
    assert any("exited with code: 1" in error for error in errors)
    with tarfile.open(tmp_path / "output.tar.gz") as archive:
        failure = archive.extractfile("failure")
        assert failure is not None
        assert b"train/part-0.jsonl, line 5: Inconsistent vocab for in1 found." in failure.read()
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        assert archive.getnames() == []
