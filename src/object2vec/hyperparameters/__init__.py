"""Hyperparameters: the table, its kinds of values, the parsed configuration and its parser."""

from object2vec.hyperparameters.config import EncoderHyperparameters, Hyperparameters, Parsed
from object2vec.hyperparameters.parsing import parse, typed, with_recipe
from object2vec.hyperparameters.table import INDEX_FILES, MODEL_FILES, SCHEMA_FILES, TABLE

__all__ = [
    "INDEX_FILES",
    "MODEL_FILES",
    "SCHEMA_FILES",
    "TABLE",
    "EncoderHyperparameters",
    "Hyperparameters",
    "Parsed",
    "parse",
    "typed",
    "with_recipe",
]
