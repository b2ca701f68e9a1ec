"""Addresses in S3 in place of paths, against a server on this machine."""

from __future__ import annotations

import gc
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import object2vec
from object2vec import storage
from object2vec.cli import _parser, main
from object2vec.data.files import iter_files, open_file
from object2vec.errors import AlgorithmError, DataError
from object2vec.sagemaker.specification import ranges
from object2vec.storage import RangeReader, S3Path, localized, matching, parse_address

boto3, duckdb = pytest.importorskip("boto3"), pytest.importorskip("duckdb")
from botocore.exceptions import ResponseStreamingError  # noqa: E402

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
    storage._client.cache_clear()
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


def test_a_path_in_s3_is_read_without_a_copy(client: Any) -> None:
    put(client, data__a="1\n2\n", data__sub__b="3", **{"data-2": "", "data__": "", "data___SUCCESS": ""})
    folder = S3Path("s3://bucket/data")
    assert str(folder / "a") == "s3://bucket/data/a"
    assert (folder.is_dir(), folder.is_file(), folder.exists(), (folder / "a").is_file()) == (True, False, True, True)
    assert not (folder / "no").exists()
    assert [str(path) for path in iter_files(folder)] == ["s3://bucket/data/a", "s3://bucket/data/sub/b"]
    with open_file(folder / "a") as file:
        assert file.readlines() == [b"1\n", b"2\n"]
    assert (folder / "sub/b").read_text() == "3"
    assert S3Path("s3://bucket/data-2").read_bytes() == b""
    assert sorted(path.name for path in S3Path("s3://bucket").iterdir()) == ["data", "data-2"]
    assert list(map(str, matching("s3://bucket/data*2"))) == ["s3://bucket/data-2"]
    with pytest.raises(FileNotFoundError):
        (folder / "no").open()


def test_a_stream_reads_any_range(client: Any) -> None:
    content = bytes(range(256)) * 40
    client.put_object(Bucket="bucket", Key="r", Body=content)
    reader = RangeReader(S3Path("s3://bucket/r"))
    for start, count in ((0, 10), (5000, 300), (10_200, 100), (10_240, 5), (99_999, 1)):
        assert reader.seek(start) == start
        assert reader.read(count) == content[start : start + count]
    assert reader.seek(-3, 2) == len(content) - 3
    assert (reader.read(), reader.tell()) == (content[-3:], len(content))


