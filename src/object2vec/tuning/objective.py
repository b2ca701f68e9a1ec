"""Objectives of a search: the epoch metrics that SageMaker's tuner knows, and the metrics of `evaluate`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from object2vec.errors import UserError, shortened
from object2vec.evaluation.evaluation import MODEL, Evaluation
from object2vec.evaluation.ranking import TOP
from object2vec.hyperparameters import Hyperparameters
from object2vec.tuning.ranges import Range

CHANNEL: Final = "validation"
#: Metrics of an epoch by output layer; the first is the loss, which decides the best epoch.
EPOCH_METRICS: Final = {True: ("mean_squared_error",), False: ("cross_entropy", "accuracy")}
#: Metrics of `evaluate` by output layer, without those of rankings.
EVALUATION_METRICS: Final = {
    True: ("rmse", "mae", "pearson", "spearman"),
    False: ("accuracy", "macro_f1", "micro_f1", "auc", "log_loss", "calibration_error"),
}
RANKING_METRICS: Final = (
    *(f"{name}@{k}" for name in ("hits", "recall", "ndcg") for k in TOP),
    "mrr",
    "mean_rank",
    "auc",
)
LOWER_IS_BETTER: Final = (
    *("mean_squared_error", "cross_entropy", "log_loss", "calibration_error"),
    *("rmse", "mae", "mean_rank"),
)
#: Hyperparameters that decide on which pairs and labels an epoch is validated: such metrics cannot be compared.
CHANGE_VALIDATION: Final = (
    *("negative_sampling_rate", "negative_sampling_distribution", "validation_negative_sampling"),
    *("output_layer", "recipe", "seed", "ranking_loss", "sampled_candidates", "temperature", "log_q_correction"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A metric of the validation pairs: of the best epoch with `of_epochs`, otherwise of `evaluate`."""

    metric: str
    of_epochs: bool

    @property
    def name(self) -> str:
        return f"{CHANNEL}:{self.metric}" if self.of_epochs else self.metric

    @property
    def minimize(self) -> bool:
        return self.metric in LOWER_IS_BETTER

    def check_ranges(self, ranges: Iterable[Range]) -> None:
        """Check that trials can be compared.

        Raises:
            UserError: a range changes the pairs that an epoch is validated on.
        """
        for each in ranges:
            if self.of_epochs and each.row in CHANGE_VALIDATION:
                what = f"{each.name} changes what {self.name} is measured on, so trials cannot be compared"
                raise UserError(f"{what}; wanted a metric of evaluate, such as ndcg@10, or no range of it")

    def of_best_epoch(self, history: Sequence[Mapping[str, Any]], *, regression: bool, metric: str = "loss") -> float:
        """Return the value of the epoch that training keeps: the first best one by its `early_stopping_metric`."""
        best = min(history, key=lambda record: _cost(record, metric, regression=regression))
        return float(best[CHANNEL][self.metric])

    def of_epoch(self, record: Mapping[str, Any], *, regression: bool, metric: str = "loss") -> float:
        """Return how good one epoch is, in the direction of the objective, to compare it with other trials.

        That is the objective itself. For a metric of `evaluate`, it is the `early_stopping_metric`.
        """
        if self.of_epochs:
            return float(record[CHANNEL][self.metric])
        cost = _cost(record, metric, regression=regression)
        return cost if self.minimize else -cost

    def of_evaluation(self, found: Evaluation) -> float:
        """Return the metric of an evaluation; a name of both tables is that of the first.

        Raises:
            UserError: it is not defined for these pairs.
        """
        tables = [found.metrics[MODEL], *(ranking.metrics() for ranking in list(found.rankings.values())[:1])]
        for values in tables:
            if math.isfinite(value := values.get(self.metric, math.nan)):
                return value
        why = "; stars and other numbers are ranked with --relevant" if found.regression and len(tables) == 1 else ""
        raise UserError(f"{self.metric} is not defined for the validation pairs, wanted another objective{why}")


def _cost(record: Mapping[str, Any], metric: str, *, regression: bool) -> float:
    """Return the validation loss of an epoch, or the negative of the metric that training stops by."""
    values = record[CHANNEL]
    return float(values[EPOCH_METRICS[regression][0]] if metric == "loss" else -values[metric])


def default_objective(hyperparameters: Hyperparameters, *, of_epochs: bool = False) -> Objective:
    """Return the metric that training stops by; NDCG@10 if it has negatives and a metric of `evaluate` will do."""
    drawn = hyperparameters.negative_sampling_rate or hyperparameters.ranks
    if drawn and hyperparameters.scores <= 2 and not of_epochs:
        return Objective(metric="ndcg@10", of_epochs=False)
    metric = hyperparameters.early_stopping_metric
    metric = EPOCH_METRICS[hyperparameters.squared_error][0] if metric == "loss" else metric
    return Objective(metric=metric, of_epochs=True)


def parse_objective(text: str, hyperparameters: Hyperparameters) -> Objective:
    """Return the objective of a name.

    Raises:
        UserError: there is no such metric, it is of another output layer, or of pairs that may not decide.
    """
    channel, colon, metric = text.partition(":")
    regression, ranks = hyperparameters.regression, hyperparameters.ranks
    names = _names(regression=regression, ranking=hyperparameters.scores <= 2, ranks=ranks)
    if hyperparameters.early_stopping_metric not in ("loss", "accuracy"):
        names.append(f"{CHANNEL}:{hyperparameters.early_stopping_metric}")
    others = _names(regression=not regression, ranking=True)
    if colon and channel == "test":
        raise UserError(f"--objective is {shortened(text)}: test pairs never choose a model, wanted {CHANNEL}:{metric}")
    if text in names:
        return Objective(metric=metric if colon else text, of_epochs=bool(colon))
    if text in others:
        layer = "mean_squared_error" if regression else "softmax"
        what = f"output_layer={layer} and num_classes={hyperparameters.num_classes}"
        raise UserError(f"--objective is {text}, wanted for {what} one of {', '.join(names)}")
    (nearest,) = difflib.get_close_matches(text, [*names, *others], n=1, cutoff=0.0)
    raise UserError(f"--objective is {shortened(text)}: no such metric, the nearest is {nearest}")


def _names(*, regression: bool, ranking: bool, ranks: bool = False) -> list[str]:
    of_epochs = [f"{CHANNEL}:{name}" for name in EPOCH_METRICS[regression and not ranks]]
    return list(dict.fromkeys([*of_epochs, *EVALUATION_METRICS[regression], *(RANKING_METRICS if ranking else ())]))
