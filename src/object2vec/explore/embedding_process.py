"""The process of a projection: `GIVEN.npz POINTS.npy STEPS`. It prints the steps that are done, a number a line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

STEPS_PER_LINE: Final = 10
#: The share of steps with exaggeration.
EXAGGERATED: Final = 1 / 3


def main(given: str, target: str, steps: str) -> None:
    """Compute the points, and write them."""
    from openTSNE import TSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.initialization import rescale
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    done = 0

    def report(*_: Any) -> None:
        nonlocal done
        done += STEPS_PER_LINE
        sys.stdout.write(f"{done}\n")
        sys.stdout.flush()

    with np.load(given) as stored:
        rows, distances, start = (stored[name] for name in ("rows", "distances", "start"))
    neighbors = PrecomputedNeighbors(rows, distances)
    affinities = PerplexityBasedNN(knn_index=neighbors, perplexity=rows.shape[1] / 3)
    first = round(int(steps) * EXAGGERATED)
    points = TSNE(
        early_exaggeration_iter=first,
        n_iter=int(steps) - first,
        negative_gradient_method="fft",
        n_jobs=1,  # the same result each time
        random_state=0,
        callbacks=report,
        callbacks_every_iters=STEPS_PER_LINE,
    ).fit(affinities=affinities, initialization=rescale(start.astype(np.float64)))
    np.save(Path(target), np.asarray(points, np.float32))


if __name__ == "__main__":
    main(*sys.argv[1:])
