"""Batches: each pair once, unique objects, buckets, and a seeded order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.data import batches as data_batches
from object2vec.data.batches import Batch, Batches
from object2vec.data.sequences import Sequences
from object2vec.ops import library
from small import pairs_of

TOKENS = st.lists(st.integers(0, 3), max_size=9)
ROWS = st.lists(st.tuples(TOKENS, TOKENS, st.sampled_from([0.0, 1.0])), min_size=1, max_size=30)
Row = tuple[tuple[int, ...], tuple[int, ...], float]


def objects_of(batch: Batch) -> list[list[tuple[int, ...]]]:
    return [
        [tuple(side.values[a:b].tolist()) for a, b in zip(side.offsets[:-1], side.offsets[1:], strict=True)]
        for side in batch.objects
    ]


def rows_of(batch: Batch) -> list[Row]:
    """Return the pairs of a batch as tuples."""
    first, second = objects_of(batch)
    index = zip(batch.index[0].tolist(), batch.index[1].tolist(), batch.labels.tolist(), strict=True)
    return [(first[a], second[b], label) for a, b, label in index]


def counted(rows: list[tuple[list[int], list[int], float]]) -> Counter[Row]:
    return Counter((tuple(a), tuple(b), label) for a, b, label in rows)


#: 40 users with one item each, of lengths 1 to 10.
MANY = [([user], [user] * (1 + user % 10), 1.0) for user in range(40)]


@given(ROWS, st.integers(1, 8), st.integers(0, 4))
def test_epoch_has_each_pair_once(rows: list[tuple[list[int], list[int], float]], size: int, bucket_width: int) -> None:
    """No batch is empty or larger than its size."""
    batches = list(Batches(pairs_of(rows), size=size, bucket_width=bucket_width).epoch(0))
    assert sum((Counter(rows_of(batch)) for batch in batches), Counter()) == counted(rows)
    assert all(1 <= len(batch) <= size for batch in batches)
    assert bucket_width or len(batches) == -(-len(rows) // size)


@given(st.integers(1, 8), st.integers(0, 3), st.integers(0, 2))
def test_pairs_keep_their_weights(size: int, bucket_width: int, negatives: int) -> None:
    """Each pair has its own weight in every order; a negative has the weight of its positive."""
    pairs = replace(pairs_of(MANY), weights=np.arange(40, dtype=np.float32))
    batches = Batches(pairs, size=size, bucket_width=bucket_width, negatives=negatives)
    for order in (batches.epoch(0), batches.in_order()):
        found = [
            (user, weight)
            for batch in order
            for ((user,), *_), weight in zip(rows_of(batch), batch.weights.tolist(), strict=True)
        ]
        assert Counter(found) == Counter({(user, float(user)): 1 + negatives for user in range(40)})
    assert next(Batches(pairs, size=40).in_order()).weight == sum(range(40))


def test_in0_balance_divides_weights_by_a_power_of_the_pairs_of_in0() -> None:
    """At 1, each in0 has the same weight in all; `weights` of the pairs still multiply."""
    pairs = pairs_of([([user], [film], 1.0) for film, user in enumerate([5, 5, 6, 5, 5], start=1)])
    own = np.array([1, 1, 1, 1, 3], np.float32)
    for power, expected in ((0.5, [0.5, 0.5, 1, 0.5, 0.5]), (1, [0.25, 0.25, 1, 0.25, 0.25])):
        for given_weights, factors in ((None, np.ones(5)), (own, own)):
            batches = Batches(replace(pairs, weights=given_weights), size=9, in0_balance=power)
            np.testing.assert_allclose(next(batches.in_order()).weights, expected * factors)


def test_in0_balance_does_not_count_given_negatives() -> None:
    rows = [([5], [1], 1.0), ([5], [2], 0.0), ([5], [3], 0.0), ([5], [4], 1.0), ([6], [1], 1.0)]
    batches = Batches(pairs_of(rows), size=9, in0_balance=1, sampled_candidates=0)
    assert next(batches.in_order()).weights.tolist() == [0.5, 0.5, 1]


@given(st.integers(1, 8), st.integers(0, 3))
def test_pairs_keep_their_classes(size: int, bucket_width: int) -> None:
    classes = [list(range(user % 4)) for user in range(40)]
    batches = Batches(
        replace(pairs_of(MANY), classes=Sequences.from_lists(classes)), size=size, bucket_width=bucket_width
    )
    for order in (batches.epoch(0), batches.in_order()):
        found = [
            (row[0][0], own.tolist())
            for batch in order
            for row, own in zip(
                rows_of(batch), np.split(batch.classes.values, batch.classes.offsets[1:-1]), strict=True
            )
        ]
        assert sorted(found) == list(enumerate(classes))


@given(ROWS, st.integers(1, 8), st.integers(0, 4), st.integers(1, 9))
def test_small_blocks_keep_all_pairs(
    rows: list[tuple[list[int], list[int], float]], size: int, bucket_width: int, block: int
) -> None:
    """Pairs that do not fill a batch wait for the next block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_batches, "BLOCK_ROWS", block)
        batches = list(Batches(pairs_of(rows), size=size, bucket_width=bucket_width).epoch(0))
    assert sum((Counter(rows_of(batch)) for batch in batches), Counter()) == counted(rows)
    lengths = Counter(max(len(a), len(b)) // bucket_width if bucket_width else 0 for a, b, _ in rows)
    assert len(batches) == sum(-(-count // size) for count in lengths.values())


@given(st.integers(1, 200), st.integers(1, 8), st.integers(1, 4), st.integers(0, 2))
def test_large_channel_is_shuffled_in_runs(count: int, size: int, runs: int, negatives: int) -> None:
    """Each pair occurs once; the pairs of a block, and their negatives, come from runs of the channel."""
    rows = [([row], [row], 1.0) for row in range(count)]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"MIN_RUN_BYTES": 0, "RUN_ROWS": 8, "BLOCK_ROWS": 8 * runs}.items():
            patch.setattr(data_batches, name, value)
        batches = Batches(pairs_of(rows), size=size, negatives=negatives)
        pairs = [pair for batch in batches.epoch(0) for pair in rows_of(batch)]
        again = [pair for batch in batches.epoch(1) for pair in rows_of(batch)]
    positives = [a for (a,), _, label in pairs if label]
    assert sorted(positives) == list(range(count))
    assert count < 20 or positives != [a for (a,), _, label in again if label]
    block = {row: place // (8 * runs) for place, row in enumerate(positives)}
    if count % 8 == 0:
        assert all(len({block[row] for row in range(start, start + 8)}) == 1 for start in range(0, count, 8))
        assert all(block[a] == block[b] for (a,), (b,), _ in pairs)


@pytest.mark.parametrize("most", [1, 2], ids=["single tokens", "others"])
def test_large_channel_of_few_objects(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair occurs once, even if rows share few objects."""
    for name, value in {"MIN_RUN_BYTES": 0, "RUN_ROWS": 8, "BLOCK_ROWS": 16}.items():
        monkeypatch.setattr(data_batches, name, value)
    rows = [((row % 3 + 1,) * most, (row % 5 + 1,), float(row % 2)) for row in range(60)]
    batches = Batches(pairs_of(rows), size=7)  # type: ignore[arg-type]
    assert sorted(row for batch in batches.epoch(0) for row in rows_of(batch)) == sorted(rows)


@pytest.mark.parametrize("most", [1, 2], ids=["single tokens", "others"])
def test_batches_are_the_same_with_and_without_kernels(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch has the same pairs in the same batches, including negatives."""
    rows = [((row % 3 + 1,) * most, (row % 5 + 1,), float(row % 2)) for row in range(60)]
    epochs = []
    for with_kernels in (True, False):
        monkeypatch.setattr(library, "available", lambda usable=with_kernels: usable)
        batches = Batches(pairs_of(rows), size=7, negatives=2)  # type: ignore[arg-type]
        epochs.append([rows_of(batch) for batch in batches.epoch(0)])
    assert epochs[0] == epochs[1]


@given(ROWS, st.integers(1, 8))
def test_scoring_keeps_the_order(rows: list[tuple[list[int], list[int], float]], size: int) -> None:
    """`in_order` yields the pairs in their order."""
    batches = Batches(pairs_of(rows), size=size)
    flat = [row for batch in batches.in_order() for row in rows_of(batch)]
    assert flat == [(tuple(a), tuple(b), label) for a, b, label in rows]


@pytest.mark.parametrize("with_kernels", [True, False], ids=["kernels", "numpy"])
@pytest.mark.parametrize("most", [1, 2], ids=["single tokens", "others"])
@pytest.mark.parametrize("size", [1, 4, 9, 512])
def test_scoring_with_negatives(size: int, most: int, with_kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each positive is followed by its negatives, the same in each call, never known positives.

    Ranks that share the pairs score the same pairs together. No batch exceeds its size.
    """
    if not with_kernels:
        monkeypatch.setattr(library, "available", lambda: False)
    rows = [((user,) * most, (2 * item + user % 2,), 1.0) for user in range(1, 9) for item in (1, 2, 3)]
    train = [((user,) * most, (item,), 1.0) for user in range(1, 9) for item in (4, 5, 33)]
    train += [((user,) * most, (6,), 0.0) for user in range(1, 9)]  # no positive, so it may be drawn
    given = {"size": size, "negatives": 3, "known": pairs_of(train)}  # type: ignore[arg-type]
    batches = Batches(pairs_of(rows), **given)  # type: ignore[arg-type]
    found = [rows_of(batch) for batch in batches.in_order()]
    assert found == [rows_of(batch) for batch in batches.in_order()]
    assert max(map(len, found)) <= max(size, 4)
    flat = [row for batch in found for row in batch]
    assert [row for row in flat if row[2] == 1] == rows
    assert len(flat) == 4 * len(rows)
    for at in range(0, len(flat), 4):
        assert [(a, label) for a, _, label in flat[at + 1 : at + 4]] == [(flat[at][0], 0.0)] * 3
    drawn = {(a, b) for a, b, label in flat if label == 0}
    assert not drawn & {(a, b) for a, b, label in [*rows, *train] if label == 1}
    assert {b for _, b in drawn} <= {b for _, b, _ in rows}
    assert (6,) in {b for a, b in drawn if a[0] % 2}
    parts = [Batches(pairs_of(rows), **given, share=(rank, 3)).in_order() for rank in range(3)]  # type: ignore[arg-type]
    assert sorted(row for part in parts for batch in part for row in rows_of(batch)) == sorted(flat)


def test_scoring_draws_other_negatives_with_another_seed() -> None:
    """The seed of the job determines them."""
    drawn = [
        [rows_of(batch) for batch in Batches(pairs_of(MANY), size=64, negatives=2, seed=seed).in_order()]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


@given(ROWS, st.integers(1, 8), st.integers(0, 3))
def test_each_object_is_in_a_batch_once(
    rows: list[tuple[list[int], list[int], float]], size: int, negatives: int
) -> None:
    """A batch has the unique objects of its pairs, and no others."""
    for batch in Batches(pairs_of(rows), size=size, negatives=negatives).epoch(0):
        for objects, index in zip(objects_of(batch), batch.index, strict=True):
            assert len(set(objects)) == len(objects)
            assert set(index.tolist()) == set(range(len(objects)))
            assert index.shape == batch.labels.shape


@given(ROWS, st.integers(1, 8), st.integers(1, 4), st.integers(0, 2))
def test_bucket_has_similar_lengths(
    rows: list[tuple[list[int], list[int], float]], size: int, bucket_width: int, negatives: int
) -> None:
    """Lengths of the longer sides in a batch differ by less than the bucket width."""
    made = Batches(pairs_of(rows), size=size, bucket_width=bucket_width, negatives=negatives)
    for batch in made.epoch(0):
        longer = [max(len(a), len(b)) for a, b, _ in rows_of(batch)]
        assert max(longer) - min(longer) < bucket_width
        assert len({length // bucket_width for length in longer}) == 1


@pytest.mark.parametrize("negatives", [0, 2])
@pytest.mark.parametrize("bucket_width", [0, 3])
def test_seed_and_epoch_determine_batches(bucket_width: int, negatives: int) -> None:
    """Another epoch, or another seed, gives another order."""

    def epoch(seed: int, number: int) -> list[list[Row]]:
        made = Batches(pairs_of(MANY), size=4, bucket_width=bucket_width, negatives=negatives, seed=seed)
        return [rows_of(batch) for batch in made.epoch(number)]

    assert epoch(1, 0) == epoch(1, 0)
    assert epoch(1, 0) != epoch(1, 1)
    assert epoch(1, 0) != epoch(2, 0)


def test_epochs_are_independent() -> None:
    """Epoch 3 is the same whether or not earlier epochs were made, so a job can resume there."""
    made = Batches(pairs_of(MANY), size=4, negatives=2)
    for number in range(3):
        list(made.epoch(number))
    fresh = Batches(pairs_of(MANY), size=4, negatives=2)
    assert list(map(rows_of, made.epoch(3))) == list(map(rows_of, fresh.epoch(3)))


@pytest.mark.parametrize("share", [(0, 1), (1, 3)])
@pytest.mark.parametrize("bucket_width", [0, 3])
def test_epoch_resumes_at_any_batch(bucket_width: int, share: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """With `skip`, the remaining batches are the same in order, and the skipped ones are not made."""
    monkeypatch.setattr(data_batches, "BLOCK_ROWS", 16)
    settings = {"size": 3, "bucket_width": bucket_width, "negatives": 2, "share": share}
    whole = [rows_of(batch) for batch in Batches(pairs_of(MANY), **settings).epoch(2)]
    for skip in (0, 1, len(whole) - 1, len(whole), len(whole) + 5):
        made = Batches(pairs_of(MANY), **settings)
        numbers = iter(range(len(whole) + 1))
        make = made._batch
        monkeypatch.setattr(made, "_batch", lambda *given, n=numbers, m=make: (next(n), m(*given))[1])
        assert [rows_of(batch) for batch in made.epoch(2, skip)] == whole[skip:]
        assert next(numbers) == max(0, len(whole) - skip)


def test_buckets_are_shuffled() -> None:
    """Batches of short and long inputs alternate."""
    batches = Batches(pairs_of(MANY), size=4, bucket_width=1).epoch(0)
    lengths = [len(rows_of(batch)[0][1]) for batch in batches]
    assert lengths != sorted(lengths)


@pytest.mark.parametrize("bucket_width", [0, 3])
def test_negatives_follow_their_positives(bucket_width: int) -> None:
    """Each epoch has `rate` new negatives of label 0 per positive, with its in0 and without known positives."""
    rows = [*MANY, ([7], [1, 2, 3], 0.0)]
    made = Batches(pairs_of(rows), size=8, bucket_width=bucket_width, negatives=3)
    assert made.examples == 41 + 3 * 40
    epochs = [[row for batch in made.epoch(number) for row in rows_of(batch)] for number in (0, 1)]
    negatives = []
    for epoch in epochs:
        assert len(epoch) == made.examples
        assert Counter(epoch) >= counted(rows)
        added = Counter(epoch) - counted(rows)
        negatives.append(added)
        assert {label for _, _, label in added} == {0.0}
        assert Counter(a for a, _, _ in added.elements()) == {(user,): 3 for user in range(40)}
        assert not {(a, b) for a, b, _ in added} & {(tuple(a), tuple(b)) for a, b, _ in MANY}
    assert negatives[0] != negatives[1]


def test_a_positive_and_its_negatives_are_adjacent() -> None:
    """Without buckets, negatives follow their pair, so most batches encode its in0 once."""
    made = Batches(pairs_of(MANY), size=1000, negatives=3)
    (batch,) = made.epoch(0)
    rows = rows_of(batch)
    for start in range(0, len(rows), 4):
        group = rows[start : start + 4]
        assert len({a for a, _, _ in group}) == 1
        assert [label for _, _, label in group] == [1, 0, 0, 0]


def test_pairs_are_shuffled_with_and_without_negatives() -> None:
    """Pairs are not in the order of the file."""
    for negatives in (0, 3):
        (batch,) = Batches(pairs_of(MANY), size=1000, negatives=negatives).epoch(0)
        users = [a for a, _, label in rows_of(batch) if label == 1]
        assert len(users) == 40
        assert users != sorted(users)
