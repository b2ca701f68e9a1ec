"""Recommendations are those of scoring all pairs, for each kind of head, side and filter, from memory and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from object2vec.atomic_files import write_atomically
from object2vec.errors import ArtifactError, UserError
from object2vec.model.network import Network
from object2vec.retrieval import recommender as module
from object2vec.retrieval import vector_index
from object2vec.retrieval.recommender import Recommender
from small import configured, network_of

COUNT, DIM = 600, 6
HEADS = {
    "product": {"comparator_list": "hadamard", "mlp_layers": 0},
    "product and encodings": {"comparator_list": "concat, hadamard", "mlp_layers": 0},
    "linear layers": {"comparator_list": "hadamard, concat", "mlp_layers": 2, "mlp_activation": "linear"},
    "difference": {"comparator_list": "abs_diff, hadamard", "mlp_layers": 0},
    "cosine": {"comparator_list": "cosine", "mlp_layers": 0},
    "cosine and others": {"comparator_list": "concat, cosine", "mlp_layers": 1, "mlp_activation": "linear"},
    "tanh": {"mlp_layers": 1, "mlp_activation": "tanh"},
    "relu": {"mlp_layers": 2, "mlp_activation": "relu"},
}


def network(head: str, output: str = "mean_squared_error", **changes: object) -> Network:
    return network_of(configured(output_layer=output, enc0_token_embedding_dim=DIM, **HEADS[head], **changes))


def encodings(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


@torch.inference_mode()
def scored(model: Network, queries: np.ndarray, vectors: np.ndarray, side: int) -> np.ndarray:
    """Return the network's scores (Q, N): the number, or the probability of class 1."""
    rows = []
    for query in torch.from_numpy(queries):
        one, others = query.expand(len(vectors), -1), torch.from_numpy(vectors)
        rows.append(model.scores(model.score_encodings(*((one, others) if side else (others, one))))[:, -1].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("output", ["mean_squared_error", "softmax"])
@pytest.mark.parametrize("head", HEADS)
def test_recommendations_have_the_highest_scores_of_the_network(head: str, output: str, side: int) -> None:
    """Rows and scores are those of scoring all pairs, with filters."""
    model, vectors, queries = network(head, output), encodings(COUNT, 0), encodings(5, 1)
    allowed = np.random.default_rng(2).random(COUNT) < 0.5
    excluded = [np.arange(-1, 100 * number) for number in range(len(queries))]
    rows, scores = Recommender.build(model, vectors, side).recommend(queries, 8, allowed=allowed, excluded=excluded)
    wanted = scored(model, queries, vectors, side)
    wanted[:, ~allowed] = -np.inf
    for number, hidden in enumerate(excluded):
        wanted[number, hidden[hidden >= 0]] = -np.inf
    best = -np.sort(-wanted, axis=1)[:, :8]
    np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(wanted, rows, 1), scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("head", ["difference", "tanh", "relu"])
def test_of_many_candidates_the_best_are_found(head: str, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few of the candidates are scored, and almost all of the best ten are among them; filters hold."""
    monkeypatch.setattr(module, "SCORE_ALL_UP_TO", 500)
    model, vectors, queries = network(head), 0.5 * encodings(2_000, 0), 0.5 * encodings(40, 1)
    found = Recommender.build(model, vectors, side)
    assert found.description["kind"] == "anchors"
    assert found.description["recall@10"] >= 0.97
    rows, scores = found.recommend(queries, 10)
    wanted = scored(model, queries, vectors, side)
    np.testing.assert_allclose(np.take_along_axis(wanted, rows, 1), scores, rtol=1e-4, atol=1e-5)
    best = np.argsort(-wanted, axis=1)[:, :10]
    assert np.mean((rows[:, :, None] == best[:, None]).any(2)) > 0.9
    allowed = np.random.default_rng(2).random(len(vectors)) < 0.02
    rows, _ = found.recommend(queries, 10, allowed=allowed)
    wanted[:, ~allowed] = -np.inf
    assert rows.tolist() == np.argsort(-wanted, axis=1, kind="stable")[:, :10].tolist()


def test_close_probabilities_are_ordered_by_logits() -> None:
    """Candidates whose probability rounds to 1 keep their order."""
    model, query = network("product", "softmax"), encodings(1, 1)
    vectors = 100 * encodings(COUNT, 0)
    rows, scores = Recommender.build(model, vectors, 1).recommend(query, 5)
    assert scores[0].tolist() == [1] * 5
    with torch.inference_mode():
        output = model.score_encodings(torch.from_numpy(query).expand(COUNT, -1), torch.from_numpy(vectors))
    assert rows[0].tolist() == (output[:, 1] - output[:, 0]).argsort(descending=True)[:5].tolist()


def test_an_easy_head_needs_few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many candidates the network scores depends on how well the approximation fits."""
    monkeypatch.setattr(module, "SCORE_ALL_UP_TO", 500)
    reranked = []
    for scale in (0.1, 0.7):
        found = Recommender.build(network("tanh"), scale * encodings(2_000, 0), 1, queries=encodings(40, 1))
        reranked.append(found.description["reranked"])
    assert reranked[0] < reranked[1]


@pytest.mark.parametrize("weight", [2.0, -2.0])
@pytest.mark.parametrize("output", ["mean_squared_error", "softmax"])
def test_a_cosine_is_searched_as_one(output: str, weight: float) -> None:
    """The index has the candidates' cosines. With a negative weight, the lowest have the highest scores."""
    model, vectors, queries = network("cosine", output), encodings(COUNT, 0), encodings(3, 1)
    with torch.no_grad():
        model.head.output.weight[-1] = weight
        model.head.output.weight[:-1] = 0
    found = Recommender.build(model, vectors, 1)
    assert found.description["kind"] == "product"
    assert found.description["search"]["metric"] == "cosine"
    rows, scores = found.recommend(queries, 5)
    wanted = scored(model, queries, vectors, 1)
    np.testing.assert_array_equal(rows, np.argsort(-wanted, axis=1)[:, :5])
    np.testing.assert_allclose(scores, np.take_along_axis(wanted, rows, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head, limit", [("product", 10**6), ("cosine", 10**6), ("tanh", 10**6), ("tanh", 10)])
def test_an_opened_recommender_answers_as_the_built_one(
    head: str, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of search is saved and opened."""
    monkeypatch.setattr(module, "SCORE_ALL_UP_TO", limit)
    model, vectors, queries = network(head), encodings(COUNT, 0), encodings(3, 1)
    built = Recommender.build(model, vectors, 1)
    write_atomically(tmp_path, built.fills("r."))
    opened = Recommender.open(tmp_path, "r.", model, vectors, 1)
    assert opened.description == built.description
    for found, wanted in zip(opened.recommend(queries, 4), built.recommend(queries, 4), strict=True):
        assert np.array_equal(found, wanted)
    (tmp_path / "r.json").write_text('{"kind": "product"}' if head == "tanh" else '{"kind": "anchors"}')
    with pytest.raises(ArtifactError, match="does not fit the model"):
        Recommender.open(tmp_path, "r.", model, vectors, 1)


def test_approximate_search_is_tuned_for_drawn_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many candidates, recall is measured on encodings of random tokens of the other side."""
    monkeypatch.setattr(vector_index, "EXACT_UP_TO", 100)
    model = network("product")
    search = Recommender.build(model, encodings(COUNT, 0), 1).description["search"]
    assert search["kind"] == "approximate"
    assert search["recall@10"] >= vector_index.TARGET_RECALL


def test_scores_by_common_tokens_are_refused() -> None:
    """Encodings alone do not give the scores of such a model."""
    marked = configured(tied_token_embedding_weight=True, mark_common_tokens=True)
    with pytest.raises(UserError, match="the model has mark_common_tokens=True, wanted one without it"):
        Recommender.build(network_of(marked), encodings(9, 0), 1)


def test_several_classes_are_refused() -> None:
    """Three classes have no order."""
    with pytest.raises(UserError, match="3 classes without an order"):
        Recommender.build(network("tanh", "softmax", num_classes=3), encodings(9, 0), 1)
