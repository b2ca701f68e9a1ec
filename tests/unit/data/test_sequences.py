"""Sequences as flat arrays behave like lists of lists."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.data.sequences import Pairs, Sequences, find_known_positives
from object2vec.ops import library
from small import pairs_of

LISTS = st.lists(st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 2), max_size=5), max_size=12)


def lists_of(sequences: Sequences) -> list[list[int]]:
    ends = sequences.offsets.tolist()
    return [sequences.values[a:b].tolist() for a, b in itertools.pairwise(ends)]


@given(LISTS)
def test_lists_round_trip(lists: list[list[int]]) -> None:
    """Sequences have the values and lengths of the lists."""
    sequences = Sequences.from_lists(lists)
    assert lists_of(sequences) == lists
    assert len(sequences) == len(lists)
    assert sequences.lengths.tolist() == [len(tokens) for tokens in lists]
    assert (sequences.values.dtype, sequences.offsets.dtype) == (np.int32, np.int64)


@given(LISTS, st.data())
def test_take(lists: list[list[int]], data: st.DataObject) -> None:
    """The index may have any order, and repetitions."""
    index = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=9)) if lists else []
    taken = Sequences.from_lists(lists).take(np.array(index, np.int64))
    assert lists_of(taken) == [lists[i] for i in index]


@pytest.mark.parametrize("with_kernels", [True, False])
@given(lists=LISTS)
def test_unique(with_kernels: bool, lists: list[list[int]]) -> None:
    """Each unique sequence occurs once, and the inverse restores all sequences."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "available", lambda: with_kernels)
        sequences = Sequences.from_lists(lists)
        first, which = sequences.unique()
    assert sorted(lists_of(sequences.take(first))) == sorted(map(list, {tuple(tokens) for tokens in lists}))
    assert lists_of(sequences.take(first[which])) == lists


@given(LISTS)
def test_without_tokens(lists: list[list[int]]) -> None:
    """Sequences that are empty or all 0 are counted."""
    assert Sequences.from_lists(lists).without_tokens == sum(not any(tokens) for tokens in lists)


def test_sides_of_pairs() -> None:
    """There are as many pairs as labels, and side 0 is in0."""
    in0, in1 = Sequences.from_lists([[1], [2]]), Sequences.from_lists([[3], [4]])
    pairs = Pairs(in0, in1, np.ones(2, np.float32))
    assert len(pairs) == 2
    assert pairs.sides == (in0, in1)


@given(LISTS, st.integers(0, 6))
def test_truncate(lists: list[list[int]], most: int) -> None:
    """The first tokens of each sequence are kept."""
    cut = Sequences.from_lists(lists).truncate(most)
    assert lists_of(cut) == [tokens[:most] for tokens in lists]


@given(st.lists(LISTS, min_size=1, max_size=4))
def test_concatenate_and_slice(parts: list[list[list[int]]]) -> None:
    """Slices of the concatenation equal the parts."""
    joined = Sequences.concatenate([Sequences.from_lists(part) for part in parts])
    assert lists_of(joined) == [tokens for part in parts for tokens in part]
    start = 0
    for part in parts:
        assert lists_of(joined.slice(start, start + len(part))) == part
        start += len(part)


def test_checksum_covers_all_columns_and_their_order() -> None:
    """Any changed token, length, label or order changes the checksum; equal pairs have equal ones."""
    rows = [([1, 2], [3], 1.0), ([1], [3, 4], 0.0)]
    others = [
        rows[::-1],
        rows[:1],
        [([1, 2], [3], 0.0), rows[1]],
        [([1, 5], [3], 1.0), rows[1]],
        [([1, 2], [5], 1.0), rows[1]],
        [([1], [3], 1.0), ([2, 1], [3, 4], 0.0)],
    ]
    sums = [pairs_of(some).checksum for some in [rows, *others]]
    assert len(set(sums)) == len(sums)
    assert pairs_of(rows).checksum == sums[0]


@pytest.mark.parametrize(
    ("lists", "single"),
    [([], True), ([[3], [1]], True), ([[3], [0]], False), ([[], [1, 2]], False), ([[1], [2, 3]], False), ([[]], False)],
)
def test_single_tokens(lists: list[list[int]], single: bool) -> None:
    """Each sequence has one token other than 0; the total number of tokens is not enough."""
    assert Sequences.from_lists(lists).single is single


@given(LISTS, LISTS, st.integers(0, 3))
def test_known_positives_of_objects(lists: list[list[int]], others: list[list[int]], shift: int) -> None:
    """Pairs with other objects or label 0 are left out."""
    objects = [list(tokens) for tokens in dict.fromkeys(map(tuple, lists))]
    count = min(len(lists), len(others))
    rows = [(lists[n], others[(n + shift) % len(others)], float(n % 3)) for n in range(count)]
    found = (
        find_known_positives((Sequences.from_lists(objects), Sequences.from_lists(others[:1])), pairs_of(rows))
        if rows
        else ([], [])
    )
    wanted = [(objects.index(a), 0) for a, b, label in rows if b == others[0] and label]
    assert list(zip(*(numbers.tolist() if rows else [] for numbers in found), strict=True)) == wanted
