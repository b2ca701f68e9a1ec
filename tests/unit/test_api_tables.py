"""The Python API on tables of raw values."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import object2vec
from object2vec.cli import main
from object2vec.errors import UserError

duckdb, pa, pd, pl = map(pytest.importorskip, ("duckdb", "pyarrow", "pandas", "polars"))

PAIRS = [(user, item, int(user % 2 == item % 2)) for user in range(1, 9) for item in range(1, 9)]
RAW = [
    {"user": user, "film": f"f{item}", "genres": ["odd" if item % 2 else "even"], "stars": float(1 + 4 * likes)}
    for user, item, likes in PAIRS
]
COLUMNS: dict[str, Any] = {
    "in0": "user",
    "in1": ["film", object2vec.List("genres")],
    "label": "stars:number",
    "epochs": 2,
    "log": "quiet",
    "recipe": "ratings",
}
LIBRARIES: dict[str, Callable[[], Any]] = {
    "rows": lambda: RAW,
    "columns": lambda: {name: [row[name] for row in RAW] for name in RAW[0]},
    "pandas": lambda: pd.DataFrame(RAW),
    "polars": lambda: pl.DataFrame(RAW),
    "arrow": lambda: pa.Table.from_pylist(RAW),
    "duckdb": lambda: duckdb.connect().from_arrow(pa.Table.from_pylist(RAW)),
}


@pytest.fixture(scope="module")
def raw_model(tmp_path_factory: pytest.TempPathFactory) -> object2vec.Model:
    """The model of the commands `prepare` and `train`."""
    folder = tmp_path_factory.mktemp("raw")
    pd.DataFrame(RAW).to_parquet(folder / "table.parquet")
    columns = ["--in0", "user", "--in1", "film", "genres:list", "--label", "stars:number", "--recipe", "ratings"]
    assert main(["prepare", str(folder / "table.parquet"), *columns, "--out", str(folder / "data")]) == 0
    data, out = str(folder / "data"), str(folder / "model")
    assert main(["train", "--data", data, "--out", out, "--hyperparameters", "epochs=2", "--log", "quiet"]) == 0
    return object2vec.load(out)


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_library_gives_the_model_of_the_commands(raw_model: object2vec.Model, library: str) -> None:
    found = object2vec.fit(LIBRARIES[library](), **COLUMNS)
    assert found.history == raw_model.history
    for name, weight in raw_model.network.named_parameters():
        assert weight.equal(found.network.get_parameter(name))
    assert found.schema is not None
    assert raw_model.schema is not None
    assert found.schema.to_json() == raw_model.schema.to_json()


def test_a_path_of_a_table_gives_the_same_model(raw_model: object2vec.Model, tmp_path: Path) -> None:
    pl.DataFrame(RAW).write_parquet(tmp_path / "t.parquet")
    assert object2vec.fit(tmp_path / "t.parquet", **COLUMNS).history == raw_model.history


def test_raw_objects_are_scored_one_by_one_and_as_tables(raw_model: object2vec.Model) -> None:
    scores = raw_model.score(pd.DataFrame(RAW))
    pairs = [(row["user"], {"film": row["film"], "genres": row["genres"]}) for row in RAW]
    np.testing.assert_allclose(raw_model.score(pairs), scores, rtol=1e-4, atol=1e-5)
    table = raw_model.encode({"user": [3, 5]}, "in0")
    np.testing.assert_allclose(raw_model.encode([3, {"user": "5"}], "in0"), table, rtol=1e-6)


def test_unknown_values_are_logged(raw_model: object2vec.Model, caplog: pytest.LogCaptureFixture) -> None:
    raw_model.encode([3, 999], "in0")
    assert "1 of 2 in0 have an unknown user" in caplog.messages


def test_a_raw_model_is_evaluated_on_a_table(raw_model: object2vec.Model, tmp_path: Path) -> None:
    found = raw_model.evaluate(pl.DataFrame(RAW), pl.DataFrame(RAW), relevant=5)
    assert found.metrics["model"]["rmse"] > 0
    assert list(found.rankings) == ["model", "popularity"] or found.rankings["model"].queries
    pd.DataFrame(RAW).to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    assert raw_model.evaluate(tmp_path / "t.jsonl").metrics["model"] == found.metrics["model"]


def test_texts_of_classes_are_evaluated_from_a_file(tmp_path: Path) -> None:
    """The other side has no columns."""
    table = pd.DataFrame({"title": ["good film", "bad film"] * 20, "kind": ["a", "b"] * 20})
    model = object2vec.fit(table, in0="title:text", label="kind", split="none", epochs=1, log="quiet")
    table.to_csv(tmp_path / "t.csv", index=False)
    found = model.evaluate(tmp_path / "t.csv")
    assert found.metrics == model.evaluate(table).metrics
    assert found.class_names == ("a", "b")
    assert model.score([("good film", None)]).shape == (1, 2)


def test_evaluation_skips_the_rows_that_prepare_skips(
    raw_model: object2vec.Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows without a label or without a value on a side are counted, over all batches of a file."""
    wanted = raw_model.evaluate(RAW).metrics
    more = [*RAW, {**RAW[0], "stars": None}, {**RAW[0], "user": None}, {**RAW[0], "stars": None}]
    pd.DataFrame(more).to_parquet(tmp_path / "t.parquet")
    for data in (more, tmp_path / "t.parquet"):
        caplog.clear()
        assert raw_model.evaluate(data).metrics == wanted
        assert caplog.messages == ["skipped: 2 rows without label", "skipped: 1 rows without in0"]


def test_validation_can_be_a_table_of_its_own() -> None:
    found = object2vec.fit(pd.DataFrame(RAW), validation=pl.DataFrame(RAW[:10]), **COLUMNS)
    assert found.history[0]["validation"]["mean_squared_error"] > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.score(np.array([[1, 2]])), "pairs is an array, wanted a table with the columns"),
        (lambda model: model.score([(1, 2, 3)]), r"pairs\[0\] is \(1, 2, 3\), wanted a pair of objects"),
        (lambda model: model.score("abc"), "pairs is 'abc', wanted a table"),
        (lambda model: model.encode([[1.5]], "in0"), r"tokens\[0\]\[0\] is 1.5, wanted an integer"),
        (lambda model: model.encode("ab", "in0"), "in0 is the string 'ab', wanted a list of objects, or a table"),
        (
            lambda model: model.score([(10**5000, 1)]),
            r"in0\[0\].user is the value that is too long to show, wanted a string",
        ),
        (lambda model: model.encode([1], "in2"), "side is 'in2', wanted in0 or in1"),
        (lambda model: model.encode({"usr": [1]}, "in0"), "no column user, the nearest is usr"),
        (lambda model: model.evaluate(pd.DataFrame(RAW).drop(columns="stars")), "there is no column stars"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(
    raw_model: object2vec.Model, call: Callable[[object2vec.Model], Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        call(raw_model)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        UserError, match=r"tables need pyarrow, which is not installed: pip install 'object2vec\[tables\]'"
    ):
        object2vec.fit({"user": [1], "film": [2]}, in0="user", in1="film")
