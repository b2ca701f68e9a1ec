"""A batch's output and loss, and the gradients of the loss, left where the optimizers look for them.

Shapes: P pairs, C scores a pair.
"""

from __future__ import annotations

import torch
from torch import Tensor

from object2vec.data.batches import Batch
from object2vec.model.network import Network
from object2vec.model.tokens import Tokens, Touched, mean_of
from object2vec.ops import scoring as scoring_ops
from object2vec.training.objective import Objective


def output_of(network: Network, batch: Batch) -> tuple[Tensor, Tensor]:
    """The network's output (P, C) for a batch of P pairs, and their labels (P,)."""
    tokens, index, labels = _tensors(network, batch)
    output: Tensor = network(tokens, index)
    return output, labels


def leave_gradients(
    network: Network, objective: Objective, batch: Batch, share: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Leave the gradients of `share` times the mean loss of a batch; returns that, the output (P, C), the labels (P,).

    Where no layer stands between look-ups and output layer, autograd would take longer than the arithmetic, and is left
    out.
    """
    network.zero_grad(set_to_none=True)
    direct = network.direct
    if direct and len(batch):
        return _directly(network, direct, objective, batch, share)
    output, labels = output_of(network, batch)
    loss = share * objective.loss(output, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), output.detach(), labels


@torch.no_grad()
def _directly(
    network: Network, layer: scoring_ops.Output, objective: Objective, batch: Batch, share: float
) -> tuple[Tensor, Tensor, Tensor]:
    both, index, labels = _tensors(network, batch)
    tables = [network.encoder(side).embedding for side in (0, 1)]
    (u, scale0), (v, scale1) = (mean_of(table.weight, tokens) for table, tokens in zip(tables, both, strict=True))
    output = scoring_ops.score_pairs(u, v, *index, layer)
    loss, slope = objective.slope(output, labels)
    slope *= share
    d_u, d_v, layer.weight.grad = scoring_ops.score_pairs_backward(u, v, *index, layer, slope)
    layer.bias.grad = slope.sum(0)
    for table, tokens, scale, gradient in zip(tables, both, (scale0, scale1), (d_u, d_v), strict=True):
        if table.weight.requires_grad:
            table.add_gradient(Touched.by_mean(tokens, scale, gradient))
    return loss * share, output, labels


def _tensors(network: Network, batch: Batch) -> tuple[tuple[Tokens, Tokens], tuple[Tensor, Tensor], Tensor]:
    """The tokens of the batch's objects, its index and its labels, where the network computes."""
    device = network.device
    tokens = Tokens.of(batch.objects[0], device), Tokens.of(batch.objects[1], device)
    index = torch.from_numpy(batch.index[0]).to(device), torch.from_numpy(batch.index[1]).to(device)
    return tokens, index, torch.from_numpy(batch.labels).to(device)
