"""What the platform is told of the algorithm, checked against the platform's own model of its requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.model import ListShape, ServiceModel, Shape, StringShape, StructureShape
from botocore.validate import ParamValidator

from object2vec import cli
from object2vec.hyperparameters import TABLE, parse
from object2vec.hyperparameters.recipes import RECIPES
from object2vec.hyperparameters.table import RANKING_METRICS
from object2vec.sagemaker import specification
from object2vec.training.job import Job, run
from small import SMALL, write_pairs

#: Classes of Unicode that Python's expressions do not have, as far as they stand in the model.
ANYTHING = r"[\p{L}\p{M}\p{Z}\p{S}\p{N}\p{P}]*"


@pytest.fixture(scope="module")
def sagemaker() -> ServiceModel:
    return botocore.session.get_session().get_service_model("sagemaker")


def faults(value: Any, shape: Shape, where: str = "") -> Iterator[str]:
    """What botocore leaves to the service: values that are none of an enumeration, too long, or not of the pattern."""
    limit = shape.metadata.get("max")
    if isinstance(shape, StructureShape):
        for name, part in value.items():
            yield from faults(part, shape.members[name], f"{where}.{name}")
    elif isinstance(shape, ListShape):
        for number, part in enumerate(value):
            yield from faults(part, shape.member, f"{where}[{number}]")
    elif isinstance(shape, StringShape):
        pattern = shape.metadata.get("pattern", "")
        pattern = r"[^\x00-\x1f]*" if pattern == ANYTHING else pattern
        if pattern and not re.fullmatch(pattern, value):
            yield f"{where}: {value} is not of {pattern}"
        if shape.enum and value not in shape.enum:
            yield f"{where}: {value} is none of {shape.enum}"
    if limit is not None and not isinstance(value, int) and len(value) > limit:
        yield f"{where}: longer than {limit}"


def check(value: Any, shape: Shape) -> None:
    assert ParamValidator().validate(value, shape).generate_report() == ""
    assert list(faults(value, shape)) == []


def test_the_algorithm_can_be_created(sagemaker: ServiceModel) -> None:
    """The request is one that the service takes, and has every hyperparameter of the table."""
    shape = sagemaker.operation_model("CreateAlgorithm").input_shape
    assert shape
    request = specification.algorithm()
    check(request, shape)
    described = {each["Name"]: each for each in request["TrainingSpecification"]["SupportedHyperParameters"]}
    assert list(described) == list(TABLE)
    assert [name for name, each in described.items() if each["IsRequired"]] == ["enc0_max_seq_len", "enc0_vocab_size"]
    for name, each in described.items():
        for value in [each["DefaultValue"]] if "DefaultValue" in each else []:
            TABLE[name].kind.parse(value)


def test_the_check_sees_faults(sagemaker: ServiceModel) -> None:
    """The check above finds a name with a space, an unknown kind of machine, and text that is too long."""
    shape = sagemaker.operation_model("CreateAlgorithm").input_shape
    assert shape
    request = specification.algorithm("x" * 256) | {"AlgorithmName": "object 2 vec"}
    request["TrainingSpecification"] = request["TrainingSpecification"] | {"SupportedTrainingInstanceTypes": ["ml.x"]}
    assert len(list(faults(request, shape))) == 4


def test_every_value_of_a_range_is_valid(sagemaker: ServiceModel) -> None:
    """The ranges are those of the table: what is in them can be parsed, and the service takes them."""
    ranges = specification.ranges()
    check(ranges, sagemaker.shape_for("ParameterRanges"))
    names = [each["Name"] for kind in ranges.values() for each in kind]
    assert sorted(names) == sorted(name for name, row in TABLE.items() if row.tunable)
    for kind in ranges.values():
        for each in kind:
            for value in each.get("Values") or [each["MinValue"], each["MaxValue"]]:
                TABLE[each["Name"]].kind.parse(value)
    learning_rate = {"Name": "learning_rate", "MinValue": "1e-06", "MaxValue": "1"}
    assert learning_rate in ranges["ContinuousParameterRanges"]
    assert {"Name": "enc0_layers", "Values": ["1", "2", "3", "4"]} in ranges["CategoricalParameterRanges"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_service_takes_the_configuration_of_a_tuning_job(
    sagemaker: ServiceModel, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`tune --print-sagemaker` prints it for each recipe, with a metric that the job's log has."""
    assert cli.main(["tune", "--print-sagemaker", "--recipe", recipe, "--trials", "7", "--minutes", "1"]) == 0
    config = json.loads(capsys.readouterr().out)
    check(config, sagemaker.shape_for("HyperParameterTuningJobConfig"))
    objectives = specification.algorithm()["TrainingSpecification"]["SupportedTuningJobObjectiveMetrics"]
    assert config["HyperParameterTuningJobObjective"] in objectives
    limits = {"MaxNumberOfTrainingJobs": 7, "MaxParallelTrainingJobs": 1, "MaxRuntimeInSeconds": 120}
    assert config["ResourceLimits"] == limits


@pytest.mark.parametrize("output", ["softmax", "mean_squared_error"])
@pytest.mark.parametrize("stopping", ["loss", *RANKING_METRICS])
def test_every_metric_is_found_in_a_log(
    tmp_path: Any, caplog: pytest.LogCaptureFixture, output: str, stopping: str
) -> None:
    """Each metric that the job has is found where the log has it, by its own expression and by no other."""
    rows = [([n % 8], [(n + 1) % 8], n % 2) for n in range(12)]
    channels = {name: write_pairs(tmp_path / name, rows) for name in ("train", "validation", "test")}
    caplog.set_level("INFO", "object2vec")
    run(
        Job(
            configuration=parse(SMALL | {"epochs": 1, "output_layer": output, "early_stopping_metric": stopping}),
            channels=channels,
            model_dir=tmp_path / "m",
        )
    )
    found = {each["Name"]: re.findall(each["Regex"], caplog.text) for each in specification.metrics()}
    absent = {"softmax": {"mean_squared_error"}, "mean_squared_error": {"cross_entropy", "accuracy"}}[output]
    absent |= {*RANKING_METRICS} - {stopping}
    for name, values in found.items():
        assert len(values) == (name.partition(":")[2] not in absent)
        assert all(float(value) >= 0 for value in values)


def test_the_command_prints_each(capsys: pytest.CaptureFixture[str]) -> None:
    """`object2vec describe` prints what the functions say, with the image that it is given."""
    for what, expected in {
        "algorithm": specification.algorithm("a/b:1"),
        "metrics": specification.metrics(),
        "ranges": specification.ranges(),
    }.items():
        assert cli.main(["describe", what, "--image", "a/b:1"]) == 0
        assert json.loads(capsys.readouterr().out) == expected
