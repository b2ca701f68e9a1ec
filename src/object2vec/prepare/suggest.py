"""Hyperparameters that fit a data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from object2vec.hyperparameters.recipes import RECIPES
from object2vec.prepare.dataset import Dataset
from object2vec.prepare.report import Statistics
from object2vec.schema.columns import List, Text, Token
from object2vec.schema.label import CLASS_KINDS
from object2vec.schema.schema import Schema

#: Steps that an epoch has at least, where batches of `MIN_BATCH_SIZE` allow it.
MIN_STEPS: Final = 20
MIN_BATCH_SIZE: Final = 16
#: Steps from which small batches become larger, up to `MAX_BATCH_SIZE`: an epoch of a text model then takes less time.
MAX_STEPS: Final = 500
MAX_BATCH_SIZE: Final = 512
#: Ids of both sides from which a step updates only the rows in its batch; it would take seconds for millions of rows.
LARGE_VOCABULARY: Final = 100_000


def suggest_recipe(schema: Schema) -> str:
    """Return the recipe for the columns and the label of a schema."""
    first, second = (side.columns for side in schema.sides)
    if schema.label is None and all(isinstance(column, List) for column in first):
        return "history"
    if schema.label is None and schema.tied:
        return "item2vec"
    if schema.label is None:
        return "implicit" if any(isinstance(column, Token) for column in second) else "cold-start"
    if schema.label.kind == "number":
        return "sentence-similarity" if schema.tied else "ratings"
    if schema.tied:
        return "entailment"
    if not second or any(isinstance(column, Text) for column in (*first, *second)):
        return "text-classification"
    return "ratings"


def has_one_side(schema: Schema, recipe: str, base: Mapping[str, object] | None = None) -> bool:
    """Return whether channels have no in1, which needs a label; `recipe` and `base` as in `suggest_hyperparameters`."""
    if schema.sides[1].columns or schema.label is None or schema.tied:
        return False
    if base:
        return base["enc1_network"] == "none"
    return "negative_sampling_rate" not in RECIPES[recipe or suggest_recipe(schema)].values


def suggest_hyperparameters(
    dataset: Dataset, statistics: Statistics, *, recipe: str = "", base: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Return the hyperparameters that the data decides.

    A recipe sets the others, or `base`, the hyperparameters of a model that is trained further.
    """
    schema = dataset.schema
    values = dict(base or {"recipe": recipe or suggest_recipe(schema)})
    one_sided = has_one_side(schema, recipe, base)
    for side in (0,) if one_sided else (0, 1):
        longest = max(len(split.lengths[side]) - 1 for split in statistics.splits.values())
        values[f"enc{side}_max_seq_len"] = str(max(1, longest))
        values[f"enc{side}_vocab_size"] = str(schema.sides[side].vocabulary.size)
    if base:
        return values
    if one_sided:
        values["enc1_network"] = "none"
    if schema.label and schema.label.kind in CLASS_KINDS:
        values["output_layer"] = "sigmoid" if schema.label.is_set else "softmax"
        values["num_classes"] = str(max(2, len(schema.label.classes)))
    elif schema.label:
        values["output_layer"] = "mean_squared_error"
    if schema.tied:
        values["tied_token_embedding_weight"] = "True"
    settings = RECIPES[str(values["recipe"])].values
    pairs = statistics.splits["train"].rows * (1 + int(settings.get("negative_sampling_rate", "0")))
    given = int(settings["mini_batch_size"])
    batch_size = max(given, min(MAX_BATCH_SIZE, pairs // MAX_STEPS))
    batch_size = min(batch_size, max(MIN_BATCH_SIZE, pairs // MIN_STEPS))
    if batch_size != given:
        values["mini_batch_size"] = str(batch_size)
    if sum({id(side.vocabulary): side.vocabulary.size for side in schema.sides}.values()) > LARGE_VOCABULARY:
        values["token_embedding_storage_type"] = "row_sparse"
        if "ema_decay" in settings:  # it would average all rows at each step
            values["ema_decay"] = "0"
    return values
