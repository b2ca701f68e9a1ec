"""The tree of errors: exit codes, HTTP statuses and messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from object2vec import errors
from object2vec.errors import (
    AlgorithmError,
    ArtifactError,
    DataError,
    HyperparameterError,
    ModelExistsError,
    ModelNotFoundError,
    NoRoomError,
    NotAcceptableError,
    Object2VecError,
    OverloadedError,
    PayloadTooLargeError,
    RawValueError,
    RequestError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
    UserError,
)


def tree(error: type[Object2VecError]) -> Iterator[type[Object2VecError]]:
    yield error
    for below in error.__subclasses__():
        yield from tree(below)


#: Exit code, HTTP status, and the family that the platform shows.
EXPECTED = {
    Object2VecError: (1, 500, "AlgorithmError"),
    AlgorithmError: (1, 500, "AlgorithmError"),
    NoRoomError: (1, 507, "AlgorithmError"),
    OverloadedError: (1, 503, "AlgorithmError"),
    UserError: (2, 400, "ClientError"),
    HyperparameterError: (2, 400, "ClientError"),
    DataError: (2, 400, "ClientError"),
    RawValueError: (2, 400, "ClientError"),
    ArtifactError: (2, 500, "ClientError"),
    RequestError: (2, 400, "ClientError"),
    ModelExistsError: (2, 409, "ClientError"),
    ModelNotFoundError: (2, 404, "ClientError"),
    NotAcceptableError: (2, 406, "ClientError"),
    PayloadTooLargeError: (2, 413, "ClientError"),
    RequestTimeoutError: (2, 408, "ClientError"),
    UnsupportedMediaTypeError: (2, 415, "ClientError"),
}


def test_every_error_class_is_listed_here() -> None:
    """A new error class needs a decision about its exit code and status."""
    assert set(tree(Object2VecError)) == set(EXPECTED)


@pytest.mark.parametrize("error", EXPECTED)
def test_exit_code_status_and_family_of_each_error(error: type[Object2VecError]) -> None:
    """Each class has its own exit code, HTTP status and family."""
    assert (error.exit_code, error.http_status, error.family) == EXPECTED[error]


def test_module_docstring_names_every_error() -> None:
    """The tree in the docstring is complete."""
    assert [error.__name__ for error in EXPECTED if error.__name__ not in (errors.__doc__ or "")] == []


def test_errors_of_a_configuration_are_one_per_line() -> None:
    """A HyperparameterError is its errors, one per line."""
    error = HyperparameterError(["epochs: one", "dropout: two"])
    assert error.errors == ("epochs: one", "dropout: two")
    assert str(error) == "epochs: one\ndropout: two"


def test_error_names_file_and_line() -> None:
    """An error in a file names the file and the line."""
    assert str(DataError.at(Path("a/b.jsonl"), 7, "not JSON")) == "a/b.jsonl, line 7: not JSON"


@pytest.mark.parametrize("text", ["two\nlines", "a\rb", "\x1b[31m", "\u2028", "\udcff", "\0"])
def test_message_is_one_printable_line(text: str) -> None:
    """A message is one printable line for any file name or value."""
    for error in (DataError(f"{text}: no"), DataError.at(Path(text), 3, "no"), HyperparameterError([f"{text}: no"])):
        assert str(error).isprintable()
        str(error).encode()
    assert str(HyperparameterError(["a: no", f"b{text}: no"])).count("\n") == 1
    assert str(DataError("ß, 東京 …")) == "ß, 東京 …"
