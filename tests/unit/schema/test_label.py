"""Labels of rows: which are missing, and what the others are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import object2vec
from object2vec.schema.label import Label, parse_label

VALUES = ["2.5", "NaN", None, "nan", "4"]


@pytest.mark.parametrize("name", ["y", "y:number"])
def test_text_nan_is_a_missing_number(name: str) -> None:
    found = parse_label(name).codes(pa.array(VALUES))
    assert found.lengths.tolist() == [1, 0, 0, 0, 1]
    assert [found.texts[code].as_py() for code in found.codes] == ["2.5", "4"]
    assert parse_label(name).learned(found.texts.to_pylist()).kind == "number"


@pytest.mark.parametrize(
    ("label", "lengths"),
    [(Label("y", "class", ("no", "yes")), [1, 0]), (Label("y", "class", ("NaN", "no")), [1, 1]), (Label("y"), [1, 0])],
)
def test_text_nan_is_a_class_only_if_the_model_has_it(label: Label, lengths: list[int]) -> None:
    assert label.codes(pa.array(["no", "NaN"])).lengths.tolist() == lengths


def test_rows_with_the_text_nan_are_skipped_in_training_and_evaluation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "".join(f"{n % 5},{n % 3},{'NaN' if n % 4 == 0 else n % 7}\n" for n in range(40))
    (tmp_path / "t.csv").write_text(f"u,i,y\n{rows}")
    settings: dict[str, Any] = {"epochs": 1, "split": "none", "log": "quiet"}
    model = object2vec.fit(tmp_path / "t.csv", "u", "i", "y", **settings)
    assert model.schema
    assert model.schema.label == Label("y", "number")
    assert model.evaluate(tmp_path / "t.csv").pairs == 30
    assert "skipped: 10 rows without label" in caplog.text
