"""Addresses in Amazon S3 in place of local paths.

Inputs are copied to a temporary folder before the work, and outputs are copied to S3 after it. boto3 reads large
objects in parallel ranges and tries again after errors. Credentials and `AWS_ENDPOINT_URL` come from the usual places.
"""

from __future__ import annotations

import fnmatch
import importlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from object2vec.errors import AlgorithmError, DataError, UserError

EXTRA: Final = "pip install 'object2vec[s3]'"
_ADDRESS: Final = re.compile(r"s3://([^/]+)/?(.*)", re.IGNORECASE | re.DOTALL)
#: Addresses in the text of a SQL query.
_QUOTED_ADDRESS: Final = re.compile(r"'(s3://(?:[^']|'')+)'", re.IGNORECASE)
RETRIES: Final = 10


@dataclass(frozen=True, slots=True)
class S3Address:
    """An object, or all objects under a prefix: an `input`, an `output`, or both, which need not exist."""

    bucket: str
    key: str
    input: bool = True
    output: bool = False

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def parse_address(text: str, *, output: bool = False, both: bool = False) -> S3Address | None:
    """Return an S3 address, None if the text is not one."""
    match = _ADDRESS.fullmatch(text)
    return S3Address(match[1], match[2], input=both or not output, output=both or output) if match else None


@contextmanager
def localized(arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield arguments with local paths in place of S3 addresses, which may be in lists.

    Copies inputs before, and outputs after the work, unless it fails. What is both is copied after a failure too.

    Raises:
        UserError: boto3 is not installed, or an input does not exist.
        AlgorithmError: S3 cannot be reached, or refuses.
    """
    addresses = [value for value in _flat(arguments.values()) if isinstance(value, S3Address)]
    if not addresses:
        yield dict(arguments)
        return
    client = _client()
    with tempfile.TemporaryDirectory(prefix="object2vec-") as folder:
        paths = {
            address: Path(folder, str(number), Path(address.key).name or address.bucket)
            for number, address in enumerate(dict.fromkeys(addresses))
        }
        for address, path in paths.items():
            path.parent.mkdir()
            if address.input:
                _download(client, address, path)
        try:
            yield {name: _replaced(value, paths) for name, value in arguments.items()}
            for address, path in paths.items():
                if not address.input:
                    _upload(client, path, address)
        finally:
            for address, path in paths.items():
                if address.input and address.output:
                    _upload(client, path, address)


@contextmanager
def localized_query(query: str) -> Iterator[str]:
    """Yield a SQL query with local paths in place of quoted S3 addresses, which are copied before."""
    found = {text: parse_address(text.replace("''", "'")) for text in _QUOTED_ADDRESS.findall(query)}
    with localized(found) as paths:
        yield _QUOTED_ADDRESS.sub(lambda match: "'" + str(paths[match[1]]).replace("'", "''") + "'", query)


def _client() -> Any:
    """Return a client of S3.

    Raises:
        UserError: boto3 is not installed, or its configuration is not valid.
    """
    try:
        boto3, config = importlib.import_module("boto3"), importlib.import_module("botocore.config")
    except ImportError as error:
        raise UserError(f"s3:// needs boto3, which is not installed: {EXTRA}") from error
    with _explained("s3://"):
        return boto3.client("s3", config=config.Config(retries={"mode": "standard", "max_attempts": RETRIES}))


def _download(client: Any, address: S3Address, path: Path) -> None:
    """Copy an object to a file, or all objects under a prefix or of a pattern to a folder."""
    with _explained(str(address)):
        keys = _list(client, address)
        if not keys and address.output:
            return
        if not keys:
            raise DataError(f"{address}: there is no such object, and none under this prefix")
        if keys == [address.key]:
            client.download_file(address.bucket, address.key, str(path))
            return
        start = len(_prefix(address.key))
        for key in keys:
            target = path / key[start:].lstrip("/")
            if not target.resolve().is_relative_to(path.resolve()):
                raise DataError(f"s3://{address.bucket}/{key}: this key is outside of {address}")
            target.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(address.bucket, key, str(target))


def _list(client: Any, address: S3Address) -> list[str]:
    """Return the key of the object, or the keys under a prefix or of a pattern, in order."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=address.bucket, Prefix=_prefix(address.key))
    keys = sorted(item["Key"] for page in pages for item in page.get("Contents", ()) if not item["Key"].endswith("/"))
    if address.key in keys:
        return [address.key]
    if _prefix(address.key) != address.key:
        return [key for key in keys if fnmatch.fnmatchcase(key, address.key)]
    below = address.key.rstrip("/") + "/" if address.key else ""
    return [key for key in keys if key.startswith(below)]


def _prefix(key: str) -> str:
    """Return the part of a key before the first character of a pattern."""
    return re.split(r"[*?\[]", key, maxsplit=1)[0]


def _upload(client: Any, path: Path, address: S3Address) -> None:
    """Copy a file to an object, or the files of a folder to objects under a prefix."""
    with _explained(str(address)):
        if path.is_file():
            client.upload_file(str(path), address.bucket, address.key)
        for file in sorted(path.rglob("*")) if path.is_dir() else ():
            if file.is_file():
                key = f"{address.key.rstrip('/')}/{file.relative_to(path).as_posix()}".lstrip("/")
                client.upload_file(str(file), address.bucket, key)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Raise errors of boto3 as errors of one sentence that name the address."""
    botocore = importlib.import_module("botocore.exceptions")
    boto3 = importlib.import_module("boto3.exceptions")
    try:
        yield
    except (botocore.ClientError, botocore.BotoCoreError, boto3.Boto3Error) as error:
        code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
        kind = DataError if code in ("NoSuchBucket", "NoSuchKey", "404", "AccessDenied", "403") else AlgorithmError
        raise kind(f"{name}: {error}") from error


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        yield from value if isinstance(value, list) else [value]


def _replaced(value: Any, paths: Mapping[S3Address, Path]) -> Any:
    if isinstance(value, list):
        return [_replaced(each, paths) for each in value]
    return paths.get(value, value) if isinstance(value, S3Address) else value
