"""Tables of files, compressed in every way."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from object2vec.errors import DataError

pa = pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

from object2vec.prepare.source import Limits, Source, open_files  # noqa: E402 -- only with the extra

LIMITS = Limits(threads=1, memory=2**28)


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


@pytest.fixture(params=[("", bytes), (".gz", gzip.compress), (".zst", zstd)], ids=["plain", "gzip", "zstd"])
def table(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[bytes], Source]:
    """Return a function that opens a CSV file with this text."""
    suffix, compress = request.param

    def write(text: bytes) -> Source:
        path = tmp_path / f"table.csv{suffix}"
        path.write_bytes(compress(text))
        return open_files([str(path)], LIMITS)

    return write


def test_delimiter_is_the_most_frequent_one_of_the_header(table: Callable[[bytes], Source]) -> None:
    source = table(b"first;second\n1,5;2\n")
    assert source.columns == ["first", "second"]
    assert [batch["first"].to_pylist() for batch in source.batches(["first"])] == [["1,5"]]


def test_header_with_a_used_name_twice_is_an_error(table: Callable[[bytes], Source]) -> None:
    source = table(b"a,b,a\n1,2,3\n")
    assert [batch["b"].to_pylist() for batch in source.batches(["b"])] == [["2"]]
    with pytest.raises(DataError, match="the column a is there twice, wanted once"):
        list(source.batches(["a"]))


def test_file_that_is_no_zstd_data_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.zst"
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(DataError, match=r"table\.csv\.zst: .*ZSTD decompress failed.*, wanted a table"):
        open_files([str(path)], LIMITS)
