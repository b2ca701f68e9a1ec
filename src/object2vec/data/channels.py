"""The channels of a training job: names of its inputs, as in SageMaker."""

from __future__ import annotations

from typing import Final

#: The channels that contain pairs.
PAIR_CHANNELS: Final = ("train", "validation", "test")
CHANNELS: Final = {
    "train": "training pairs: a JSON Lines file or a folder of such files, plain or gzip",
    "validation": "pairs that decide which epoch is best and when training stops",
    "test": "pairs that the best model is evaluated on at the end",
    "auxiliary": "folder with pretrained embeddings and vocabularies",
    "schema": "folder with the schema of the pairs, which `object2vec prepare` writes; it becomes part of the model",
    "model": "model to start from: a model directory, or a .tar.gz of one",
}
