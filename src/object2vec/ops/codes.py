"""Names whose positions are their numbers in csrc/head.c."""

from typing import Final

COMPARATORS: Final = ("hadamard", "concat", "abs_diff")
ACTIVATIONS: Final = ("tanh", "relu", "linear")
