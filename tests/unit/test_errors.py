"""The tree of errors: every one has an exit code and an HTTP status, and says whose fault it is."""

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
    ArtifactError: (2, 500, "ClientError"),
    RequestError: (2, 400, "ClientError"),
    ModelExistsError: (2, 409, "ClientError"),
    ModelNotFoundError: (2, 404, "ClientError"),
    NotAcceptableError: (2, 406, "ClientError"),
    PayloadTooLargeError: (2, 413, "ClientError"),
    RequestTimeoutError: (2, 408, "ClientError"),
    UnsupportedMediaTypeError: (2, 415, "ClientError"),
}


def test_every_error_is_expected_here() -> None:
    """The tree has the errors listed here and no other, so that none is without a decision."""
    assert set(tree(Object2VecError)) == set(EXPECTED)


@pytest.mark.parametrize("error", EXPECTED)
def test_every_error_has_an_exit_code_and_a_status(error: type[Object2VecError]) -> None:
    """No error exits 0 or answers 200: each has the exit code, status and family of whose fault it is."""
    assert (error.exit_code, error.http_status, error.family) == EXPECTED[error]


def test_the_drawing_of_the_tree_is_complete() -> None:
    """The module's drawing names every error."""
    assert [error.__name__ for error in EXPECTED if error.__name__ not in (errors.__doc__ or "")] == []


def test_faults_are_one_a_line() -> None:
    """A HyperparameterError is its faults, one a line."""
    error = HyperparameterError(["epochs: one", "dropout: two"])
    assert error.faults == ("epochs: one", "dropout: two")
    assert str(error) == "epochs: one\ndropout: two"


def test_a_fault_of_a_line_has_its_place() -> None:
    """A fault in a file names the file and the line."""
    assert str(DataError.at(Path("a/b.jsonl"), 7, "not JSON")) == "a/b.jsonl, line 7: not JSON"


@pytest.mark.parametrize("text", ["two\nlines", "a\rb", "\x1b[31m", "\u2028", "\udcff", "\0"])
def test_a_message_is_one_line_that_can_be_printed(text: str) -> None:
    """Whatever a file or a value is called, the sentence about it is one line, in any encoding and on any terminal."""
    for error in (DataError(f"{text}: no"), DataError.at(Path(text), 3, "no"), HyperparameterError([f"{text}: no"])):
        assert str(error).isprintable()
        str(error).encode()
    assert str(HyperparameterError(["a: no", f"b{text}: no"])).count("\n") == 1
    assert str(DataError("ß, 東京 …")) == "ß, 東京 …"
