"""Negative sampling: forbidden pairs, distributions, and counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.data import negatives
from object2vec.data.negatives import NegativeSampler
from object2vec.ops import library


def sampler(
    pairs: list[tuple[int, int]], labels: list[float] | None = None, rate: int = 1, *, uniform: bool = False
) -> NegativeSampler:
    """Return a sampler over pairs of objects; all are positive without `labels`."""
    objects = np.array(pairs, np.int32).reshape(-1, 2)
    given_labels = np.ones(len(pairs), np.float32) if labels is None else np.array(labels, np.float32)
    return NegativeSampler((objects[:, 0].copy(), objects[:, 1].copy()), given_labels, rate, uniform=uniform)


def drawn(made: NegativeSampler, seed: int = 0) -> list[tuple[int, int]]:
    """Return the negatives of all rows: (row of in0, row of in1)."""
    rows = made.draw(np.arange(len(made.positive)), np.random.default_rng(seed))
    assert rows[:, 0].tolist() == list(range(len(made.positive)))
    return [(row0, row1) for row0, *own in rows.tolist() for row1 in own if row1 >= 0]


PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=30)


@given(PAIRS, st.integers(1, 5), st.booleans(), st.integers(0, 9), st.data())
def test_negative_is_never_a_known_positive(
    pairs: list[tuple[int, int]], rate: int, uniform: bool, seed: int, data: st.DataObject
) -> None:
    """Each negative belongs to a positive row, with its in0 and the in1 of some row. No row has more than `rate`."""
    labels = data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=len(pairs), max_size=len(pairs)))
    positive = {pair for pair, label in zip(pairs, labels, strict=True) if label >= 1}
    found = drawn(sampler(pairs, labels, rate, uniform=uniform), seed)
    for row0, row1 in found:
        assert labels[row0] >= 1
        assert (pairs[row0][0], pairs[row1][1]) not in positive
    counts = np.bincount([row0 for row0, _ in found], minlength=len(pairs))
    for row, (first, _) in enumerate(pairs):
        choices = sorted({b for _, b in pairs}) if uniform else [b for _, b in pairs]
        free = sum((first, b) not in positive for b in choices)
        if labels[row] < 1 or not free:
            assert counts[row] == 0
        elif 3 * free >= len(choices):  # otherwise, draws may fail by chance
            assert counts[row] == rate


@pytest.mark.parametrize("each", [negatives.MAX_PAIR_BITS, 0])
@given(PAIRS, st.integers(1, 3), st.booleans(), st.integers(0, 9), st.data())
def test_kernel_and_numpy_draw_the_same(
    each: int, pairs: list[tuple[int, int]], rate: int, uniform: bool, seed: int, data: st.DataObject
) -> None:
    """With one bit per pair of objects, and with hashed bits."""
    labels = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(pairs), max_size=len(pairs)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "MAX_PAIR_BITS", each)
        with_kernels = drawn(sampler(pairs, labels, rate, uniform=uniform), seed)
        patch.setattr(library, "available", lambda: False)
        assert drawn(sampler(pairs, labels, rate, uniform=uniform), seed) == with_kernels


@pytest.mark.parametrize("with_kernels", [True, False])
@given(PAIRS, st.integers(0, 9))
def test_draw_returns_objects_of_rows(with_kernels: bool, pairs: list[tuple[int, int]], seed: int) -> None:
    """With `give_objects`, the result has the objects of the rows, and -1 for a failed draw."""
    objects, labels = np.array(pairs, np.int32).reshape(-1, 2).T.copy(), np.arange(len(pairs), dtype=np.float32) % 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "available", lambda: with_kernels)
        rows, given_objects = (
            NegativeSampler((objects[0], objects[1]), labels, 2, give_objects=gives).draw(
                np.arange(len(pairs)), np.random.default_rng(seed)
            )
            for gives in (False, True)
        )
    assert np.array_equal(given_objects, np.where(rows < 0, -1, objects[1][rows]))


def test_negatives_keep_the_in0_of_their_positive() -> None:
    """The negatives of a row have the user of that row."""
    pairs = [(user, user) for user in range(6)]
    found = drawn(sampler(pairs, rate=3))
    assert [row0 for row0, _ in found] == [row for row in range(6) for _ in range(3)]


def test_row_without_possible_negatives_gets_none() -> None:
    """A user with all items gets no negatives; others do."""
    pairs = [(0, 0), (0, 1), (0, 2), (1, 0)]
    found = drawn(sampler(pairs, rate=2))
    assert [row0 for row0, _ in found] == [3, 3]
    assert {pairs[row1][1] for _, row1 in found} <= {1, 2}


@pytest.mark.parametrize("labels", [[0.0, 0.0], [0.0, 0.9]])
def test_rows_without_positive_label_get_no_negatives(labels: list[float]) -> None:
    """Rows with labels below 1."""
    assert drawn(sampler([(0, 0), (1, 1)], labels, rate=3)) == []


def test_seed_determines_the_draws() -> None:
    """The same seed draws the same; another seed, or a continued generator, does not."""
    made = sampler([(n, n) for n in range(50)], rate=2)
    assert drawn(made, 1) == drawn(made, 1)
    assert drawn(made, 1) != drawn(made, 2)
    generator, rows = np.random.default_rng(1), np.arange(50)
    assert not np.array_equal(made.draw(rows, generator), made.draw(rows, generator))


def test_negatives_are_uniform_over_rows() -> None:
    """All allowed rows of in1 are about equally frequent, including rows with label 0."""
    pairs = [(0, 0), *((1, item) for item in range(1, 11))]
    labels = [1.0] + [0.0] * 10
    rows = [row1 for _, row1 in drawn(sampler(pairs, labels, rate=5000))]
    counts = np.bincount(rows, minlength=11)
    assert counts[0] == 0
    assert counts[1:].min() > 400
    assert counts[1:].max() < 600


def test_uniform_negatives_are_uniform_over_objects() -> None:
    """An object of ten rows is as frequent as one of a single row; by rows it is ten times as frequent."""
    pairs = [(0, 0), *[(1, 1)] * 10, (2, 2)]
    labels = [1.0] + [0.0] * 11
    for uniform, share in ((True, 1 / 2), (False, 10 / 11)):
        made = sampler(pairs, labels, rate=5000, uniform=uniform)
        items = [pairs[row1][1] for _, row1 in drawn(made)]
        assert set(items) == {1, 2}
        assert items.count(1) / len(items) == pytest.approx(share, abs=0.03)


def test_missing_negatives_are_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    """One warning counts the missing negatives."""
    made = sampler([(0, 0), (0, 1), (1, 0)], rate=2)
    for seed in range(3):
        assert {row0 for row0, _ in drawn(made, seed)} == {2}
    (message,) = caplog.messages
    assert message.startswith("of 6 negatives 4 could not be drawn: nearly all in1 are positive with their in0.")


@pytest.mark.parametrize("uniform", [False, True])
def test_negatives_from_given_rows(uniform: bool) -> None:
    """With `from_rows`, in1 comes from only these rows, and from all of them eventually."""
    made = sampler([(row, row % 50) for row in range(100)], rate=80, uniform=uniform)
    rows = np.arange(20, 90, 10)
    row1 = made.draw(rows, np.random.default_rng(0), from_rows=True)[:, 1:]
    assert set(row1.ravel().tolist()) <= set(rows.tolist())
    assert {row % 50 for row in row1.ravel().tolist()} == {row % 50 for row in rows.tolist()}
    anywhere = made.draw(rows, np.random.default_rng(0))[:, 1:]
    assert {row % 50 for row in anywhere.ravel().tolist()} == set(range(50))


def test_hash_collisions_of_bits_do_not_change_draws() -> None:
    """Among many objects, pairs share bits.

    With 4,000 pairs of 200,000 objects, none of 100 negatives per row is a positive, and none is missing.
    """
    generator = np.random.default_rng(0)
    pairs = [(int(a), int(b)) for a, b in generator.integers(0, 200_000, (4000, 2))]
    made = sampler([*pairs, (199_999, 199_999)], rate=100)
    assert made._known.bits_per_object == 0
    found = drawn(made)
    assert len(found) == 4001 * 100
    assert not {(pairs[a][0], pairs[b][1]) for a, b in found if max(a, b) < 4000} & set(pairs)
