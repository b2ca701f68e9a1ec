"""Mined negatives: which objects they are, how many, and what a data set with them looks like."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from object2vec.array_types import Float32
from object2vec.data.records import Side
from object2vec.data.sequences import Pairs, Sequences
from object2vec.errors import UserError
from object2vec.model.network import Network
from object2vec.model.tokens import Tokens
from object2vec.retrieval.mining import Window, mine_negatives, mixed
from small import configured, network_of, pairs_of

OBJECTS = 30


def model(**changes: object) -> Network:
    changes = {"output_layer": "mean_squared_error", "comparator_list": "hadamard", "mlp_layers": 0} | changes
    return network_of(configured(enc0_vocab_size=OBJECTS + 1, **changes))


def mine(pairs: Pairs, network: Network, window: Window) -> list[tuple[int, int]]:
    """Return the mined pairs of single ids."""

    def encode(sequences: Sequences, side: Side) -> Float32:
        return network.encoder(int(side[-1]))(Tokens.of(sequences)).detach().numpy()

    counts: list[int] = []
    found = mine_negatives(pairs, encode, network, window, mined=counts.append)
    assert sum(counts) == len(set(pairs.in0.values[pairs.labels == 1].tolist()))
    assert found.labels.tolist() == [0.0] * len(found)
    return list(zip(found.in0.values.tolist(), found.in1.values.tolist(), strict=True))


def ranking(network: Network, user: int, known: set[int]) -> list[int]:
    """Return the ids of in1 that are not known, highest score first."""
    others = [item for item in range(1, OBJECTS + 1) if item not in known]
    tokens = (
        Tokens.of(Sequences.from_lists([[user]] * len(others))),
        Tokens.of(Sequences.from_lists([[i] for i in others])),
    )
    rows = torch.arange(len(others))
    scores = network.scores(network(tokens, (rows, rows))).detach().numpy()[:, -1]
    return [others[place] for place in np.argsort(-scores, kind="stable")]


def everything(users: int = 4) -> Pairs:
    """Return pairs in which user u likes the items u and u + 1, and all items occur, as negatives of user 9."""
    rows = [([user], [user + more], 1) for user in range(1, users + 1) for more in (0, 1)]
    return pairs_of([*rows, ([1], [7], 0), *(([9], [item], 0) for item in range(1, OBJECTS + 1))])


@pytest.mark.parametrize("changes", [{}, {"output_layer": "softmax"}, {"mlp_layers": 1, "mlp_activation": "tanh"}])
def test_negatives_are_all_of_a_window_of_the_ranking(changes: dict[str, object]) -> None:
    """With more per pair than the window has, all of the window is mined, and each object once."""
    network = model(**changes)
    found = mine(everything(), network, Window(per_pair=9, skip=2, top=12))
    for user in range(1, 5):
        known = {user, user + 1} | ({7} if user == 1 else set())
        mined = [item for each, item in found if each == user]
        assert sorted(mined) == sorted(ranking(network, user, known)[2:12])
    assert {user for user, _ in found} == {1, 2, 3, 4}, "no negatives for an object without positives"


def test_negatives_are_as_many_as_the_positives_ask_for() -> None:
    network = model()
    for per_pair in (1, 3):
        found = mine(everything(), network, Window(per_pair=per_pair, skip=0, top=20))
        assert len(set(found)) == len(found)
        assert [sum(each == user for each, _ in found) for user in range(1, 5)] == [2 * per_pair] * 4


def test_no_known_pair_is_mined_where_few_objects_are_left() -> None:
    """An object that is paired with all others has no negatives; one that is paired with most has the others."""
    rows = [([1], [item], item % 2) for item in range(1, 9)] + [([2], [item], 1) for item in range(1, 7)]
    found = mine(pairs_of(rows), model(), Window(per_pair=5, skip=0, top=50))
    assert sorted(found) == [(2, 7), (2, 8)]


def test_seed_decides_the_draw() -> None:
    network = model()
    first, again, second = (mine(everything(), network, Window(seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != second


def test_mixed_pairs_are_all_pairs_in_random_order() -> None:
    parts = everything(), pairs_of([([5], [6], 0)])
    found = mixed(parts, seed=3)
    rows = [
        sorted(zip(p.in0.values.tolist(), p.in1.values.tolist(), p.labels.tolist(), strict=True))
        for p in (found, Pairs.concatenate(parts))
    ]
    assert rows[0] == rows[1]
    assert found.in0.values.tolist() != Pairs.concatenate(parts).in0.values.tolist()


def test_mined_negatives_follow_positives_of_their_in0() -> None:
    """They are distributed over the positives of an in0; a negative of an in0 without one has a place of its own."""
    positives = pairs_of([([n % 3 + 1], [n + 1], 1) for n in range(6)])
    negatives = pairs_of([([n % 3 + 1], [n + 10], 0) for n in range(12)] + [([9], [9], 0)])
    found = mixed([positives, negatives], seed=1)
    runs: list[list[int]] = []
    for in0, label in zip(found.in0.values.tolist(), found.labels.tolist(), strict=True):
        if label or in0 == 9:
            runs.append([])
        runs[-1].append(in0)
    assert sorted(runs) == [[1] * 3, [1] * 3, [2] * 3, [2] * 3, [3] * 3, [3] * 3, [9]]


def test_labels_other_than_0_and_1_are_refused() -> None:
    with pytest.raises(UserError, match=r"^a label is 4.5, wanted pairs with the labels 0 and 1 to mine for$"):
        mine(pairs_of([([1], [2], 1), ([1], [3], 4.5)]), model(), Window())


def test_several_classes_are_refused() -> None:
    with pytest.raises(UserError, match="the model has 3 classes"):
        mine(everything(), model(output_layer="softmax", num_classes=3), Window())


def test_empty_window_is_refused() -> None:
    with pytest.raises(UserError, match=r"^skip is 10 and top is 10, wanted a top above skip$"):
        Window(skip=10, top=10)
