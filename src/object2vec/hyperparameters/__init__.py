"""Hyperparameters: the table, its kinds of values, the parsed configuration and its parser."""

from object2vec.hyperparameters.config import EncoderHyperparameters, Hyperparameters, Parsed
from object2vec.hyperparameters.kinds import (
    Anything,
    AutoInteger,
    Choice,
    FileName,
    Flag,
    Integer,
    Kind,
    Real,
    Several,
)
from object2vec.hyperparameters.parsing import parse, typed
from object2vec.hyperparameters.table import (
    ACTIVATIONS,
    COMPARATORS,
    MODEL_FILES,
    NETWORKS,
    OPTIMIZERS,
    REQUIRED,
    ROW_SPARSE_OPTIMIZERS,
    TABLE,
    Hyperparameter,
    to_markdown,
)

__all__ = [
    "ACTIVATIONS",
    "COMPARATORS",
    "MODEL_FILES",
    "NETWORKS",
    "OPTIMIZERS",
    "REQUIRED",
    "ROW_SPARSE_OPTIMIZERS",
    "TABLE",
    "Anything",
    "AutoInteger",
    "Choice",
    "EncoderHyperparameters",
    "FileName",
    "Flag",
    "Hyperparameter",
    "Hyperparameters",
    "Integer",
    "Kind",
    "Parsed",
    "Real",
    "Several",
    "parse",
    "to_markdown",
    "typed",
]
