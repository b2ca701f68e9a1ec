"""Addresses in Amazon S3 in place of local paths.

Pairs and tables are read in ranges, without a copy: `S3Path` is a path of them. Other inputs are copied to a temporary
folder before the work, and outputs are copied to S3 after it, see `localized`. boto3 tries again after errors.
Credentials and `AWS_ENDPOINT_URL` come from the usual places.
"""

from __future__ import annotations

import errno
import fnmatch
import importlib
import io
import os
import re
import stat
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path, PosixPath
from typing import Any, Final, cast

from object2vec.errors import AlgorithmError, DataError, UserError

EXTRA: Final = "pip install 'object2vec[s3]'"
_ADDRESS: Final = re.compile(r"s3://([^/]+)/?(.*)", re.IGNORECASE | re.DOTALL)
RETRIES: Final = 10
#: Bytes that a stream reads at least with a request.
BUFFER_BYTES: Final = 2**23
#: Codes of errors that the caller has to act on.
USER_CODES: Final = (
    *("NoSuchBucket", "NoSuchKey", "404", "PreconditionFailed"),
    *("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"),
)


@dataclass(frozen=True, slots=True)
class S3Address:
    """An object, or all objects under a prefix: an `input`, an `output`, or both.

    What is both need not exist, unless it is `updated`: then it is not changed after an error.
    """

    bucket: str
    key: str
    input: bool = True
    output: bool = False
    updated: bool = False

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def parse_address(text: str, *, output: bool = False, both: bool = False, updated: bool = False) -> S3Address | None:
    """Return an S3 address, None if the text is not one."""
    if not (match := _ADDRESS.fullmatch(text)):
        return None
    both = both or updated
    return S3Address(match[1], match[2], input=both or not output, output=both or output, updated=updated)


class S3Path(PosixPath):
    """A path in S3 to read from: an object, or a prefix as a folder."""

    def __str__(self) -> str:
        return re.sub("^s3:/+", "s3://", super().__str__(), flags=re.IGNORECASE)

    @property
    def bucket(self) -> str:
        return self.parts[1]

    @property
    def key(self) -> str:
        return "/".join(self.parts[2:])

    @cached_property
    def object(self) -> Mapping[str, Any] | None:
        """Return what S3 lists of the object; None if there is none of this name."""
        first = self._first(self.key)
        return first if first and first["Key"] == self.key else None

    def _first(self, prefix: str) -> Mapping[str, Any] | None:
        """Return the first object whose key begins with a prefix."""
        with _explained(str(self)):
            found = _client().list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=1).get("Contents")
        return found[0] if found else None

    def exists(self, **_: Any) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self, **_: Any) -> bool:
        return self.object is not None

    def is_dir(self, **_: Any) -> bool:
        return not self.is_file() and self._first(f"{self.key}/" if self.key else "") is not None

    def is_fifo(self) -> bool:
        return False

    def resolve(self, strict: bool = False) -> S3Path:  # noqa: ARG002 -- of the base class
        return self

    def stat(self, **_: Any) -> os.stat_result:
        if self.object is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        time = int(self.object["LastModified"].timestamp())
        return os.stat_result((stat.S_IFREG, 0, 0, 0, 0, 0, self.object["Size"], time, time, time))

    def iterdir(self) -> Generator[S3Path, None, None]:
        prefix = f"{self.key}/" if self.key else ""
        with _explained(str(self)):
            pages = (
                _client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix, Delimiter="/")
            )
            for page in pages:
                yield from (self / item["Prefix"].removeprefix(prefix) for item in page.get("CommonPrefixes", ()))
                for item in page.get("Contents", ()):
                    if item["Key"] != prefix:
                        found = self / item["Key"].removeprefix(prefix)
                        found.object = item
                        yield found

    def open(self, mode: str = "r", buffering: int = -1, *text: Any, **options: Any) -> Any:  # noqa: ARG002
        """Open the object for reading; it must not change until the end."""
        stream = io.BufferedReader(RangeReader(self), BUFFER_BYTES)
        return stream if "b" in mode else io.TextIOWrapper(stream, *text, **options)


class RangeReader(io.RawIOBase):
    """The bytes of an object; each read requests a range."""

    def __init__(self, path: S3Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; try again if the connection is lost."""
        path, end = self._path, min(self._position + len(buffer), self._size)
        if self._position >= end:
            return 0
        errors = importlib.import_module("botocore.exceptions")
        place = {"Bucket": path.bucket, "Key": path.key, "Range": f"bytes={self._position}-{end - 1}"}
        lost = (errors.ResponseStreamingError, errors.IncompleteReadError, errors.ReadTimeoutError)
        with _explained(str(path)):
            for last in (False,) * RETRIES + (True,):
                try:
                    content = _client().get_object(**place, IfMatch=cast(Any, path.object)["ETag"])["Body"].read()
                    break
                except lost:
                    if last:
                        raise
        buffer[: len(content)] = content
        self._position = end
        return len(content)


def matching(pattern: str) -> list[Path]:
    """Return the objects in S3 that match a pattern, in the order of their keys."""
    address = cast(S3Address, parse_address(pattern))
    with _explained(pattern):
        return [S3Path(f"s3://{address.bucket}/{key}") for key in _list(_client(), address)]


def file_system() -> Any:
    """Return a file system for duckdb that reads addresses in S3."""

    class S3FileSystem(importlib.import_module("fsspec").AbstractFileSystem):  # type: ignore[misc]
        protocol = "s3"

        def open(self, path: str, *_: Any, **__: Any) -> Any:
            return RangeReader(S3Path(path))

        def glob(self, path: str, **_: Any) -> list[str]:
            return list(map(str, matching(path)))

        def size(self, path: str) -> int:
            return S3Path(path).stat().st_size

        def modified(self, path: str) -> datetime:
            return datetime.fromtimestamp(S3Path(path).stat().st_mtime, UTC)

    return S3FileSystem()


@contextmanager
def localized(arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield arguments with local paths in place of S3 addresses, which may be in lists.

    Copies inputs before, and outputs after the work, unless it fails. What is both, and not updated, is copied after a
    failure too.

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
            _download(client, address, path) if address.input else _check_bucket(client, address)
        try:
            yield {name: _replaced(value, paths) for name, value in arguments.items()}
            for address, path in paths.items():
                if not address.input or address.updated:
                    _upload(client, path, address)
        finally:
            for address, path in paths.items():
                if address.input and address.output and not address.updated:
                    _upload(client, path, address)


@cache
def _client() -> Any:
    """Return the client of S3.

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
        if not keys and address.output and not address.updated:
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


def _check_bucket(client: Any, address: S3Address) -> None:
    """Check that the bucket of an output exists, before the work; its listing may be denied."""
    with _explained(str(address)):
        try:
            client.list_objects_v2(Bucket=address.bucket, MaxKeys=1)
        except client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "AccessDenied":
                raise


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
        code = error.response["Error"]["Code"] if isinstance(error, botocore.ClientError) else ""
        without_credentials = isinstance(error, botocore.NoCredentialsError | botocore.PartialCredentialsError)
        kind = DataError if code in USER_CODES or without_credentials else AlgorithmError
        raise kind(f"{name}: {error}") from error


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        yield from value if isinstance(value, list) else [value]


def _replaced(value: Any, paths: Mapping[S3Address, Path]) -> Any:
    if isinstance(value, list):
        return [_replaced(each, paths) for each in value]
    return paths.get(value, value) if isinstance(value, S3Address) else value
