"""Pairs of single tokens: the same scores without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from object2vec.ops.scoring import TOGETHER
from object2vec.serving.instances import Column
from object2vec.serving.predictor import Predictor
from object2vec.serving.token_scorer import TokenPairScorer, single_token_pairs
from small import configured, network_of

PAIRS = [([n % 8 + 1], [n // 8 + 1]) for n in range(2 * TOGETHER + 3)]


@pytest.mark.parametrize("output", ["softmax", "mean_squared_error"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize(
    "comparators", ["hadamard, concat, abs_diff", "concat", "abs_diff,hadamard", "cosine", "cosine,abs_diff,concat"]
)
def test_the_scores_are_torch_s(output: str, activation: str, layers: int, comparators: str) -> None:
    """Scores of every head are the same for one pair and among other pairs."""
    hyperparameters = configured(
        output_layer=output, mlp_activation=activation, mlp_layers=layers, comparator_list=comparators
    )
    predictor = Predictor(network_of(hyperparameters), hyperparameters, directory=Path("nowhere"))
    assert predictor._token_scorer is not None
    few = predictor.score(PAIRS)
    predictor._token_scorer = None
    torchs = predictor.score(PAIRS)
    assert few.dtype == torchs.dtype == np.float32
    np.testing.assert_allclose(few, torchs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("halves", [(True, True), (True, False)], ids=["both", "one"])
def test_tables_in_half_precision(halves: tuple[bool, bool]) -> None:
    """The scores are those of the same numbers in single precision, bit for bit."""
    hyperparameters = configured()
    half, single = network_of(hyperparameters), network_of(hyperparameters)
    for (one, other), rounded in zip(zip(half.tables, single.tables, strict=True), halves, strict=True):
        other.weight.data = one.weight.data.half().float()
        one.weight.data = other.weight.data.half() if rounded else other.weight.data
    of_half, of_single = (Predictor(n, hyperparameters, directory=Path("nowhere")) for n in (half, single))
    assert of_half._token_scorer is not None
    np.testing.assert_array_equal(of_half.score(PAIRS), of_single.score(PAIRS))


@pytest.mark.parametrize(("rows", "slots"), [(0, (1, 1)), (6, (3, 3)), (19, (9, 10)), (100, (9, 20))])
def test_what_is_kept_of_a_token_changes_no_score(
    rows: int, slots: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, whether it is computed, read again, or has made way for another's."""
    other = {"enc1_max_seq_len": 6, "enc1_vocab_size": 20, "enc1_token_embedding_dim": 4}
    hyperparameters = configured(enc1_network="pooled_embedding", **other)
    network = network_of(hyperparameters)
    assert network.head is not None
    weights = sum(parameter.nbytes for parameter in network.head.parameters() if parameter.ndim > 1)
    monkeypatch.setattr("object2vec.serving.token_scorer.MAX_CACHE_BYTES", weights + 4 * hyperparameters.mlp_dim * rows)
    predictor = Predictor(network, hyperparameters, directory=Path("nowhere"))
    token_scorer = predictor._token_scorer
    assert token_scorer is not None
    assert tuple(token_scorer._head.struct.cache_rows) == slots
    predictor._token_scorer = None
    torchs = predictor.score(PAIRS)
    predictor._token_scorer = token_scorer
    first = predictor.score(PAIRS)
    np.testing.assert_allclose(first, torchs, rtol=1e-5, atol=1e-6)
    for order in ([*range(len(PAIRS))], [*reversed(range(len(PAIRS)))], [0, 0, 3, 3, 1]):
        np.testing.assert_array_equal(predictor.score([PAIRS[place] for place in order]), first[order])


def test_what_is_looked_up() -> None:
    """Single tokens on both sides of instances, none of them 0, which stands for no token."""
    one, two = Column.from_lists([[1], [2]]), Column.from_lists([[3], [4]])
    assert [ids.tolist() for ids in single_token_pairs((one, two), 2) or ()] == [[1, 2], [3, 4]]
    for other in ([[1], [0]], [[1], None], [[1, 2], []], [[1], [2, 3]]):
        assert single_token_pairs((one, Column.from_lists(other)), 2) is None


@pytest.mark.parametrize("max_pairs", [1, 2, len(PAIRS) - 1])
def test_many_are_looked_up_in_turns(max_pairs: int) -> None:
    """So many before other threads work, and the scores are the same."""
    predictor = Predictor(network_of(configured()), configured(), directory=Path("nowhere"))
    together = predictor.score(PAIRS)
    assert predictor._token_scorer is not None
    predictor._token_scorer.max_pairs = max_pairs
    np.testing.assert_array_equal(predictor.score(PAIRS), together)


@pytest.mark.parametrize("changes", [{"network": "hcnn"}, {"network": "bilstm"}, {"pooled_projection": "linear"}])
def test_other_encoders_look_nothing_up(changes: dict[str, object]) -> None:
    hyperparameters = configured(**changes)
    assert TokenPairScorer.from_network(network_of(hyperparameters), "tanh") is None


def test_a_large_head_looks_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights would take more memory a second time than a model may."""
    monkeypatch.setattr("object2vec.serving.token_scorer.MAX_CACHE_BYTES", 100)
    assert TokenPairScorer.from_network(network_of(configured()), "tanh") is None
