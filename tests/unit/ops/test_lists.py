"""Approximate scores of vectors in lists: the kernel is equal to numpy, and arrays that do not fit are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from object2vec.ops import lists as module
from object2vec.ops.lists import BLOCK_ROWS, MAX_CODE, CodeLists, scan_lists


def drawn_lists(sizes: list[int], quads: int, seed: int = 0) -> CodeLists:
    """Return lists of these numbers of blocks with random codes; a tenth of the rows has no vector."""
    generator = np.random.default_rng(seed)
    blocks = sum(sizes)
    codes = generator.integers(0, MAX_CODE + 1, (blocks, quads, BLOCK_ROWS, 4), dtype=np.uint8)
    rows = generator.permutation(blocks * BLOCK_ROWS).astype(np.int32).reshape(blocks, BLOCK_ROWS)
    rows[generator.random(rows.shape) < 0.1] = -1
    return CodeLists(codes, rows, np.concatenate([[0], np.cumsum(sizes)]), blocks * BLOCK_ROWS)


def drawn_queries(lists: CodeLists, n: int, probed: int):
    generator = np.random.default_rng(7)
    codes = generator.integers(-127, 128, (n, 4 * lists.codes.shape[1])).astype(np.int8)
    numbers = np.stack([generator.choice(len(lists), probed, replace=False) for _ in range(n)])
    bases = generator.normal(scale=1e5, size=(n, probed)).astype(np.float32)
    return (codes, generator.uniform(0.5, 2, n).astype(np.float32)), (numbers, bases)


def ordered(found: tuple[np.ndarray, np.ndarray]) -> list[list[tuple[float, int]]]:
    rows, scores = found
    return [sorted(zip(own.tolist(), numbers.tolist(), strict=True)) for numbers, own in zip(rows, scores, strict=True)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 7, 33])
@pytest.mark.parametrize("filtered", [False, True])
def test_kernel_equals_numpy(n: int, threads: int, filtered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows and scores, for single queries and groups, with empty lists, padding and a filter."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    lists = drawn_lists([0, 3, 1, 0, 5, 2, 4], quads=9)
    allowed = np.random.default_rng(1).random(lists.vectors) < 0.4 if filtered else None
    given = drawn_queries(lists, n, probed=4)
    found = scan_lists(lists, *given, 20, allowed)
    monkeypatch.setattr(module, "available", lambda: False)
    assert ordered(found) == ordered(scan_lists(lists, *given, 20, allowed))
    assert found[0].max() >= 0
    if allowed is not None:
        assert allowed[found[0][found[0] >= 0]].all()


def test_extreme_codes_do_not_overflow() -> None:
    """The largest products of 1,000 dimensions are exact."""
    codes = np.full((1, 250, BLOCK_ROWS, 4), MAX_CODE, np.uint8)
    lists = CodeLists(codes, np.arange(BLOCK_ROWS, dtype=np.int32)[None], np.array([0, 1]), BLOCK_ROWS)
    for sign in (1, -1):
        queries = np.full((1, 1000), 127 * sign, np.int8), np.ones(1, np.float32)
        _, scores = scan_lists(lists, queries, (np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32)), 2)
        assert scores.tolist() == [[1000 * 127 * MAX_CODE * sign] * 2]


def test_fewer_rows_than_wanted() -> None:
    """The places of missing rows are -1 and -inf."""
    lists = drawn_lists([1, 1], quads=2)
    rows, scores = scan_lists(lists, *drawn_queries(lists, 1, probed=1), 100)
    assert (rows >= 0).sum() == (scores > -np.inf).sum() < BLOCK_ROWS


@pytest.mark.parametrize(
    "change, message",
    [
        ({"starts": np.array([0, 2, 1, 3])}, "ascend from 0 to 3"),
        ({"starts": np.array([0, 1, 4])}, "ascend from 0 to 3"),
        ({"vectors": 95}, "rows must be from -1 to 94"),
        ({"rows": np.zeros((2, BLOCK_ROWS), np.int32)}, "rows has shape"),
        ({"codes": np.zeros((3, 2, BLOCK_ROWS, 4), np.int8)}, "int8, wanted uint8"),
    ],
)
def test_lists_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    """The kernel cannot check addresses, so arrays are checked once."""
    whole = {
        "codes": np.zeros((3, 2, BLOCK_ROWS, 4), np.uint8),
        "rows": np.arange(96, dtype=np.int32).reshape(3, BLOCK_ROWS),
        "starts": np.array([0, 1, 3]),
        "vectors": 96,
    }
    assert len(CodeLists(**whole)) == 2
    with pytest.raises(ValueError, match=message):
        CodeLists(**(whole | change))


def test_a_list_out_of_range_is_refused() -> None:
    """A query cannot probe a list that does not exist."""
    lists = drawn_lists([1, 1], quads=2)
    queries, (numbers, bases) = drawn_queries(lists, 1, probed=1)
    with pytest.raises(ValueError, match="lists must be from 0 to 1"):
        scan_lists(lists, queries, (numbers + 2, bases), 1)
