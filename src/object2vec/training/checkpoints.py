"""Checkpoints on disk, from which an interrupted job continues with the same result.

A checkpoint is two files. `checkpoint-EPOCH-BATCH.safetensors` holds tensors. `checkpoint-EPOCH-BATCH.json` is written
last. It holds the other state, the fingerprint of configuration and data, and the checksums of both files.
"""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from object2vec import allocator
from object2vec.atomic_files import checksum, write_atomically
from object2vec.errors import UserError
from object2vec.training.distributed import Group

logger = logging.getLogger(__name__)

FORMAT_VERSION: Final = 1
#: The newest checkpoint, and one to fall back to if it is damaged.
MAX_CHECKPOINTS: Final = 2
#: Seconds between two checkpoints of an epoch, and the largest share of the time spent on them.
INTERVAL_SECONDS: Final = 300.0
MAX_TIME_SHARE: Final = 0.05
TENSORS: Final = ".safetensors"
REST: Final = ".json"


class Checkpoints:
    """The checkpoints of a job in a directory. Only rank 0 reads and writes; it broadcasts to the others.

    Raises:
        UserError: the directory cannot be written to.
    """

    def __init__(self, directory: Path, group: Group) -> None:
        self.directory = directory
        self.group = group
        self.fingerprint: dict[str, Any] = {}
        self.found: Checkpoint | None = None
        self._good: list[str] = []  # names, oldest first
        self._last, self._took = time.monotonic(), 0.0
        if group.is_main:
            try:
                directory.mkdir(parents=True, exist_ok=True)
                write_atomically(directory, {})  # it also removes what a killed process left
            except OSError as error:
                what = f"{directory}: no checkpoint can be written here ({error.strerror})"
                raise UserError(f"{what}, wanted a folder to write in, or no checkpoints") from error

    def check_fingerprint(self, fingerprint: Mapping[str, Any]) -> None:
        """Record the configuration and data of this job; a checkpoint that was found must have the same.

        Raises:
            UserError: the checkpoint is from another job; the message lists all differences.
        """
        self.fingerprint |= fingerprint
        if not (self.found and self.group.is_main):
            return
        there = self.found.values["facts"]
        differing = [
            f"{name} is {there.get(name)} there and {here} here"
            for name, here in fingerprint.items()
            if here != there.get(name)
        ]
        if differing:
            path = self.directory / f"{self.found.name}{REST}"
            what = f"{path} is a checkpoint of another job: {'; '.join(differing)}"
            raise UserError(f"{what}; wanted the same configuration and data, or another folder for checkpoints")

    def find(self) -> Checkpoint | None:
        """Return the newest complete checkpoint, on all ranks; warn about damaged ones.

        Raises:
            UserError: it was written by a newer version.
        """
        self.found = next(self._whole(), None) if self.group.is_main else None
        values = json.loads(self.group.broadcast_text(json.dumps(self.found.values if self.found else None)))
        if values and not self.found:
            self.found = Checkpoint(None, values, self.group)
        self._good = [self.found.name] if self.found else []
        return self.found

    def _whole(self) -> Iterator[Checkpoint]:
        """Yield the complete checkpoints, newest first."""
        for path in sorted(self.directory.glob(f"checkpoint-*{REST}"), reverse=True):
            try:
                yield Checkpoint(path.with_suffix(TENSORS), _read(path), self.group)
            except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
                logger.warning(f"{path} is no whole checkpoint ({error}): it is left out")

    @property
    def due(self) -> bool:
        """Whether the next checkpoint within an epoch is due."""
        least = max(INTERVAL_SECONDS, self._took / MAX_TIME_SHARE)
        return self.group.is_main and time.monotonic() - self._last >= least

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint on rank 0. If that fails, warn and continue training.

        A state has the `epoch`, the `batch`, `tensors` by name, and other values that JSON can hold.
        """
        name = f"checkpoint-{state['epoch']:03}-{state['batch']:09}"
        if not self.group.is_main or name in self._good:
            return
        started = time.monotonic()
        path = self.directory / f"{name}{REST}"
        try:
            self._write(path, state)
        except (OSError, SafetensorError) as error:
            back = f"a restart goes on from {self._good[-1]}" if self._good else "a restart begins anew"
            logger.warning(f"{path} cannot be written ({error}): training goes on, and {back}")
        else:
            logger.info(f'Saved checkpoint to "{path}"')
            self._good = [*self._good, name][-MAX_CHECKPOINTS:]
            self._prune()
        self._last = time.monotonic()
        self._took = self._last - started

    def _write(self, path: Path, state: Mapping[str, Any]) -> None:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state["tensors"].items()}

        def describe(staged: Path) -> None:
            values = {
                **state,
                "format_version": FORMAT_VERSION,
                "name": path.stem,
                "facts": self.fingerprint,
                "tensors": {name: [str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in tensors.items()},
                "tensors_checksum": checksum(staged.with_suffix(TENSORS)),
            }
            staged.write_text(json.dumps({"checksum": _checksum(values), "values": values}, indent=1))

        self.directory.stat()  # an error if it has gone: what was mounted here may be missing
        path.unlink(missing_ok=True)  # a broken one of this name, which goes with other tensors
        write_atomically(
            self.directory, {path.with_suffix(TENSORS).name: partial(save_file, tensors), path.name: describe}
        )

    def _prune(self) -> None:
        """Remove all but the newest good checkpoints, JSON files first."""
        for suffix in (REST, TENSORS):
            for path in self.directory.glob(f"checkpoint-*{suffix}"):
                if path.stem not in self._good:
                    with suppress(OSError):
                        path.unlink()


class Checkpoint:
    """A checkpoint that was found. Only rank 0 opens its tensors; the others receive them."""

    def __init__(self, path: Path | None, values: dict[str, Any], group: Group) -> None:
        self.values = values
        self.group = group
        self.name = str(values["name"])
        self._tensors: Any = None
        if path:
            if checksum(path) != values["tensors_checksum"]:
                raise ValueError(f"{path.name} does not have the checksum {values['tensors_checksum']}")
            self._tensors = safe_open(path, framework="pt")

    def names(self, prefix: str) -> list[str]:
        """Return the names of the tensors that start with a prefix."""
        return [name for name in self.values["tensors"] if name.startswith(prefix)]

    def read(self, name: str, into: Tensor) -> None:
        """Copy a tensor into one of the same shape, on all ranks."""
        if self._tensors:
            into.copy_(self._tensors.get_tensor(name))
        self.group.broadcast(into)

    def close(self) -> None:
        """Close the file, so that its disk space and memory become free."""
        self._tensors = None

    def new(self, name: str) -> Tensor:
        """Return a tensor as a new CPU tensor, on all ranks."""
        dtype, shape = self.values["tensors"][name]
        if dtype == "float32" and len(shape) == 2:
            tensor = allocator.zeros(*shape)
        else:
            tensor = torch.empty(shape, dtype=getattr(torch, dtype))
        self.read(name, tensor)
        return tensor


def _read(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_bytes())
    values: dict[str, Any] = document["values"]
    if _checksum(values) != document["checksum"]:
        raise ValueError(f"it does not have the checksum {document['checksum']}")
    if values["format_version"] > FORMAT_VERSION:
        version = f"in format {values['format_version']}"
        raise UserError(f"{path}: written {version}, wanted {FORMAT_VERSION} or older; use a newer object2vec")
    return values


def _checksum(values: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(values, sort_keys=True).encode()):08x}"
