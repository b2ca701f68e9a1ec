"""Recipes: named settings for a kind of data, as defaults of a training job.

The hyperparameter `recipe` names one. A value that is given takes precedence over the recipe's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

POOLED: Final = {"enc0_network": "pooled_embedding", "enc1_network": "pooled_embedding"}
#: Train for all epochs; the best epoch is kept.
ALL_EPOCHS: Final = {"early_stopping_patience": "5", "early_stopping_tolerance": "1e-06"}
#: The score is the product of the encodings. Weight decay limits it, and it learns how popular `in1` is.
RANKING: Final = {
    "output_layer": "mean_squared_error",
    "comparator_list": "hadamard",
    "mlp_layers": "0",
    "ranking_loss": "in_batch_softmax",
    "log_q_correction": "1",
    "sampled_candidates": "500",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """`when` says for which data it is; `values` are hyperparameters as a client would write them."""

    when: str
    values: Mapping[str, str]


def _dims(dim: int) -> dict[str, str]:
    return {f"enc{side}_token_embedding_dim": str(dim) for side in (0, 1)}


TEXT_PAIRS: Final = {
    **POOLED,
    **_dims(128),
    **ALL_EPOCHS,
    "tied_token_embedding_weight": "True",
    "mark_common_tokens": "True",
    "token_pooling": "sqrtn",
    "comparator_list": "hadamard, concat, abs_diff, cosine",
    "mlp_layers": "1",
    "mlp_dim": "64",
    "mlp_activation": "relu",
    "dropout": "0.3",
    "learning_rate": "0.01",
    "weight_decay": "0.0001",
    "mini_batch_size": "128",
    "ema_decay": "0.99",
}
RECIPES: Final[Mapping[str, Recipe]] = {
    "ratings": Recipe(
        "a user, an item and a number, such as stars",
        {
            **POOLED,
            **_dims(256),
            **ALL_EPOCHS,
            "output_layer": "mean_squared_error",
            "comparator_list": "hadamard, concat",
            "mlp_layers": "0",
            "optimizer": "adagrad",
            "learning_rate": "0.12",
            "weight_decay": "0.0002",
            "dropout": "0.3",
            "mini_batch_size": "512",
            "epochs": "15",
            "ema_decay": "0.999",
        },
    ),
    "implicit": Recipe(
        "pairs that belong together, such as purchases: ranks items for a user",
        {
            **POOLED,
            **_dims(128),
            **ALL_EPOCHS,
            **RANKING,
            "learning_rate": "0.02",
            "weight_decay": "0.0002",
            "in0_balance": "0.25",
            "mini_batch_size": "1024",
            "epochs": "12",
            "ema_decay": "0.99",
        },
    ),
    "cold-start": Recipe(
        "the same, with items described by features: ranks items that training never saw",
        {
            **POOLED,
            **_dims(128),
            **ALL_EPOCHS,
            "output_layer": "mean_squared_error",
            "comparator_list": "hadamard, concat",
            "mlp_layers": "0",
            "learning_rate": "0.005",
            "weight_decay": "0.000001",
            "dropout": "0.4",
            "token_dropout": "0.5",
            "negative_sampling_rate": "20",
            "validation_negative_sampling": "auto",
            "mini_batch_size": "8192",
            "epochs": "10",
            "ema_decay": "0.998",
        },
    ),
    "history": Recipe(
        "the same, with users described by their items: ranks items for new users",
        {
            **POOLED,
            **_dims(128),
            **ALL_EPOCHS,
            **RANKING,
            "token_pooling": "sqrtn",
            "token_dropout": "0.5",
            "learning_rate": "0.02",
            "weight_decay": "0.00015",
            "mini_batch_size": "2048",
            "epochs": "9",
            "ema_decay": "0.98",
        },
    ),
    "entailment": Recipe(
        "two texts and how they relate; needs one vocabulary for both sides",
        {**TEXT_PAIRS, "early_stopping_metric": "accuracy", "epochs": "6"},
    ),
    "sentence-similarity": Recipe(
        "two texts and a number that says how similar they are; needs one vocabulary for both sides",
        {**TEXT_PAIRS, "output_layer": "mean_squared_error", "learning_rate_schedule": "linear", "epochs": "5"},
    ),
    "text-classification": Recipe(
        "a text and its class",
        {
            **POOLED,
            **_dims(100),
            "comparator_list": "concat",
            "mlp_layers": "0",
            "learning_rate": "0.005",
            "dropout": "0.5",
            "mini_batch_size": "64",
        },
    ),
    "item2vec": Recipe(
        "items that occur together, such as those of one basket; needs one vocabulary for both sides",
        {
            **POOLED,
            **_dims(100),
            "tied_token_embedding_weight": "True",
            "comparator_list": "hadamard, concat",
            "mlp_layers": "0",
            "learning_rate": "0.001",
            "negative_sampling_rate": "10",
            "validation_negative_sampling": "auto",
            "mini_batch_size": "2048",
        },
    ),
}


def to_text() -> str:
    """Return the recipes as text: when to use each, and what it sets."""
    lines = []
    for name, recipe in RECIPES.items():
        lines += [f"{name}: {recipe.when}", *(f"  {key}={value}" for key, value in recipe.values.items()), ""]
    return "\n".join(lines)
