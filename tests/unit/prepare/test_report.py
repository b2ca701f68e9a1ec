"""The report of prepared data: what it counts does not depend on how threads take turns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from object2vec.prepare import report
from object2vec.prepare.report import Contents, Statistics

PARTS = 20
ROWS = 100


def parts() -> list[Contents]:
    random = np.random.default_rng(0)
    pairs = random.integers(0, 2**64, 500, dtype=np.uint64)
    found = []
    for _ in range(PARTS):
        own = random.choice(pairs, ROWS)
        found.append((own, own, random.integers(0, 3, ROWS).astype(np.int8)))
    return found


def repeated(late: int) -> tuple[float, dict[str, float]]:
    """Return the shares if parts are sampled `late` parts before they are added, as other threads do."""
    dataset: Any = SimpleNamespace(schema=SimpleNamespace(sides=()))
    statistics, waiting = Statistics(dataset), []
    for part in parts():
        waiting.append(statistics._sampled(*part))
        if len(waiting) > late:
            statistics.add({}, waiting.pop(0))
    for contents in waiting:
        statistics.add({}, contents)
    assert sum(len(hashes) for hashes, _, _ in statistics._contents) <= report.MAX_COMPARED
    return statistics.repeated()


@pytest.mark.parametrize("late", [1, 5, PARTS])
def test_shares_of_repeated_pairs_do_not_depend_on_the_order_of_threads(
    late: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAX_COMPARED", 300)
    assert repeated(late) == repeated(0)
