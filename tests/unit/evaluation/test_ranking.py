"""Ranking metrics against a slow reference, a worked example, and what they must not depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from object2vec.evaluation import ranking
from object2vec.evaluation.ranking import RankingTask, rank

NONE = np.empty(0, np.int64)


def indices(*pairs: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    return left, right


def test_a_worked_example() -> None:
    """Candidate 0 is seen. Of 1 to 4 in the order 4, 2, 1, 3, the relevant ones 2 and 3 have ranks 2 and 4."""
    scores = np.array([9.0, 3.0, 5.0, 1.0, 7.0])
    task = RankingTask(relevant=indices((0, 2), (0, 3)), seen=indices((0, 0)), candidates=5)
    found = rank(lambda _, right: scores[right], task, top=(1, 2, 3, 10))
    assert found.queries == 1
    assert found.hits == {1: 0, 2: 1, 3: 1, 10: 1}
    assert found.recall == {1: 0, 2: 0.5, 3: 0.5, 10: 1}
    ideal = 1 + 1 / math.log2(3)
    assert found.ndcg == pytest.approx(
        {
            1: 0,
            2: 1 / math.log2(3) / ideal,
            3: 1 / math.log2(3) / ideal,
            10: (1 / math.log2(3) + 1 / math.log2(5)) / ideal,
        }
    )
    assert (found.mrr, found.mean_rank, found.auc) == (0.5, 3, 0.25)


@given(seed=st.integers(0, 2**32))
def test_metrics_equal_a_loop_over_queries_with_scikit_learn(seed: int) -> None:
    from sklearn.metrics import ndcg_score, roc_auc_score  # takes long to import

    generator = np.random.default_rng(seed)
    queries, candidates = 5, 12
    scores = generator.permutation(queries * candidates).reshape(queries, candidates).astype(np.float64)
    kind = generator.integers(3, size=(queries, candidates))  # 0 is another candidate, 1 relevant, 2 seen
    kind[:, 0] = 1
    task = RankingTask(relevant=np.nonzero(kind == 1), seen=np.nonzero(kind == 2), candidates=candidates)
    found = rank(lambda left, right: scores[left, right], task, top=(3,))
    expected = []
    for query in range(queries):
        left = kind[query] != 2
        own, truth = scores[query][left], kind[query][left]
        ranks = 1 + (own[:, None] < own).sum(axis=1)[truth == 1]
        area = roc_auc_score(truth, own) if 0 in truth else 0.5
        ndcg = ndcg_score([truth], [own], k=3) if len(own) > 1 else 1.0
        expected.append([ndcg, (ranks <= 3).mean(), 1 / ranks.min(), ranks.mean(), area])
    mean = np.mean(expected, axis=0)
    assert [found.ndcg[3], found.recall[3], found.mrr, found.mean_rank, found.auc] == pytest.approx(mean.tolist())


def test_seen_candidates_are_removed_and_relevant_ones_are_not() -> None:
    scores = np.array([3.0, 2.0, 1.0])
    task = RankingTask(relevant=indices((0, 2)), seen=indices((0, 0), (0, 1), (0, 2), (1, 2)), candidates=3)
    assert rank(lambda _, right: scores[right], task).mean_rank == 1


def test_ties_have_the_rank_of_chance() -> None:
    """A constant score ranks the relevant one of 101 candidates in the middle on average."""
    task = RankingTask(relevant=indices(*((query, 0) for query in range(500))), seen=(NONE, NONE), candidates=101)
    assert rank(lambda left, _: np.zeros(len(left)), task).mean_rank == pytest.approx(51, abs=4)


def test_sampled_candidates_are_the_relevant_ones_and_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """No seen candidate is drawn, and blocks do not change which pairs are asked for."""
    asked: list[tuple[int, int]] = []

    def score(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        asked.extend(zip(left.tolist(), right.tolist(), strict=True))
        return -right.astype(np.float64)

    relevant, seen = indices((0, 50), (0, 51), (3, 52)), indices(*((0, c) for c in range(50)))
    task = RankingTask(relevant=relevant, seen=seen, candidates=1000, sampled=20)
    monkeypatch.setattr(ranking, "BLOCK_PAIRS", 1)
    found = rank(score, task)
    assert {(0, 50), (0, 51), (3, 52)} <= set(asked)
    assert len(asked) == (2 + 20) + (1 + 20)
    assert found.queries == 2
    assert found.auc > 0.9  # the relevant ones are among the first 53 of 1,000
    assert rank(score, task) == found


def test_sampled_metrics_are_near_those_of_all_candidates() -> None:
    generator = np.random.default_rng(1)
    scores = generator.random((200, 300))
    relevant = np.arange(200), generator.integers(300, size=200)
    scores[relevant] += 0.3
    seen = np.nonzero(generator.random((200, 300)) < 0.1)

    def auc(sampled: int | None) -> float:
        task = RankingTask(relevant=relevant, seen=seen, candidates=300, sampled=sampled)
        return rank(lambda left, right: scores[left, right], task).auc

    assert auc(100) == pytest.approx(auc(None), abs=0.01)


def test_a_query_that_has_seen_nearly_everything_has_fewer_sampled_candidates() -> None:
    task = RankingTask(relevant=indices((0, 3)), seen=indices((0, 0), (0, 1), (0, 2)), candidates=4, sampled=5)
    found = rank(lambda _, right: right.astype(np.float64), task)
    assert (found.mean_rank, found.auc) == (1, 0.5)


def test_no_queries_give_nan() -> None:
    found = rank(lambda left, _: left, RankingTask(relevant=(NONE, NONE), seen=(NONE, NONE), candidates=3))
    assert found.queries == 0
    assert math.isnan(found.mrr)


def test_metrics_are_named_with_their_k() -> None:
    task = RankingTask(relevant=indices((0, 0)), seen=(NONE, NONE), candidates=1)
    assert list(rank(lambda left, _: left, task, top=(1,)).metrics()) == [
        *("hits@1", "recall@1", "ndcg@1", "mrr", "mean_rank", "auc")
    ]
