"""The score that orders candidates: the network's output for pairs of a query and a candidate.

Shapes: N candidates, D dimensions of an encoding, Q queries, P pairs.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from object2vec.array_types import Float32, Int64
from object2vec.errors import UserError
from object2vec.model.network import Network
from object2vec.ops.scoring import LinearHead, score_pairs

#: Pairs of one call of a head with activations. Their intermediate results fit a core's cache.
HEAD_PAIRS: Final = 2**10


class PairScores:
    """Scores pairs of queries, encodings of the other side, and candidates of `side`, 0 or 1.

    A score is the predicted number, or the difference of the logits of class 1 and class 0. Its order is that of the
    probabilities, which are equal for many pairs when they are close to 1.
    """

    def __init__(self, network: Network, side: int) -> None:
        """Check that the network gives pairs one score.

        Raises:
            UserError: it has several classes.
        """
        if network.head is None:
            raise UserError("the model was loaded for embeddings alone, wanted one that scores pairs")
        if network.first_common:
            why = "its scores depend on the tokens that both objects have"
            raise UserError(f"the model has mark_common_tokens=True, wanted one without it to recommend: {why}")
        classes = network.head.output.out_features
        if network.sigmoid or (network.softmax and classes != 2):
            raise UserError(f"the model has {classes} classes without an order, wanted two classes, or a regression")
        self.network = network
        self.side = side
        folded, has_cosine = _one_output(network.head.folded(), difference=network.softmax), network.head.has_cosine
        #: All layers as one on encodings, with one output; None if there are activations between them, or a cosine.
        self.linear = None if has_cosine else folded
        #: Whether a score is a constant and a positive or negative (-1) factor of the cosine; None if it is not.
        self.cosine_sign = None
        if folded and network.head.comparators == ("cosine",):
            self.cosine_sign = float(folded.weight[0, 0].sign())

    @property
    def is_product(self) -> bool:
        """Return whether a score is a product of the candidate and a function of the query, plus a constant.

        For a cosine, its order is that of products with unit vectors.
        """
        return self.cosine_sign is not None or (self.linear is not None and int(self.linear.columns[3]) < 0)

    def product(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors (Q, D) of candidates and the constants (Q, 1), if `is_product`."""
        if self.cosine_sign is not None:
            return self.cosine_sign * queries, torch.zeros(len(queries), 1)
        head = self.linear
        if head is None:
            raise ValueError("the head is not linear")
        dim = queries.shape[1]
        weights = [
            head.weight[0, column : column + dim] if column >= 0 else torch.zeros(dim)
            for column in head.columns.tolist()
        ]
        own, others = (weights[1], weights[2]) if self.side else (weights[2], weights[1])
        return weights[0] * queries + others, (queries @ own)[:, None] + head.bias

    @torch.inference_mode()
    def __call__(self, queries: Tensor, candidates: Tensor, left: Int64, right: Int64) -> Float32:
        """Return the scores (P,) of queries[left[p]] with candidates[right[p]]."""
        query, row = (torch.from_numpy(np.ascontiguousarray(each)) for each in (left, right))
        (u, v), (i, j) = ((queries, candidates), (query, row)) if self.side else ((candidates, queries), (row, query))
        if self.linear:
            return score_pairs(u, v, i, j, self.linear)[:, 0].numpy()
        device = self.network.device
        parts = []
        for at in range(0, len(left), HEAD_PAIRS):
            part = slice(at, at + HEAD_PAIRS)
            output = self.network.score_encodings(u[i[part]].to(device), v[j[part]].to(device))
            parts.append((output[:, 1] - output[:, 0] if self.network.softmax else output[:, 0]).cpu().numpy())
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def published(self, scores: Float32) -> Float32:
        """Return scores as the network gives them: probabilities of class 1, or numbers."""
        return torch.sigmoid(torch.from_numpy(scores)).numpy() if self.network.softmax else scores


def _one_output(head: LinearHead | None, *, difference: bool) -> LinearHead | None:
    """Return a head with the difference of the outputs 1 and 0, or with the only output, on the CPU."""
    if head is None:
        return None
    weight, bias = head.weight.detach().cpu(), head.bias.detach().cpu()
    if difference:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    return LinearHead(weight.contiguous(), bias, head.columns)
