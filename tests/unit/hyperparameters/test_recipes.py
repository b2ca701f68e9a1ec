"""Recipes: named settings that values given by the user override."""

from __future__ import annotations

import pytest

from object2vec.cli import main
from object2vec.errors import HyperparameterError
from object2vec.hyperparameters import parse, with_recipe
from object2vec.hyperparameters.recipes import RECIPES, Recipe

SIZES = {f"enc{side}_{name}": "9" for side in (0, 1) for name in ("max_seq_len", "vocab_size")}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_its_values(name: str) -> None:
    found = parse({**SIZES, "recipe": name}).hyperparameters.to_dict()
    plain = parse({**SIZES, **RECIPES[name].values}).hyperparameters.to_dict()
    assert found == plain | {"recipe": name}


def test_given_values_take_precedence() -> None:
    found = parse({**SIZES, "recipe": "ratings", "epochs": "3", "dropout": ""}).hyperparameters
    assert (found.epochs, found.dropout, found.optimizer) == (3, 0.3, "adagrad")


def test_a_saved_configuration_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if a value of it is the choice none, where the recipe has another."""
    values = {**RECIPES["implicit"].values, "pooled_projection": "tanh"}
    monkeypatch.setitem(RECIPES, "implicit", Recipe("", values))  # type: ignore[misc]
    assert parse({**SIZES, "recipe": "implicit"}).hyperparameters.pooled_projection == "tanh"
    found = parse({**SIZES, "recipe": "implicit", "epochs": 3, "pooled_projection": "none"}).hyperparameters
    assert found.pooled_projection == "none"
    assert parse(found.to_dict()).hyperparameters == found


def test_encoders_counted_from_one() -> None:
    given = {
        "enc1_max_seq_len": 9,
        "enc1_vocab_size": 9,
        "enc2_max_seq_len": 9,
        "enc2_vocab_size": 9,
        "recipe": "implicit",
    }
    assert with_recipe(given)["enc2_token_embedding_dim"] == "128"
    assert parse(given).hyperparameters.encoders[1].token_embedding_dim == 128


@pytest.mark.parametrize("given", [{}, {"recipe": ""}, {"recipe": "none"}, {"recipe": None}])
def test_no_recipe(given: dict[str, object]) -> None:
    assert parse(SIZES | given).hyperparameters == parse(SIZES).hyperparameters


def test_unknown_recipe() -> None:
    with pytest.raises(HyperparameterError, match="recipe: got 'rating', wanted one of ratings, implicit"):
        parse({**SIZES, "recipe": "rating"})


def test_describe_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "recipes"]) == 0
    printed = capsys.readouterr().out
    for name, recipe in RECIPES.items():
        assert f"{name}: {recipe.when}\n" in printed