def test_a_lost_connection_is_tried_again(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(client, r="0123456789")
    reader, get, lost = RangeReader(S3Path("s3://bucket/r")), storage._client().get_object, [1, 1]

    def lose(**place: str) -> Any:
        if lost.pop():
            raise ResponseStreamingError(error="reset")
        return get(**place)

    lost.insert(0, 0)
    monkeypatch.setattr(storage._client(), "get_object", lose)
    assert reader.read(4) == b"0123"
    lost[:] = [1] * 99
    with pytest.raises(AlgorithmError, match=r"^s3://bucket/r: .*reset"):
        reader.read(4)
    assert len(lost) == 99 - storage.RETRIES - 1


def test_an_object_that_changes_while_it_is_read_is_an_error(client: Any) -> None:
    put(client, r="0123456789")
    reader = RangeReader(S3Path("s3://bucket/r"))
    assert reader.read(4) == b"0123"
    put(client, r="abcdefghij")
    with pytest.raises(DataError, match=r"^s3://bucket/r: .*PreconditionFailed"):
        reader.read(4)


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
    storage._client.cache_clear()
    assert main(["train", "--data", "s3://bucket/d", "--out", "m"]) == 2
    assert "s3:// needs boto3, which is not installed: pip install 'object2vec[s3]'" in capsys.readouterr().err


ROWS = "".join(f"{n % 9},{n % 7},{n % 2}\n" for n in range(200))
COLUMNS = ["--in0", "u", "--in1", "i", "--label", "y"]
#: A command that passes an address for each argument that is a path, by verb and argument. `{}` is a local folder.
CASES: dict[tuple[str, str], str] = {
    ("prepare", "tables"): "prepare s3://bucket/t*.csv --in0 u --in1 i --label y --out {}/o",
    ("prepare", "query"): "prepare --query QUERY --in0 u --in1 i --label y --out {}/o",
    ("prepare", "out"): "prepare {}/t.csv --in0 u --in1 i --label y --out s3://bucket/o",
    ("prepare", "extend"): "prepare {}/t.csv --extend s3://bucket/model --out {}/o",
    (
        "train",
        "train",
    ): "train --train s3://bucket/data/train.jsonl --hyperparameters {}/data/hyperparameters.json --out {}/o",
    ("train", "validation"): "train --data {}/data --validation s3://bucket/data/validation.jsonl --out {}/o",
    ("train", "test"): "train --data {}/data --test s3://bucket/data/test.jsonl --out {}/o",
    ("train", "auxiliary"): "train --data {}/data --auxiliary s3://bucket/aux --out {}/o",
    ("train", "schema"): "train --data {}/data --schema s3://bucket/data/schema --out {}/o",
    ("train", "model"): "train --data {}/data --model s3://bucket/model --out {}/o",
    ("train", "data"): "train --data s3://bucket/data --out {}/o",
    (
        "train",
        "hyperparameters",
    ): "train --data {}/data --hyperparameters s3://bucket/data/hyperparameters.json --out {}/o",
    ("train", "out"): "train --data {}/data --out s3://bucket/o",
    ("train", "resume"): "train --data {}/data --resume s3://bucket/o --out {}/o",
    ("tune", "data"): "tune --data s3://bucket/data --trials 1 --out {}/o",
    (
        "tune",
        "hyperparameters",
    ): "tune --data {}/data --hyperparameters s3://bucket/data/hyperparameters.json --trials 1 --out {}/o",
    ("tune", "out"): "tune --data {}/data --trials 1 --out s3://bucket/o",
    ("tune", "ranges"): "tune --data {}/data --ranges s3://bucket/ranges.json --trials 1 --out {}/o",
    ("mine", "model"): "mine --model s3://bucket/model --data {}/data --skip 0 --out {}/o",
    ("mine", "data"): "mine --model {}/model --data s3://bucket/data --skip 0 --out {}/o",
    ("mine", "out"): "mine --model {}/model --data {}/data --skip 0 --out s3://bucket/o",
    ("serve", "model"): "serve --model s3://bucket/model",
    ("predict", "model"): "predict --model s3://bucket/model --input {}/t.csv --output {}/o",
    ("predict", "input"): "predict --model {}/model --input s3://bucket/t.csv --output {}/o",
    ("predict", "output"): "predict --model {}/model --input {}/t.csv --output s3://bucket/o",
    (
        "predict",
        "skipped",
    ): "predict --model {}/model --input {}/data/test.jsonl --output {}/o --skip-bad-lines s3://bucket/o",
    ("evaluate", "model"): "evaluate --model s3://bucket/model --data {}/data",
    ("evaluate", "data"): "evaluate --model {}/model --data s3://bucket/data",
    ("evaluate", "train"): "evaluate --model {}/model --data {}/t.csv --train s3://bucket/t.csv",
    ("evaluate", "json"): "evaluate --model {}/model --data {}/t.csv --json s3://bucket/o",
    ("evaluate", "html"): "evaluate --model {}/model --data {}/t.csv --html s3://bucket/o",
    ("index", "model"): "index --model s3://bucket/model",
    ("index", "objects"): "index --model {}/model --objects s3://bucket/t.csv",
    **{
        (verb, name): f"{verb} --model {{}}/model {argument}"
        for verb in ("neighbors", "recommend")
        for name, argument in {
            "model": "1 --model s3://bucket/model",
            "input": "--input s3://bucket/t.csv",
            "allowed": "1 --allowed s3://bucket/t.csv",
            "exclude": "1 --exclude s3://bucket/t.csv",
            "output": "1 --output s3://bucket/o",
        }.items()
    },
    ("embed", "model"): "embed --model s3://bucket/model --side in1 --output {}/o.npy",
    ("embed", "input"): "embed --model {}/model --side in1 --input s3://bucket/t.csv --output {}/o.npy",
    ("embed", "output"): "embed --model {}/model --side in1 --output s3://bucket/o/e.npy",
    ("explore", "model"): "explore s3://bucket/model --export {}/o",
    ("explore", "objects"): "explore {}/model --objects s3://bucket/t.csv --export {}/o",
    ("explore", "export"): "explore {}/model --export s3://bucket/o",
}
#: What the help shows for an argument that is a path, or may be one.
PATHS = ("TABLE", "SQL", "DIR", "PATH", "FILE", "MODEL", "FILE|NAME=VALUE")


def test_every_argument_that_is_a_path_has_a_case() -> None:
    verbs = next(action.choices for action in _parser()._actions if isinstance(action.choices, dict))
    found = {(verb, each.dest) for verb, parser in verbs.items() for each in parser._actions if each.metavar in PATHS}
    assert found == set(CASES)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a table, prepared data and a model."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "t.csv").write_text(f"u,i,y\n{ROWS}")
    assert main(["prepare", str(folder / "t.csv"), *COLUMNS, "--out", str(folder / "data")]) == 0
    content = json.loads((folder / "data/hyperparameters.json").read_text()) | {"epochs": 1}
    (folder / "data/hyperparameters.json").write_text(json.dumps(content))
    train = ["train", "--data", str(folder / "data"), "--out", str(folder / "model"), "--log", "quiet"]
    assert main(train) == 0
    assert main(["index", "--model", str(folder / "model"), "--objects", str(folder / "t.csv")]) == 0
    return folder


@pytest.fixture
def stored(client: Any, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the folder `local` to the bucket; return a new one with links to its parts, which is the current one."""
    for path in sorted(local.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), "bucket", path.relative_to(local).as_posix())
    put(client, aux__v="{}")
    client.put_object(Bucket="bucket", Key="ranges.json", Body=json.dumps(ranges()))
    for path in local.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv(
        "TORCHINDUCTOR_CACHE_DIR", str(local.parent / "torch")
    )  # torch makes it when a step first imports it
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(text: str, folder: Path) -> int:
    words = [word.format(folder) for word in text.split()]
    more = ["--log", "quiet"] if words[0] == "train" else []
    return main([*("select * from 's3://bucket/t.csv'" if word == "QUERY" else word for word in words), *more])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_path_can_be_an_address(
    case: tuple[str, str], client: Any, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []
    monkeypatch.setattr("object2vec.serving.server.start", served.append)
    before = set(stored.iterdir())
    assert run(CASES[case], stored) == 0
    assert len(served) == (case[0] == "serve")
    if "s3://bucket/o" in CASES[case]:
        assert [key for key in keys(client) if key == "o" or key.startswith("o/")]
    assert set(stored.iterdir()) - before <= {stored / "o", stored / "o.npy"}, "no folder is named s3:"
    assert list((stored / "tmp").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids="-".join)
@pytest.mark.parametrize("wrong", ["bucket", "key", "credentials", "server"])
def test_what_cannot_be_reached_is_one_sentence(
    case: tuple[str, str],
    wrong: str,
    stored: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before the work begins, and with the address. An output needs no key."""
    text = CASES[case]
    if wrong == "key" and "s3://bucket/o" in text:
        return
    if wrong == "credentials":
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    if wrong == "server":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        monkeypatch.setattr(storage, "RETRIES", 1)
    storage._client.cache_clear()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    changed = {"bucket": ("s3://bucket/", "s3://wrong-bucket/"), "key": ("s3://bucket/", "s3://bucket/no/")}
    old, new = changed.get(wrong, ("", ""))
    monkeypatch.setattr("object2vec.prepare.write.write_dataset", lambda *_, **__: pytest.fail("too late"))
    if case == ("prepare", "query"):
        words = [
            f"select * from '{'s3://bucket/'.replace(old, new)}t.csv'" if w == "QUERY" else w for w in text.split()
        ]
        status = main([word.format(stored) for word in words])
    else:
        status = run(text.replace(old, new), stored)
    error = capsys.readouterr().err
    assert status == (1 if wrong == "server" else 2), error
    assert error.count("\n") == 1
    assert "s3://" in error
    assert {"bucket": "NoSuchBucket", "key": "", "credentials": "credentials", "server": "Could not connect"}[
        wrong
    ] in error
    assert not (stored / "o").exists()
    assert not (stored / "o.npy").exists()


@pytest.mark.slow
def test_the_model_of_addresses_is_that_of_paths(client: Any, stored: Path) -> None:
    assert run("train --data s3://bucket/data --out s3://bucket/o", stored) == 0
    for path in (stored / "model").iterdir():
        if path.name != "config.json" and not path.name.startswith("index-"):
            content = client.get_object(Bucket="bucket", Key=f"o/{path.name}")["Body"].read()
            assert content == path.read_bytes(), path.name


@pytest.mark.parametrize("suffix", ["csv", pytest.param("parquet", marks=pytest.mark.slow)])
def test_tables_are_read_from_s3(client: Any, stored: Path, suffix: str) -> None:
    """A file, a pattern, a folder and a query give the bytes of a local file."""
    duckdb.sql(f"copy (select * from '{stored}/t.csv') to '{stored}/tables.{suffix}'")
    client.upload_file(f"{stored}/tables.{suffix}", "bucket", f"tables/t.{suffix}")
    columns = " --in0 u --in1 i --label y --out "
    assert run(f"prepare {{}}/tables.{suffix}{columns}{{}}/wanted", stored) == 0
    for number, table in enumerate([f"s3://bucket/tables/t.{suffix}", "s3://bucket/tables/*", "s3://bucket/tables"]):
        assert run(f"prepare {table}{columns}{{}}/{number}", stored) == 0
        assert (stored / f"{number}/train.jsonl").read_bytes() == (stored / "wanted/train.jsonl").read_bytes()


def test_python_reads_addresses(stored: Path) -> None:
    columns = {"in0": "u", "in1": "i", "label": "y"}
    found = object2vec.fit("s3://bucket/t.csv", **columns, epochs=1, log="quiet")
    assert found.history == object2vec.fit(stored / "t.csv", **columns, epochs=1, log="quiet").history
    assert found.evaluate("s3://bucket/t.csv").metrics == found.evaluate(stored / "t.csv").metrics


@pytest.mark.slow
def test_python_reads_and_writes_models_in_s3(client: Any, stored: Path) -> None:
    """Loading, also as a path and packed, `model_dir`, saving and evaluating on a prepared folder."""
    local = object2vec.load(stored / "model")
    model = object2vec.load("s3://bucket/model")
    assert model.history == local.history
    model.save("s3://bucket/copy")
    assert {key for key in keys(client) if key.startswith("copy/")} == {
        f"copy/{path.name}" for path in (stored / "model").iterdir()
    }
    archive = shutil.make_archive(str(stored / "model"), "gztar", stored / "model")
    client.upload_file(archive, "bucket", "model.tar.gz")
    for name in ("s3://bucket/copy", Path("s3://bucket/copy"), "s3://bucket/model.tar.gz"):
        assert object2vec.load(name).score([(3, 1)]) == pytest.approx(local.score([(3, 1)]))
    assert model.evaluate("s3://bucket/data").metrics == local.evaluate(stored / "data").metrics
    columns = {"in0": "u", "in1": "i", "label": "y"}
    found = object2vec.fit(stored / "t.csv", **columns, epochs=1, log="quiet", model_dir="s3://bucket/fit")
    assert object2vec.load("s3://bucket/fit").history == found.history
    found.save(stored / "saved")
    del model, found
    gc.collect()
    assert list((stored / "tmp").iterdir()) == []


@pytest.mark.parametrize("address", ["s3://bucket/no", "s3://wrong-bucket/model"])
def test_python_names_what_is_missing_in_s3(client: Any, stored: Path, address: str) -> None:
    with pytest.raises(DataError, match=f"^{address}: "):
        object2vec.load(address)
    if "wrong" in address:
        with pytest.raises(DataError, match=f"^{address}: .*NoSuchBucket"):
            object2vec.load(stored / "model").save(address)
        with pytest.raises(DataError, match=f"^{address}: .*NoSuchBucket"):
            object2vec.fit(stored / "t.csv", in0="u", in1="i", label="y", model_dir=address)
    assert list((stored / "tmp").iterdir()) == []
