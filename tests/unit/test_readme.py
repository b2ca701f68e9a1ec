"""The README says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from object2vec.hyperparameters import to_markdown

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("ours", [False, True], ids=["built-in", "ours"])
def test_the_tables_of_hyperparameters_are_those_of_the_code(ours: bool) -> None:
    """Both tables of hyperparameters stand in the README, word for word as the code writes them."""
    assert f"\n{to_markdown(ours=ours)}\n" in README
