"""Names of the files of a data set."""

from __future__ import annotations

from typing import Final

#: Channels, the folder of the schema, hyperparameters and the report.
PREPARED_FILES: Final = {
    "train": "train.jsonl",
    "validation": "validation.jsonl",
    "test": "test.jsonl",
    "schema": "schema",
    "hyperparameters": "hyperparameters.json",
    "report": "report.json",
}
