"""A two-tower network in plain PyTorch: embeddings and two layers a side, softmax among the films of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from object2vec.array_types import Int64


def tower(count: int, dim: int) -> nn.Module:
    return nn.Sequential(nn.Embedding(count, dim), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))


def fit_two_towers(
    pairs: tuple[Int64, Int64],
    shape: tuple[int, int],
    *,
    seed: int,
    dim: int,
    learning_rate: float,
    weight_decay: float,
    epochs: int,
    batch_size: int = 1024,
) -> Any:
    """Train on positive pairs of ids from 0, (N,) each; return the scores of all pairs, in the given shape.

    A batch's logits are corrected by the logarithm of the frequency of each film.
    """
    torch.manual_seed(seed)
    users, films = (torch.from_numpy(ids) for ids in pairs)
    left, right = tower(shape[0], dim), tower(shape[1], dim)
    log_q = torch.bincount(films, minlength=shape[1]).div(len(films)).log()
    parameters = [*left.parameters(), *right.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(users)), batch_size):
            candidates, place = torch.unique(films[rows], return_inverse=True)
            loss = cross_entropy(left(users[rows]) @ right(candidates).T - log_q[candidates], place)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.inference_mode():
        scores: Tensor = left(torch.arange(shape[0])) @ right(torch.arange(shape[1])).T
    return scores.numpy().astype(np.float64)
