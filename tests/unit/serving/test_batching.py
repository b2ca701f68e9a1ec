"""MicroBatcher: requests that wait share a pass, and none gets another's answer or another's fault."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from object2vec.serving import batching as module
from object2vec.serving.batching import MicroBatcher, _Pending
from object2vec.serving.forward import MAX_BATCH_ROWS
from object2vec.serving.instances import Answers, Column, Instances
from object2vec.serving.predictor import Predictor
from object2vec.serving.query import Query
from small import configured, network_of


def predictor(**changes: Any) -> Predictor:
    hyperparameters = configured(**changes)
    made = Predictor(network_of(hyperparameters), hyperparameters, directory=Path("nowhere"))
    made._token_scorer = None  # what is looked up waits for no turn
    return made


def asked(of: Predictor, *pairs: tuple[list[int] | None, list[int] | None], **settings: Any) -> Query:
    left, right = (Column.from_lists([pair[side] for pair in pairs]) for side in (0, 1))
    return of.prepare(Instances(columns=(left, right), label="instances[{}]", numbers=range(len(pairs))), **settings)


def shared(first: Query, *others: Query) -> tuple[Answers, list[Answers | None]]:
    """Return the answers to a query that runs the pass, and those that waiting queries got from it."""
    turns = MicroBatcher()
    waiting = [_Pending(query) for query in others]
    turns._waiting.extend(waiting)
    [answers] = turns.answer(first)
    return answers, [other.answers for other in waiting]


def same(one: Answers | None, other: Answers) -> None:
    assert one is not None
    assert one.count == other.count
    for own, wanted in zip((one.scores, *one.embeddings), (other.scores, *other.embeddings), strict=True):
        np.testing.assert_array_equal(own.rows, wanted.rows)
        np.testing.assert_allclose(own.values, wanted.values.reshape(own.values.shape), atol=1e-6)


@pytest.mark.parametrize("kind", ["pooled_embedding", "hcnn", "bilstm"])
def test_waiting_queries_share_a_pass(kind: str) -> None:
    """Each gets the answers that it would get alone: pairs, single sides and many instances."""
    model = predictor(network=kind)
    queries = [
        asked(model, ([1, 2], [3])),
        asked(model, (None, [3]), ([4], None), ([1, 2], [5])),
        asked(model, ([], [])),
        asked(model, *[([n % 9], [n % 7]) for n in range(50)]),
    ]
    first, others = shared(*queries)
    for answers, query in zip([first, *others], queries, strict=True):
        [alone] = MicroBatcher().answer(query)
        same(answers, alone)


def test_different_queries_do_not_share_a_pass() -> None:
    """A query waits if it has another model or mode, or more instances than fit."""
    model = predictor()
    full = asked(model, *[([1], [2])] * MAX_BATCH_ROWS)
    _, others = shared(
        asked(model, ([1], [2])), asked(predictor(), ([1], [2])), asked(model, ([1], [2]), mode="embedding"), full
    )
    assert others == [None, None, None]


def test_error_in_a_pass_is_raised_for_one_query() -> None:
    """The query that runs the pass gets the error; the others run on their own."""

    def fail(u: Any, v: Any) -> Any:
        raise ZeroDivisionError

    model = predictor()
    good, bad = asked(model, ([1], [2])), asked(model, ([1], [2]))
    turns, other = MicroBatcher(), _Pending(good)
    turns._waiting.append(other)
    model.network.score_encodings = fail  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        list(turns.answer(bad))
    assert other.answers is None
    assert list(turns._waiting) == [other]
    assert other.woken.acquire(blocking=False)  # its thread runs the next pass


def test_pass_waits_for_as_many_queries_as_the_last_one_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits at most a quarter of the last duration; a single query does not wait."""
    now, model, turns, come = [0.0], predictor(), MicroBatcher(), []

    def sleep(seconds: float) -> None:
        now[0] += seconds
        turns._waiting.extend(come and [come.pop()])

    monkeypatch.setattr(module, "sleep", sleep)
    monkeypatch.setattr(module, "perf_counter", lambda: now[0])

    def waited(others: int, took: float) -> float:
        """Return how long a request waits with so many others, after a pass that took `took` seconds."""
        turns._last_seconds, start = took, now[0]
        turns._waiting.extend(_Pending(asked(model, ([1], [2]))) for _ in range(others))
        list(turns.answer(asked(model, ([1], [2]))))
        return now[0] - start

    assert waited(0, took=0.008) == 0
    assert waited(2, took=0.008) == 0
    assert waited(2, took=0.008) == 0
    assert waited(1, took=0.008) == pytest.approx(0.002)
    assert waited(0, took=1.0) == pytest.approx(0.01)
    assert waited(0, took=0.008) == 0
    turns._last_requests = 3
    come[:] = [_Pending(asked(model, ([1], [2]))) for _ in range(2)]
    assert waited(0, took=1.0) == pytest.approx(2 * module.POLL_SECONDS)
    assert turns._last_requests == 3
    other = _Pending(asked(model, ([1], [2]), mode="embedding"))
    turns._waiting.append(other)
    assert waited(0, took=0.0) == 0
    assert turns._last_requests == 2


def test_concurrent_threads_get_their_own_answers() -> None:
    """Answers do not depend on the other queries of a pass."""
    model, turns = predictor(), MicroBatcher()
    queries = [asked(model, ([n % 8 + 1], [n // 8 + 1])) for n in range(64)]
    wanted = [next(MicroBatcher().answer(query)) for query in queries]

    def ask(query: Query) -> Answers:
        return next(turns.answer(query))

    with ThreadPoolExecutor(16) as pool:
        for _ in range(5):
            for answers, alone in zip(pool.map(ask, queries), wanted, strict=True):
                same(answers, alone)
    assert all(waiting.answers is not None for waiting in turns._waiting)
