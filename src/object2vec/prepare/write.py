"""Write a data set: channels as JSON Lines, the schema, hyperparameters and a report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from object2vec.atomic_files import staged
from object2vec.data.sequences import Pairs
from object2vec.errors import AlgorithmError, UserError
from object2vec.prepare.dataset import Dataset, rows_by_split
from object2vec.prepare.files import PREPARED_FILES
from object2vec.prepare.jsonlines import to_json_lines
from object2vec.prepare.report import Statistics
from object2vec.prepare.rows import Rows
from object2vec.prepare.splits import Splits
from object2vec.prepare.suggest import has_one_side, suggest_hyperparameters


def write_dataset(
    dataset: Dataset,
    directory: Path,
    *,
    recipe: str = "",
    base: Mapping[str, object] | None = None,
    written: Callable[[int], object] = int,
) -> dict[str, Any]:
    """Write a data set into a folder and return its report; see `suggest_hyperparameters` for `recipe` and `base`.

    `written` is called with the rows of each part that is written. All files are complete before the first one
    replaces an older one. Files of an older data set are removed.

    Raises:
        UserError: the folder cannot be written.
        AlgorithmError: the disk is full.
    """
    with staged_dataset(directory) as folder:
        statistics = _write_channels(dataset, folder, written, has_one_side(dataset.schema, recipe, base))
        dataset.schema.save(folder / PREPARED_FILES["schema"])
        report = statistics.to_json(dataset)
        hyperparameters = suggest_hyperparameters(dataset, statistics, recipe=recipe, base=base)
        for name, content in (("hyperparameters", hyperparameters), ("report", report)):
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            (folder / PREPARED_FILES[name]).write_text(text, "utf-8")
    return report


@contextmanager
def staged_dataset(directory: Path) -> Iterator[Path]:
    """Yield a folder to write a data set in, which replaces an older one of the directory at the end.

    Raises:
        UserError: the directory cannot be written.
        AlgorithmError: the disk is full.
    """
    try:
        with staged(directory, PREPARED_FILES.values()) as folder:
            yield folder
    except OSError as error:
        kind = (
            UserError if isinstance(error, PermissionError | NotADirectoryError | FileExistsError) else AlgorithmError
        )
        raise kind(f"{directory}: {error.strerror or error}, wanted a folder that data can be written to") from error


def _write_channels(dataset: Dataset, folder: Path, written: Callable[[int], object], one_sided: bool) -> Statistics:
    """Write a file for each split that has rows, and return statistics."""
    statistics = Statistics(dataset)

    def process(rows: Rows, numbers: Rows, splits: Splits) -> tuple[int, Any, dict[str, memoryview | bytes]]:
        lines = {name: to_json_lines(own, one_sided=one_sided) for name, own in rows_by_split(rows, splits).items()}
        return len(rows), statistics.of_part(rows, numbers, splits), lines

    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for count, found, lines in dataset.map_chunks(process):
            statistics.add(*found)
            for name, text in lines.items():
                if name not in files:
                    files[name] = stack.enter_context((folder / PREPARED_FILES[name]).open("wb"))
                files[name].write(text)
            written(count)
    return statistics


def write_pairs(pairs: Pairs, path: Path, *, one_sided: bool = False) -> Path:
    """Write pairs of token ids as a channel, without in1 if it is `one_sided`, and return its path."""
    rows = Rows(
        keys=np.zeros(len(pairs), np.uint64),
        labels=pairs.labels,
        measures=np.zeros(len(pairs)),
        sides=pairs.sides,
        weights=pairs.weights,
        classes=pairs.classes,
    )
    path.write_bytes(to_json_lines(rows, one_sided=one_sided))
    return path
