"""Hyperparameters: the table, its kinds of values, the parsed configuration and its parser."""

from object2vec.hyperparameters.config import EncoderHyperparameters, Hyperparameters, Parsed
from object2vec.hyperparameters.kinds import (
    AutoInteger,
    Bool,
    Choice,
    ChoiceList,
    FileName,
    Ignored,
    Integer,
    Kind,
    Real,
)
from object2vec.hyperparameters.parsing import parse, typed
from object2vec.hyperparameters.table import (
    MODEL_FILES,
    NETWORKS,
    OPTIMIZERS,
    REQUIRED,
    ROW_SPARSE_OPTIMIZERS,
    TABLE,
    Hyperparameter,
    to_markdown,
)
from object2vec.ops.codes import ACTIVATIONS, COMPARATORS

__all__ = [
    "ACTIVATIONS",
    "COMPARATORS",
    "MODEL_FILES",
    "NETWORKS",
    "OPTIMIZERS",
    "REQUIRED",
    "ROW_SPARSE_OPTIMIZERS",
    "TABLE",
    "AutoInteger",
    "Bool",
    "Choice",
    "ChoiceList",
    "EncoderHyperparameters",
    "FileName",
    "Hyperparameter",
    "Hyperparameters",
    "Ignored",
    "Integer",
    "Kind",
    "Parsed",
    "Real",
    "parse",
    "to_markdown",
    "typed",
]
