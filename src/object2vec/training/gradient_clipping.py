"""Limit the norm of a step's gradient."""

from __future__ import annotations

import torch

from object2vec.model.network import Network
from object2vec.ops import embedding

#: Added to the norm, as in torch's `clip_grad_norm_`.
EPSILON = 1e-6


@torch.no_grad()
def clip_gradients(network: Network, max_norm: float) -> None:
    """Scale all gradients down so that their norm together is at most `max_norm`.

    The rows of a table's gradient are summed by id first.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    grads = [weight.grad for weight in weights if weight.grad is not None]
    by_rows = [
        (weight, grad.compact(weight, always=True)) for weight in weights if (grad := embedding.row_grad(weight))
    ]
    norms = [grad.norm() for grad in (*grads, *(rows.grad for _, rows in by_rows))]
    factor = (max_norm / (torch.stack(norms).norm() + EPSILON)).clamp(max=1)
    for dense in grads:
        dense *= factor
    for weight, rows in by_rows:
        embedding.set_row_grad(weight, rows._replace(scale=rows.scale * factor))
