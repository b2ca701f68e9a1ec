"""Descriptions of the algorithm for the platform, made from the table of hyperparameters and the log lines.

`algorithm` is a request to CreateAlgorithm, `metrics` are the MetricDefinitions of a training job, and `ranges` the
ParameterRanges of a tuning job. The names of metrics and objectives are the built-in's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from object2vec.data.channels import CHANNELS
from object2vec.data.media_types import JSON, JSON_LINES
from object2vec.hyperparameters import TABLE
from object2vec.hyperparameters.kinds import AutoInteger, Bool, Choice, Integer, Kind, Real
from object2vec.hyperparameters.table import RANKING_METRICS, REQUIRED, Row

#: An image's address; `--image` of the command says another one.
IMAGE: Final = "<account>.dkr.ecr.<region>.amazonaws.com/object2vec:cpu"
#: The log lines of a metric, by the prefix of its name.
PLACES: Final = {"train": r"epoch=\S+, train", "validation": r"epoch=\S+, validation", "test": "test"}
#: What a line calls each metric of a loss or a score, and which way is better.
QUALITY: Final = {
    "cross_entropy": ("cross_entropy <loss>", "Minimize"),
    "accuracy": ("accuracy <score>", "Maximize"),
    "mean_squared_error": ("mean_squared_error <loss>", "Minimize"),
}
#: Names of all metrics of losses and scores; rankings are measured for `early_stopping_metric` alone.
METRICS: Final = {
    **{(place, name): found for place in PLACES for name, found in QUALITY.items()},
    **{("validation", name): (f"{name} <score>", "Maximize") for name in RANKING_METRICS},
}
#: Content types of channels without JSON Lines. Their files need names, which a pipe does not have.
FILES: Final = {"auxiliary": ["text/plain", JSON], "model": ["application/x-sagemaker-model"]}
SIZES: Final = ("xlarge", "2xlarge", "4xlarge")
#: Types of ranges, which are parts of the names of their lists.
RANGE_TYPES: Final = ("Integer", "Continuous", "Categorical")
ParameterRanges = dict[str, list[dict[str, Any]]]
#: CUDA 13 supports no Volta GPU and nothing older: not ml.p2 (Kepler), not ml.p3 (Volta).
TRAINING_TYPES: Final = [f"ml.{family}.{size}" for family in ("m4", "m5", "c5", "g4dn", "g5") for size in SIZES]
SERVING_TYPES: Final = [f"ml.{family}.{size}" for family in ("m4", "m5", "c5", "g4dn") for size in SIZES]


def algorithm(image: str = IMAGE) -> dict[str, Any]:
    """Return a request to CreateAlgorithm, with `image` for training and serving."""
    return {
        "AlgorithmName": "object2vec",
        "AlgorithmDescription": "Embeddings of objects, learned from pairs of them.",
        "TrainingSpecification": {
            "TrainingImage": image,
            "SupportedHyperParameters": [_hyperparameter(row) for row in TABLE.values()],
            "SupportedTrainingInstanceTypes": TRAINING_TYPES,
            "SupportsDistributedTraining": True,
            "MetricDefinitions": metrics(),
            "TrainingChannels": [_channel(name) for name in CHANNELS],
            "SupportedTuningJobObjectiveMetrics": [
                {"Type": better, "MetricName": f"{place}:{name}"}
                for (place, name), (_, better) in METRICS.items()
                if place != "train"
            ],
        },
        "InferenceSpecification": {
            "Containers": [{"Image": image}],
            "SupportedTransformInstanceTypes": SERVING_TYPES,
            "SupportedRealtimeInferenceInstanceTypes": SERVING_TYPES,
            "SupportedContentTypes": [JSON_LINES, JSON],
            "SupportedResponseMIMETypes": [JSON_LINES, JSON],
        },
    }


def metrics() -> list[dict[str, str]]:
    """Return the MetricDefinitions: names, and patterns that find their values in the log."""
    quality = {
        f"{place}:{name}": rf"#quality_metric: host=\S+, {PLACES[place]} {text}=(\S+)"
        for (place, name), (text, _) in METRICS.items()
    }
    others = {
        "train:progress": r"#progress_metric: host=\S+, completed (\S+) %",
        "train:throughput": r"#throughput_metric: host=\S+, train throughput=(\S+) records/second",
    }
    return [{"Name": name, "Regex": regex} for name, regex in (quality | others).items()]


def ranges() -> ParameterRanges:
    """Return the ParameterRanges in which a tuning job should search. A job takes the ones that it tunes."""
    return parameter_ranges((row.name, row, row.tunable, False) for row in TABLE.values() if row.tunable)


def parameter_ranges(tuned: Iterable[tuple[str, Row, Integer | Real | Choice, bool]]) -> ParameterRanges:
    """Return ParameterRanges of names, their rows of the table, their values, and whether to search by magnitude."""
    found: ParameterRanges = {f"{name}ParameterRanges": [] for name in RANGE_TYPES}
    for name, row, kind, log in tuned:
        type_ = _type(row.kind)  # that of its values: one that may be auto is searched among names
        scaling = {"ScalingType": "Logarithmic"} if log else {}
        found[f"{type_}ParameterRanges"].append({"Name": name, **_bounds(kind, type_), **scaling})
    return found


def _hyperparameter(row: Row) -> dict[str, Any]:
    type_ = _type(row.kind)
    described: dict[str, Any] = {"Name": row.name, "Description": row.help, "Type": type_}
    if type_ != "FreeText":
        described["Range"] = {f"{type_}ParameterRangeSpecification": _bounds(row.kind, type_)}
    if row.default not in (None, "", REQUIRED):
        described["DefaultValue"] = row.default
    return described | {"IsTunable": row.tunable is not None, "IsRequired": row.default == REQUIRED}


def _type(kind: Kind) -> str:
    match kind:
        case Integer():
            return "Integer"
        case Real():
            return "Continuous"
    return "Categorical" if isinstance(kind, Choice | Bool | AutoInteger) else "FreeText"


def _bounds(kind: Kind, type_: str) -> dict[str, Any]:
    """Return a range in the platform's form: numbers are text."""
    match kind:
        case Integer(low, high) | Real(low, high) if type_ != "Categorical":
            return {"MinValue": f"{low:g}", "MaxValue": f"{high:.10g}"}
        case Integer(low, high):
            return {"Values": [str(value) for value in range(int(low), int(high) + 1)]}
        case AutoInteger(low, high):
            return {"Values": ["auto", *map(str, range(low, high + 1))]}
        case Bool():
            return {"Values": ["True", "False", "true", "false"]}  # clients write them in both ways
        case Choice(choices):
            return {"Values": list(choices)}
    raise TypeError(kind)


def _channel(name: str) -> dict[str, Any]:
    files = FILES.get(name)
    return {
        "Name": name,
        "Description": CHANNELS[name],
        "IsRequired": name == "train",
        "SupportedContentTypes": files or [JSON_LINES],
        "SupportedCompressionTypes": ["None"] if files else ["None", "Gzip"],
        "SupportedInputModes": ["File", "FastFile"] if files else ["File", "FastFile", "Pipe"],
    }
