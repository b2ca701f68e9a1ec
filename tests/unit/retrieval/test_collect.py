"""The objects of an index."""

from __future__ import annotations

import pytest

import object2vec

pytest.importorskip("duckdb")
pytest.importorskip("pyarrow")

ROWS = [{"user": f"u{n % 5}", "film": f"f{n % 7}", "genre": "ab"[n % 2]} for n in range(70)]


def test_objects_of_unknown_values_alone_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Their scores would all be those of the unknown id. An object with one known value stays."""
    model = object2vec.fit(ROWS, "user", ["film", "genre"], split="none", epochs=1, log="quiet")
    new = [{"film": "f8", "genre": "b"}, {"film": "f9", "genre": "z"}]
    assert model.index([*ROWS, *new], "in1")["in1"]["objects"] == 14 + 1
    assert "1 of 16 in1 are left out: the model knows none of their values" in caplog.messages
    assert {found["film"] for found in model.recommend("u1", k=99)} == {*(row["film"] for row in ROWS), "f8"}
