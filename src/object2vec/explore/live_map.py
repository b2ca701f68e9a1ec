"""A map whose projection is computed while the page is open."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any, Final

from object2vec.array_types import Float32
from object2vec.errors import Object2VecError
from object2vec.explore import embedding
from object2vec.explore.map_data import MapData, evaluate_projection

logger = logging.getLogger(__name__)

NAME: Final = "t-sne"
LABEL: Final = "t-SNE"


class LiveMap:
    """A map. After `start`, its projection is computed in another process, and `data` then has it."""

    def __init__(self, data: MapData, directory: Path) -> None:
        self.data = data
        self._directory = directory

    def read(self) -> bool:
        """Take the projection from the model directory; return whether it has it."""
        points = embedding.read_embedding(self._directory, self.data.index)
        if points is not None:
            self._add(points)
        return points is not None

    def start(self) -> None:
        """Compute the projection in the background, unless the model has it or it is not possible."""
        if not self.read() and embedding.is_possible(len(self.data.index.objects)):
            self._show(0.0)
            Thread(target=self._run, daemon=True).start()

    def finish(self, progress: Callable[[float], object]) -> None:
        """Compute the projection now, unless the model has it or it is not possible."""
        if not self.read() and embedding.is_possible(len(self.data.index.objects)):
            points = embedding.embed(self.data.index, self.data.points("pca"), progress)
            embedding.write_embedding(self._directory, self.data.index, points)
            self._add(points)

    def _run(self) -> None:
        try:
            self.finish(self._show)
        except Object2VecError as error:
            logger.warning(str(error))
            self._change(pending=None)

    def _show(self, progress: float) -> None:
        self._change(pending={"name": NAME, "progress": round(progress, 3)})

    def _add(self, points: Float32) -> None:
        description = {"name": NAME, "label": LABEL, **evaluate_projection(self.data.index, points, self.data.clusters)}
        self.data = replace(
            self.data, arrays={**self.data.arrays, f"projection-{NAME}": points.astype("<f4").tobytes()}
        )
        self._change(pending=None, projections=[description, *self.data.metadata["projections"]])

    def _change(self, **values: Any) -> None:
        self.data = replace(self.data, metadata={**self.data.metadata, **values})
