"""Addresses in S3 in place of paths, against a server on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from object2vec.cli import main
from object2vec.errors import AlgorithmError, DataError
from object2vec.storage import localized, localized_query, parse_address

boto3 = pytest.importorskip("boto3")
moto = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def client(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a client of an empty bucket `bucket`; the environment names the server."""
    for name, value in {
        "ENDPOINT_URL": endpoint,
        "ACCESS_KEY_ID": "x",
        "SECRET_ACCESS_KEY": "x",
        "DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    for item in client.list_objects_v2(Bucket="bucket").get("Contents", ()):
        client.delete_object(Bucket="bucket", Key=item["Key"])
    return client


def put(client: Any, **objects: str) -> None:
    for key, text in objects.items():
        client.put_object(Bucket="bucket", Key=key.replace("__", "/"), Body=text.encode())


def keys(client: Any) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket="bucket").get("Contents", ())]


def test_addresses() -> None:
    address = parse_address("s3://bucket/a/b.csv")
    assert address is not None
    assert (address.bucket, address.key, str(address)) == ("bucket", "a/b.csv", "s3://bucket/a/b.csv")
    assert parse_address("a/s3://bucket") is None


def test_inputs_and_outputs_are_copied(client: Any) -> None:
    """An object becomes a file, a prefix or a pattern becomes a folder, and an output is copied at the end."""
    put(client, data__a="1", data__sub__b="2", data2="3")
    names = ["s3://bucket/data/a", "s3://bucket/data", "s3://bucket/data/sub/", "s3://bucket/d*2"]
    with localized(
        {"in": [parse_address(name) for name in names], "out": parse_address("s3://bucket/o", output=True), "n": 1}
    ) as found:
        file, folder, sub, pattern = found["in"]
        assert file.read_text() == "1"
        assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")) == ["a", "sub", "sub/b"]
        assert (sub / "b").read_text() == "2"
        assert [p.read_text() for p in pattern.iterdir()] == ["3"]
        assert found["n"] == 1
        (found["out"] / "x").mkdir(parents=True)
        (found["out"] / "x/y").write_text("4")
        assert "o/x/y" not in keys(client)
    assert client.get_object(Bucket="bucket", Key="o/x/y")["Body"].read() == b"4"
    assert not file.exists()


def test_a_failure_writes_nothing(client: Any) -> None:
    def fail() -> None:
        with localized({"out": parse_address("s3://bucket/o", output=True)}) as found:
            found["out"].write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert keys(client) == []


def test_addresses_in_a_query(client: Any) -> None:
    put(client, a="1")
    with localized_query("select 's3' from 's3://bucket/a'") as query:
        start, path = query.removesuffix("'").rsplit("'", 1)
        assert start == "select 's3' from "
        assert Path(path).read_text() == "1"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("s3://bucket/no", "there is no such object, and none under this prefix"), ("s3://nob/a", "NoSuchBucket")],
)
def test_missing_inputs(client: Any, name: str, sentence: str) -> None:
    with pytest.raises(DataError, match=f"^{name}: .*{sentence}"), localized({"in": parse_address(name)}):
        pass


def test_a_server_that_cannot_be_reached(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("object2vec.storage.RETRIES", 1)
    with (
        pytest.raises(AlgorithmError, match=r"^s3://bucket/a: Could not connect"),
        localized({"in": parse_address("s3://bucket/a")}),
    ):
        pass


def test_a_key_outside_of_its_prefix(client: Any) -> None:
    put(client, **{"data__..__..__x": "1"})
    with pytest.raises(DataError, match="this key is outside of"), localized({"in": parse_address("s3://bucket/data")}):
        pass


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    assert main(["train", "--data", "s3://bucket/d", "--out", "m"]) == 2
    assert "s3:// needs boto3, which is not installed: pip install 'object2vec[s3]'" in capsys.readouterr().err


def test_from_a_table_to_a_model_in_s3(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every path of `prepare` and `train` can be an address."""
    rows = "\n".join(f"{n % 9},{n % 7},{n % 2}" for n in range(200))
    put(client, t__r="", **{"t__r.csv": f"u,i,y\n{rows}\n"})
    client.delete_object(Bucket="bucket", Key="t/r")
    monkeypatch.chdir(tmp_path)
    columns = ["--in0", "u", "--in1", "i", "--label", "y"]
    assert main(["prepare", "s3://bucket/t/r.csv", *columns, "--out", "s3://bucket/data"]) == 0
    assert (
        main(["prepare", "--query", "select * from 's3://bucket/t/r.csv'", *columns, "--out", "s3://bucket/data"]) == 0
    )
    assert (
        main(
            [
                "train",
                "--data",
                "s3://bucket/data",
                "--hyperparameters",
                "epochs=1",
                "--out",
                "s3://bucket/model",
                "--log",
                "quiet",
            ]
        )
        == 0
    )
    config = json.loads(client.get_object(Bucket="bucket", Key="model/config.json")["Body"].read())
    assert config["hyperparameters"]["recipe"] == "ratings"
    assert {"model/schema.json", "model/in0.vocabulary.tsv", "model/in1.vocabulary.tsv"} <= set(keys(client))
    assert list(tmp_path.iterdir()) == []
