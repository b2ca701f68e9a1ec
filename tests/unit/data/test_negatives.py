"""Negative sampling: what must never be drawn, what must, and how many."""

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
    """A sampler over pairs of objects; all positive unless `labels` says otherwise."""
    objects = np.array(pairs, np.int32).reshape(-1, 2)
    given_labels = np.ones(len(pairs), np.float32) if labels is None else np.array(labels, np.float32)
    return NegativeSampler((objects[:, 0].copy(), objects[:, 1].copy()), given_labels, rate, uniform=uniform)


def drawn(made: NegativeSampler, seed: int = 0) -> list[tuple[int, int]]:
    """The rows of the negatives for all rows as they stand: (row of in0, row of in1)."""
    rows = made.draw(np.arange(len(made.positive)), np.random.default_rng(seed))
    assert rows[:, 0].tolist() == list(range(len(made.positive)))
    return [(row0, row1) for row0, *own in rows.tolist() for row1 in own if row1 >= 0]


PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=30)


@given(PAIRS, st.integers(1, 5), st.booleans(), st.integers(0, 9), st.data())
def test_a_negative_is_never_a_known_positive(
    pairs: list[tuple[int, int]], rate: int, uniform: bool, seed: int, data: st.DataObject
) -> None:
    """No negative is a pair of objects that stands as a positive anywhere, and each is made for a positive row, with
    that row's in0 and some row's in1; no row has more than `rate`.
    """
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
        elif 3 * free >= len(choices):  # else bad luck may give a row up
            assert counts[row] == rate


@pytest.mark.parametrize("each", [negatives.MAX_PAIR_BITS, 0])
@given(PAIRS, st.integers(1, 3), st.booleans(), st.integers(0, 9), st.data())
def test_kernels_draw_the_same(
    each: int, pairs: list[tuple[int, int]], rate: int, uniform: bool, seed: int, data: st.DataObject
) -> None:
    """With the kernels and without them the same negatives are drawn, and as many are missing; whether each pair of
    objects has a bit of its own, or those that are partners share a few.
    """
    labels = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(pairs), max_size=len(pairs)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "MAX_PAIR_BITS", each)
        with_kernels = drawn(sampler(pairs, labels, rate, uniform=uniform), seed)
        patch.setattr(library, "available", lambda: False)
        assert drawn(sampler(pairs, labels, rate, uniform=uniform), seed) == with_kernels


@pytest.mark.parametrize("with_kernels", [True, False])
@given(PAIRS, st.integers(0, 9))
def test_objects_are_given_for_rows(with_kernels: bool, pairs: list[tuple[int, int]], seed: int) -> None:
    """A sampler that gives objects gives those of the rows that another one gives, and -1 where there is none."""
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


def test_a_positive_keeps_its_own_in0() -> None:
    """Users and their items do not get mixed up: the negatives of a row carry that row's user, in runs of `rate`."""
    pairs = [(user, user) for user in range(6)]
    found = drawn(sampler(pairs, rate=3))
    assert [row0 for row0, _ in found] == [row for row in range(6) for _ in range(3)]


def test_what_cannot_have_a_negative_is_given_up() -> None:
    """A user who has every item gets no negative, and the others get theirs."""
    pairs = [(0, 0), (0, 1), (0, 2), (1, 0)]
    found = drawn(sampler(pairs, rate=2))
    assert [row0 for row0, _ in found] == [3, 3]
    assert {pairs[row1][1] for _, row1 in found} <= {1, 2}


@pytest.mark.parametrize("labels", [[0.0, 0.0], [0.0, 0.9]])
def test_without_a_positive_there_is_nothing_to_draw(labels: list[float]) -> None:
    """Rows whose label is below 1 get no negatives."""
    assert drawn(sampler([(0, 0), (1, 1)], labels, rate=3)) == []


def test_a_seed_repeats_and_another_differs() -> None:
    """The same generator draws the same negatives; a generator that goes on, or another seed, draws others."""
    made = sampler([(n, n) for n in range(50)], rate=2)
    assert drawn(made, 1) == drawn(made, 1)
    assert drawn(made, 1) != drawn(made, 2)
    generator, rows = np.random.default_rng(1), np.arange(50)
    assert not np.array_equal(made.draw(rows, generator), made.draw(rows, generator))


def test_negatives_come_from_all_rows_alike() -> None:
    """Every row of in1 that may be drawn is, about as often as the others, rows of label 0 included."""
    pairs = [(0, 0), *((1, item) for item in range(1, 11))]
    labels = [1.0] + [0.0] * 10
    rows = [row1 for _, row1 in drawn(sampler(pairs, labels, rate=5000))]
    counts = np.bincount(rows, minlength=11)
    assert counts[0] == 0
    assert counts[1:].min() > 400
    assert counts[1:].max() < 600


def test_uniform_negatives_come_from_all_objects_alike() -> None:
    """An object that stands in ten rows is drawn as often as one that stands in a single row, and by rows ten times as
    often.
    """
    pairs = [(0, 0), *[(1, 1)] * 10, (2, 2)]
    labels = [1.0] + [0.0] * 11
    for uniform, share in ((True, 1 / 2), (False, 10 / 11)):
        made = sampler(pairs, labels, rate=5000, uniform=uniform)
        items = [pairs[row1][1] for _, row1 in drawn(made)]
        assert set(items) == {1, 2}
        assert items.count(1) / len(items) == pytest.approx(share, abs=0.03)


def test_too_few_negatives_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Where a positive has no negative left, one warning counts those that are missing, and no more."""
    made = sampler([(0, 0), (0, 1), (1, 0)], rate=2)
    for seed in range(3):
        assert {row0 for row0, _ in drawn(made, seed)} == {2}
    (message,) = caplog.messages
    assert message.startswith("of 6 negatives 4 could not be drawn: nearly all in1 are positive with their in0.")


@pytest.mark.parametrize("uniform", [False, True])
def test_negatives_from_the_rows_themselves(uniform: bool) -> None:
    """A draw that says so takes `in1` from the rows that it is for and no others, all of them in time."""
    made = sampler([(row, row % 50) for row in range(100)], rate=80, uniform=uniform)
    rows = np.arange(20, 90, 10)
    row1 = made.draw(rows, np.random.default_rng(0), from_rows=True)[:, 1:]
    assert set(row1.ravel().tolist()) <= set(rows.tolist())
    assert {row % 50 for row in row1.ravel().tolist()} == {row % 50 for row in rows.tolist()}
    anywhere = made.draw(rows, np.random.default_rng(0))[:, 1:]
    assert {row % 50 for row in anywhere.ravel().tolist()} == set(range(50))


def test_bits_by_chance_are_settled_by_a_search() -> None:
    """Among many objects several pairs have one bit; still each known positive is known, and all others are free.

    4,000 pairs of 200,000 by 200,000 objects: of a hundred negatives each none is a positive, and none is missing.
    """
    generator = np.random.default_rng(0)
    pairs = [(int(a), int(b)) for a, b in generator.integers(0, 200_000, (4000, 2))]
    made = sampler([*pairs, (199_999, 199_999)], rate=100)
    assert made._known.bits_per_object == 0
    found = drawn(made)
    assert len(found) == 4001 * 100
    assert not {(pairs[a][0], pairs[b][1]) for a, b in found if max(a, b) < 4000} & set(pairs)
