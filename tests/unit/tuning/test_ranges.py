"""Ranges: the default ones, those of a file, and those of a tuning job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from object2vec.errors import UserError
from object2vec.hyperparameters import TABLE, parse
from object2vec.hyperparameters.kinds import Choice, Integer, Real
from object2vec.hyperparameters.recipes import RECIPES
from object2vec.sagemaker.specification import ranges as documented_ranges
from object2vec.tuning.ranges import Range, default_ranges, paired, read_ranges, to_sagemaker

SIZES = {f"enc{side}_{name}": 9 for side in (0, 1) for name in ("max_seq_len", "vocab_size")}


def read(tmp_path: Path, document: Any, values: dict[str, object] = SIZES) -> list[Range]:
    path = tmp_path / "ranges.json"
    path.write_text(json.dumps(document))
    return read_ranges(path, values)


@pytest.mark.parametrize("recipe", RECIPES)
def test_default_ranges_contain_the_recipe_and_are_in_the_table(recipe: str) -> None:
    values = {"recipe": recipe, **SIZES}
    configured = parse(values).hyperparameters.to_dict()
    ranges = default_ranges(values)
    assert {"learning_rate", "enc0_token_embedding_dim", "dropout"} <= {r.name for r in ranges}
    assert ("mini_batch_size" in {r.name for r in ranges}) == (configured["ranking_loss"] == "none")
    for each in ranges:
        each.kind.parse(str(configured[each.row]))
        if isinstance(each.kind, Integer | Real):
            for end in (each.kind.low, each.kind.high):
                TABLE[each.row].tunable.parse(str(end))  # type: ignore[union-attr]


def test_default_ranges_follow_the_network() -> None:
    """A pooled network has no enc_dim, a head without layers no mlp_dim, and a weight decay of 0 no range."""
    names = {each.name for each in default_ranges(SIZES)}
    assert {"enc_dim", "mlp_dim", "mlp_layers", "mlp_activation"} <= names
    assert "weight_decay" not in names
    names = {each.name for each in default_ranges({"recipe": "ratings", **SIZES})}
    assert "weight_decay" in names
    assert not {"enc_dim", "mlp_dim", "mlp_layers", "mlp_activation"} & names
    assert "enc_dim" in {
        each.name for each in default_ranges({"recipe": "ratings", "pooled_projection": "tanh", **SIZES})
    }
    mixed = {"enc0_network": "pooled_embedding", "enc1_network": "hcnn", "enc_dim": 300, **SIZES}
    assert not {"enc_dim", "enc0_token_embedding_dim"} & {each.name for each in default_ranges(mixed)}


def test_encoders_counted_from_one() -> None:
    """Names are those of the configuration."""
    values = {name.replace("enc1", "enc2").replace("enc0", "enc1"): value for name, value in SIZES.items()}
    ranges = default_ranges({**values, "enc1_network": "pooled_embedding"})
    assert {each.name: each.row for each in ranges}["enc1_token_embedding_dim"] == "enc0_token_embedding_dim"
    drawn = paired({"enc1_token_embedding_dim": 7}, ranges, values)
    assert drawn == {"enc1_token_embedding_dim": 7, "enc2_token_embedding_dim": 7}


def test_equal_dimensions_stay_equal() -> None:
    """A drawn dimension sets the other one, unless it was another one or has its own range."""
    dim = Range(name="enc0_token_embedding_dim", row="enc0_token_embedding_dim", kind=Integer(2, 9))
    own = Range(name="enc1_token_embedding_dim", row="enc1_token_embedding_dim", kind=Integer(2, 9))
    recipe = {"recipe": "ratings", **SIZES}
    both = {"enc0_token_embedding_dim": 3, "enc1_token_embedding_dim": 3}
    assert paired({"enc0_token_embedding_dim": 3}, [dim], recipe) == both
    assert paired({**both, "enc1_token_embedding_dim": 4}, [dim, own], recipe)["enc1_token_embedding_dim"] == 4
    unequal = {"enc1_network": "hcnn", "enc1_token_embedding_dim": 8, **SIZES}
    assert paired({"enc0_token_embedding_dim": 3}, [dim], unequal) == {"enc0_token_embedding_dim": 3}


def test_ranking_loss_keeps_the_size_of_a_batch() -> None:
    """Its loss depends on the number of candidates, so trials with other sizes could not be compared."""
    ranking = {"ranking_loss": "in_batch_softmax", "output_layer": "mean_squared_error", "mlp_layers": 0}
    names = {each.name for each in default_ranges({**SIZES, **ranking, "comparator_list": "hadamard"})}
    assert names == {each.name for each in default_ranges({**SIZES, "mlp_layers": 0})} - {"mini_batch_size"}


def test_documented_ranges_are_read(tmp_path: Path) -> None:
    """All of `describe ranges` are read, and wide ones are logarithmic."""
    ranges = {each.name: each for each in read(tmp_path, documented_ranges())}
    follows = "enc1_token_embedding_dim"
    assert ranges.keys() | {follows} == {name for name, row in TABLE.items() if row.tunable}
    assert follows not in ranges
    unequal = {**SIZES, "enc1_network": "hcnn", follows: 8}
    assert follows in {each.name for each in read(tmp_path, documented_ranges(), unequal)}
    assert ranges["learning_rate"] == Range(name="learning_rate", row="learning_rate", kind=Real(1e-6, 1), log=True)
    assert ranges["mini_batch_size"].log
    assert ranges["dropout"] == Range(name="dropout", row="dropout", kind=Real(0, 1))
    assert ranges["enc0_layers"].kind == Choice(("1", "2", "3", "4"))


def test_ranges_of_a_tuning_job_are_read_back(tmp_path: Path) -> None:
    ranges = default_ranges(SIZES)
    written = {"ParameterRanges": to_sagemaker(ranges, SIZES), "Strategy": "Bayesian"}
    assert {each.name: each for each in read(tmp_path, written)} == {each.name: each for each in ranges}


def test_a_tuning_job_has_no_dimensions_that_must_be_equal() -> None:
    values = {"recipe": "ratings", **SIZES}
    names = [each["Name"] for each in to_sagemaker(default_ranges(values), values)["IntegerParameterRanges"]]
    assert names == ["mini_batch_size"]


RATE = {"Name": "learning_rate", "MinValue": "0.1", "MaxValue": "0.2"}


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({}, "no ranges, wanted ranges as `object2vec describe ranges` prints them"),
        ({"IntegerParameterRanges": 3}, "IntegerParameterRanges is no list of objects, wanted"),
        ({"ParameterRanges": []}, "IntegerParameterRanges is no list of objects, wanted"),
        ({"ContinuousParameterRanges": [RATE, RATE]}, "there are two ranges of learning_rate, wanted one"),
        (
            {"ContinuousParameterRanges": [RATE | {"Name": "lerning_rate"}]},
            "lerning_rate is no hyperparameter, the nearest is learning_rate; wanted",
        ),
        (
            {"ContinuousParameterRanges": [RATE | {"MaxValue": "2"}]},
            "the range of learning_rate is not valid, wanted for ContinuousParameterRanges MinValue and MaxValue, each",
        ),
        ({"ContinuousParameterRanges": [RATE | {"MinValue": "0.3"}]}, "the range of learning_rate is not valid"),
        ({"ContinuousParameterRanges": [{"Name": "learning_rate"}]}, "the range of learning_rate is not valid"),
        ({"IntegerParameterRanges": [RATE]}, "the range of learning_rate is not valid"),
        ({"ContinuousParameterRanges": [RATE | {"Name": "epochs"}]}, "the range of epochs is not valid"),
        (
            {
                "ContinuousParameterRanges": [
                    {"Name": "dropout", "MinValue": "0", "MaxValue": "1", "ScalingType": "Logarithmic"}
                ]
            },
            "the range of dropout is not valid",
        ),
        ({"CategoricalParameterRanges": [{"Name": "optimizer", "Values": []}]}, "the range of optimizer is not valid"),
        (
            {"CategoricalParameterRanges": [{"Name": "optimizer", "Values": ["adam", "lion"]}]},
            "the range of optimizer is not valid, wanted for CategoricalParameterRanges Values, each one of adagrad",
        ),
    ],
)
def test_bad_ranges_are_named(document: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        read(tmp_path, document)
    assert f"ranges.json: {sentence}" in str(raised.value)
