"""Ranking metrics of the validation channel, for early stopping."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from object2vec.array_types import Float32, Int64
from object2vec.data.sequences import Pairs, Sequences, find_known_positives
from object2vec.evaluation.ranking import RankingTask, rank
from object2vec.model.network import Network
from object2vec.model.tokens import Tokens
from object2vec.ops.scoring import score_pairs
from object2vec.training.distributed import Group
from object2vec.training.evaluation import MAX_SCORING_PAIRS, MAX_SCORING_TOKENS

#: Objects of in0 that are ranked for; candidates up to which all are ranked, and how many are sampled of more.
MAX_QUERIES: Final = 10_000
MAX_CANDIDATES: Final = 10_000
SAMPLED_CANDIDATES: Final = 1_000
#: Pairs that are scored at a time.
BLOCK_PAIRS: Final = 2**15
TOP: Final = 10
RANKING_METRICS: Final = {"ndcg@10": "ndcg@10", "hit_rate@10": "hits@10", "mrr": "mrr"}


class RankingMetrics:
    """Ranks objects of `in1` for each `in0` of the positives of validation, as `object2vec evaluate` does.

    Candidates are all `in1` of training. Positives of training are left out. With `share` (r, R), only every Rth `in0`
    is ranked for, so that ranks can share the pairs.
    """

    def __init__(self, train: Pairs, validation: Pairs, *, seed: int, share: tuple[int, int] = (0, 1)) -> None:
        positives = validation.take(np.flatnonzero(validation.labels >= 1))
        first = np.random.default_rng(seed).permutation(positives.in0.unique()[0])[:MAX_QUERIES]
        self.objects = positives.in0.take(first[share[0] :: share[1]]), train.in1.take(train.in1.unique()[0])
        candidates = len(self.objects[1])
        self.task = RankingTask(
            relevant=_numbers_of(self.objects, positives),
            seen=_numbers_of(self.objects, train),
            candidates=candidates,
            sampled=None if candidates <= MAX_CANDIDATES else SAMPLED_CANDIDATES,
            seed=seed,
        )

    @torch.inference_mode()
    def measure(self, name: str, network: Network, group: Group) -> float:
        """Return a metric of `RANKING_METRICS`, the mean over the queries of all ranks; 0 without any."""
        network.eval()
        u, v = (encode(network, side, objects) for side, objects in enumerate(self.objects))

        def score(queries: Int64, candidates: Int64) -> Float32:
            left, right = (torch.from_numpy(index).to(network.device) for index in (queries, candidates))
            parts = zip(torch.split(left, BLOCK_PAIRS), torch.split(right, BLOCK_PAIRS), strict=True)
            return torch.cat([score_block(network, u, v, *part) for part in parts]).cpu().numpy()

        found = rank(score, self.task, (TOP,))
        total = found.queries and found.queries * found.metrics()[RANKING_METRICS[name]]
        total, queries = group.sum([total, found.queries])
        return total / (queries or 1)


def _numbers_of(objects: tuple[Sequences, Sequences], pairs: Pairs) -> tuple[Int64, Int64]:
    """Return the positives among objects, as numbers of these."""
    left, right = find_known_positives(objects, pairs)
    return left.astype(np.int64), right.astype(np.int64)


def score_block(network: Network, u: Tensor, v: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return the score of pairs of encodings: the number, or by how much the logit of class 1 is the greater one."""
    head = network.linear_head
    output = score_pairs(u, v, left, right, head) if head else network.score_encodings(u[left], v[right])
    return output[:, -1] - output[:, 0] if output.shape[1] > 1 else output[:, 0]


def encode(network: Network, side: int, objects: Sequences) -> Tensor:
    """Return the encodings (N, D) of objects of a side, computed in parts."""
    size = max(1, min(MAX_SCORING_PAIRS, MAX_SCORING_TOKENS // max(1, objects.max_length)))
    parts = [objects.slice(start, start + size) for start in range(0, max(1, len(objects)), size)]
    return torch.cat([network.encode(side, Tokens.of(part, network.device)) for part in parts])
