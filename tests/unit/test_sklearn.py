"""Estimators in scikit-learn's own tools."""

from __future__ import annotations

import importlib
import pickle
import sys
from typing import Any

import numpy as np
import pytest

import object2vec
from object2vec.errors import UserError

pd = pytest.importorskip("pandas")
X = pd.DataFrame([(f"u{user}", f"f{item}") for user in range(1, 9) for item in range(1, 9)], columns=["user", "y"])
LIKES = np.array([user % 2 == item % 2 for user in range(1, 9) for item in range(1, 9)])
SETTINGS = {"recipe": "ratings", "dropout": 0, "ema_decay": 0, "epochs": 15, "mini_batch_size": 16, "split": "none"}


@pytest.fixture(scope="module")
def ours() -> Any:
    """Return the module of the estimators. scikit-learn takes long to import."""
    pytest.importorskip("sklearn")
    return importlib.import_module("object2vec.sklearn")


def test_missing_scikit_learn_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ["sklearn", *(name for name in sys.modules if name.startswith("sklearn."))]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "object2vec.sklearn", raising=False)
    with pytest.raises(UserError, match=r"sklearn, which is not installed: pip install 'object2vec\[sklearn\]'$"):
        importlib.import_module("object2vec.sklearn")


def test_a_regressor_gives_the_scores_of_fit(ours: Any) -> None:
    found = ours.Object2VecRegressor("user", "y", SETTINGS).fit(X, LIKES * 4.0)
    wanted = object2vec.fit(X.assign(stars=LIKES * 4.0), "user", "y", "stars", log="quiet", **SETTINGS)
    np.testing.assert_array_equal(found.predict(X), wanted.score(X)[:, 0])
    assert found.score(X, LIKES * 4.0) > 0.5
    copy = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(copy.predict(X), found.predict(X))


def test_a_classifier_predicts_the_classes_of_y(ours: Any) -> None:
    names = np.where(LIKES, "yes", "no")
    found = ours.Object2VecClassifier("user", "y", SETTINGS | {"recipe": "text-classification"}).fit(X, names)
    assert found.score(X, names) == np.mean(found.predict(X) == names)
    assert set(found.predict(X)) <= {"yes", "no"}
    np.testing.assert_allclose(found.predict_proba(X).sum(axis=1), 1, rtol=1e-5)


def test_cross_validation_and_searches_take_estimators(ours: Any) -> None:
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV, cross_val_score

    estimator = ours.Object2VecRegressor("user", "y", SETTINGS)
    assert clone(estimator).get_params() == {"in0": "user", "in1": "y", "settings": SETTINGS}
    assert cross_val_score(estimator, X, LIKES * 4.0, cv=2, error_score="raise").shape == (2,)
    grid = {"settings": [SETTINGS | {"epochs": epochs} for epochs in (1, 9)]}
    found = GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(X, LIKES * 4.0)
    assert found.best_params_ in [{"settings": each} for each in grid["settings"]]
