"""Learn low-dimensional embeddings of objects from pairs of token sequences.

`object2vec.load(directory)` opens a trained model. The command `object2vec` trains and serves models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from object2vec.serving.predictor import Predictor

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(directory: str | Path) -> Predictor:
    """Load a model for `encode` and `score`: its directory, a folder that contains it, or a .tar.gz of it.

    Raises:
        UserError: `directory` is not a path on this machine.
        ArtifactError: there is no model, a damaged one, or one of a newer format.
    """
    from object2vec.threads import bounded_spinning

    with bounded_spinning():
        from object2vec.serving.predictor import Predictor  # imports torch, which is slow

    return Predictor.load(directory)
