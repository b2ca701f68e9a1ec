"""Numeric operations: each has a kernel in C, and an equal form in torch or numpy."""
