"""The objects of one side with the highest scores for objects of the other side, by the network's own score.

Shapes: N candidates, D dimensions of an encoding, Q queries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from object2vec.array_types import Bools, Float32, Int64
from object2vec.errors import UserError
from object2vec.model.network import Network


class Recommender:
    """Finds the candidates, objects of one side, with the highest scores for encodings of the other side.

    The score is the network's: the probability of class 1 of two classes, or the number of a regression.
    """

    def __init__(self, network: Network, vectors: Float32, side: int) -> None:
        self.network, self.vectors, self.side = network, vectors, side
        #: How the candidates are searched, in JSON values.
        self.description: Mapping[str, Any] = {"kind": "exact"}

    @classmethod
    def build(
        cls, network: Network, vectors: Float32, side: int, *, queries: Float32 | None = None, seed: int = 0
    ) -> Recommender:
        """Return a recommender of objects of `side`, 0 or 1, whose encodings are `vectors` (N, D).

        Args:
            network: the model.
            vectors: encodings of the candidates, which are not copied; they can be memory-mapped.
            side: the side of the candidates.
            queries: encodings of objects of the other side, which the search is tuned for; drawn if None.
            seed: of what is drawn.

        Raises:
            UserError: the model has several classes without an order.
        """
        del queries, seed
        check_has_one_score(network)
        return cls(network, vectors, side)

    @torch.inference_mode()
    def recommend(
        self,
        queries: Float32,
        k: int,
        *,
        allowed: Bools | None = None,
        excluded: Sequence[Int64] | None = None,
    ) -> tuple[Int64, Float32]:
        """Return rows (Q, k) of the candidates with the highest scores, and the scores; see `VectorIndex.search`."""
        found = np.full((len(queries), k), -1, np.int64)
        best = np.full((len(queries), k), -np.inf, np.float32)
        candidates = torch.from_numpy(np.array(self.vectors))
        for number, query in enumerate(queries):
            one = torch.from_numpy(query).expand(len(candidates), -1)
            pair = (candidates, one) if self.side == 0 else (one, candidates)
            scores = self.network.scores(self.network.score_encodings(*pair))[:, -1].numpy()
            valid = np.ones(len(scores), bool) if allowed is None else allowed.copy()
            if excluded is not None:
                valid[excluded[number]] = False
            rows = np.flatnonzero(valid)
            rows = rows[np.argsort(-scores[rows], kind="stable")[:k]]
            found[number, : len(rows)], best[number, : len(rows)] = rows, scores[rows]
        return found, best

    def fills(self, prefix: str) -> dict[str, Callable[[Path], object]]:
        """Return the names of the files, each with a function that writes it; the vectors are not written."""
        name = f"{prefix}recommender.json"
        return {name: lambda path: path.write_text(json.dumps(dict(self.description), indent=2) + "\n")}

    @classmethod
    def open(cls, directory: Path, prefix: str, network: Network, vectors: Float32, side: int) -> Recommender:
        """Open the recommender that `fills` wrote with this prefix, for the same network, vectors and side.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        del directory, prefix
        return cls(network, vectors, side)


def check_has_one_score(network: Network) -> None:
    """Check that scores order candidates: a regression, or two classes.

    Raises:
        UserError: the model has more classes.
    """
    classes = network.head.output.out_features if network.head else 0
    if network.softmax and classes != 2:
        raise UserError(f"the model has {classes} classes without an order, wanted two classes or a regression")
