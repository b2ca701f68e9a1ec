"""Names whose positions are their numbers in csrc/head.c and csrc/kernels.h."""

from typing import Final

COMPARATORS: Final = ("hadamard", "concat", "abs_diff", "cosine")
ACTIVATIONS: Final = ("tanh", "relu", "linear")
#: The optimizers that kernels step.
OPTIMIZERS: Final = ("sgd", "adagrad", "adam")
