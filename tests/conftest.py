"""What holds for every test: the same examples at each run, and no more threads than a small computer has."""

from __future__ import annotations

import torch
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")
torch.set_num_threads(1)
