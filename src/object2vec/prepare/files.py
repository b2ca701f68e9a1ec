"""Names of the files of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from object2vec.data.channels import CHANNELS
from object2vec.data.files import read_object
from object2vec.errors import UserError

#: Channels, the folder of the schema, hyperparameters and the report.
PREPARED_FILES: Final = {
    "train": "train.jsonl",
    "validation": "validation.jsonl",
    "test": "test.jsonl",
    "schema": "schema",
    "hyperparameters": "hyperparameters.json",
    "report": "report.json",
}


def read_prepared(folder: Path) -> tuple[dict[str, Path], dict[str, object]]:
    """Return the channels and the hyperparameters of a folder that `prepare` wrote.

    Raises:
        UserError: there is no such folder, or its hyperparameters cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, wanted one that `object2vec prepare` wrote")
    files = {name: folder / file for name, file in PREPARED_FILES.items()}
    channels = {name: path for name, path in files.items() if name in CHANNELS and path.exists()}
    return channels, read_object(files["hyperparameters"], "wanted a file that `object2vec prepare` wrote")
