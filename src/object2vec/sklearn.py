"""Estimators for scikit-learn's cross-validation, searches and pipelines. X is a table, such as a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from object2vec.api import Columns, fit
from object2vec.array_types import Float32
from object2vec.extras import import_extra
from object2vec.schema.tables import to_columns

base: Any = import_extra("sklearn.base", "sklearn")
check_is_fitted = import_extra("sklearn.utils.validation", "sklearn").check_is_fitted


class _Estimator(base.BaseEstimator):  # type: ignore[misc]
    """`in0` and `in1` name columns of X; `settings` are further arguments of `object2vec.fit`."""

    def __init__(self, in0: Columns, in1: Columns = (), settings: Mapping[str, Any] | None = None) -> None:
        self.in0, self.in1, self.settings = in0, in1, settings

    def _fit(self, X: Any, y: Any, kind: str) -> Self:
        columns, label = to_columns(X), "y"
        while label in columns:
            label += "_"
        settings = {"log": "quiet"} | dict(self.settings or {})
        self.model_ = fit({**columns, label: y}, self.in0, self.in1, f"{label}:{kind}", **settings)
        return self


class Object2VecRegressor(base.RegressorMixin, _Estimator):  # type: ignore[misc]
    def fit(self, X: Any, y: Any) -> Self:
        return self._fit(X, y, "number")

    def predict(self, X: Any) -> Float32:
        check_is_fitted(self)
        return self.model_.score(X)[:, 0]


class Object2VecClassifier(base.ClassifierMixin, _Estimator):  # type: ignore[misc]
    def fit(self, X: Any, y: Any) -> Self:
        self.classes_, codes = np.unique(y, return_inverse=True)
        return self._fit(X, codes, "class")

    def predict_proba(self, X: Any) -> Float32:
        check_is_fitted(self)
        return self.model_.score(X)[:, : len(self.classes_)]

    def predict(self, X: Any) -> Any:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
