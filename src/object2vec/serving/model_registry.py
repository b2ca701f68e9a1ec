"""The models of a multi-model endpoint: one registry for all workers, and in each worker the models in use.

The register is a directory with a file a model, named by a hash of the model's name. A worker that has a model in
memory holds a shared lock on its file, so an exclusive lock shows that no worker has it any more. The lock of a worker
that dies is released. Weights are mapped from the model's own files: workers share their memory.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Final, NamedTuple

import orjson

from object2vec.archive import WEIGHTS, find_model
from object2vec.errors import ModelExistsError, ModelNotFoundError, NoRoomError, OverloadedError, RequestError
from object2vec.hyperparameters import INDEX_FILES, SCHEMA_FILES
from object2vec.serving.predictor import Predictor
from object2vec.serving.raw_values import KNOWN_VALUES_BYTES
from object2vec.serving.search import MAX_FILTER_BYTES
from object2vec.serving.token_scorer import MAX_CACHE_BYTES

PAGE_SIZE: Final = 100
MAX_NAME_CHARACTERS: Final = 1024
#: Approximate bytes of a model in each worker, besides its weights.
MODEL_OVERHEAD_BYTES: Final = 2**20
#: Bytes of memory for each byte of a schema's files: 8 to 15 were measured, while files of up to 33 MB were read, and
#: the tables for kernels take about 3.
VOCABULARY_BYTES: Final = 19
#: Seconds between a worker's checks that its models are still registered.
POLL_SECONDS: Final = 0.05
#: Seconds that requests under way get to end when their model is unloaded.
UNLOAD_SECONDS: Final = 60
UNLOADING: Final = "unloading-"


class _LoadedModel(NamedTuple):
    inode: int  # of the registered file; no other file can have it while this one is open
    predictor: Predictor


@dataclass(slots=True, kw_only=True, weakref_slot=True)
class ModelRegistry:
    """The register in `directory`, which exists, of models under `root` that take `capacity` bytes at most."""

    directory: Path
    root: Path
    capacity: int
    workers: int
    open: Callable[[Path], Predictor]
    _loaded: dict[str, _LoadedModel] = field(default_factory=dict)
    _loading: Lock = field(default_factory=Lock)
    _watcher: Thread | None = None

    def load(self, name: str, url: str) -> None:
        """Register a model, once this worker can answer with it.

        Raises:
            RequestError: the name cannot be one, or `url` is no directory under the root.
            ModelExistsError: there is one of that name.
            NoRoomError: it would take memory that is not there.
            ArtifactError: there is no model at `url` that can be loaded.
        """
        if not 0 < len(name) <= MAX_NAME_CHARACTERS or "/" in name:
            raise RequestError(f"model_name is {name[:200]!r}, wanted 1 to {MAX_NAME_CHARACTERS} characters and no /")
        key, path = self._key(name), self._path(url)
        with self._exclusive():
            file = self.directory / key
            if file.exists():
                raise ModelExistsError(f"Model {name} is already registered.")
            size = self._size(path)
            taken = sum(entry["bytes"] for entry in self._entries(unloading=True))
            if taken + size > self.capacity:
                room = f"{size} bytes are wanted where {max(0, self.capacity - taken)} of {self.capacity} are left"
                raise NoRoomError(f"no memory for model {name}: {room}; unload another first")
            entry = {"modelName": name, "modelUrl": url, "path": str(path), "bytes": size}
            staged = self.directory / f".{key}"
            staged.write_bytes(orjson.dumps(entry))
            try:
                self._open(key, staged)
                staged.rename(file)
            finally:
                staged.unlink(missing_ok=True)

    def unload(self, name: str) -> None:
        """Forget a model; when this returns, no worker has it in memory.

        Raises:
            ModelNotFoundError: there is none of that name.
            OverloadedError: requests to it have not ended.
        """
        key = self._key(name)
        with self._exclusive():
            unloading = self.directory / f"{UNLOADING}{key}-{time.monotonic_ns()}"
            try:
                (self.directory / key).rename(unloading)
            except FileNotFoundError:
                raise _not_found(name) from None
        self._loaded.pop(key, None)
        until = time.monotonic() + UNLOAD_SECONDS
        while not _remove_if_unused(unloading):
            if time.monotonic() > until:
                raise OverloadedError(f"requests to model {name} are still under way after {UNLOAD_SECONDS} s")
            time.sleep(POLL_SECONDS / 5)

    def describe(self, name: str) -> dict[str, str]:
        """Return the name and the URL of a model.

        Raises:
            ModelNotFoundError: there is none of that name.
        """
        try:
            return _public_fields(orjson.loads((self.directory / self._key(name)).read_bytes()))
        except FileNotFoundError:
            raise _not_found(name) from None

    def page(self, after: str = "") -> dict[str, Any]:
        """Return the first `PAGE_SIZE` models after the key `after`, in the order of their keys."""
        entries = [entry for entry in self._entries() if entry["key"] > after]
        page: dict[str, Any] = {"models": [_public_fields(entry) for entry in entries[:PAGE_SIZE]]}
        if len(entries) > PAGE_SIZE:
            page["nextPageToken"] = entries[PAGE_SIZE - 1]["key"]
        return page

    def predictor(self, name: str) -> Predictor:
        """Return a registered model, and load it if this worker has not yet done so.

        Raises:
            ModelNotFoundError: there is none of that name.
        """
        key = self._key(name)
        file = self.directory / key
        try:
            if found := self._current(key, file):
                return found
            with self._loading:  # of many requests one loads it
                return self._current(key, file) or self._open(key, file)
        except FileNotFoundError:
            raise _not_found(name) from None

    def _current(self, key: str, file: Path) -> Predictor | None:
        """Return the model of a file if this worker has it in memory."""
        loaded = self._loaded.get(key)
        return loaded.predictor if loaded and loaded.inode == file.stat().st_ino else None

    def _open(self, key: str, file: Path) -> Predictor:
        """Load the model of a file, under a shared lock on the file for as long as its weights are in memory."""
        descriptor = os.open(file, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            inode = os.fstat(descriptor).st_ino
            if file.stat().st_ino != inode:  # unloaded meanwhile
                raise FileNotFoundError(file)
            predictor = self.open(Path(orjson.loads(file.read_bytes())["path"]))
        except BaseException:
            os.close(descriptor)
            raise
        weakref.finalize(predictor.network, os.close, descriptor)
        self._loaded[key] = _LoadedModel(inode, predictor)
        if self._watcher is None:
            self._watcher = Thread(target=_watch, args=(weakref.ref(self),), daemon=True)
            self._watcher.start()
        return predictor

    def drop_unregistered(self) -> None:
        """Drop models that are no longer registered. Memory is freed when the last request to a model ends."""
        for key in list(self._loaded):
            with suppress(FileNotFoundError):
                if self._current(key, self.directory / key):
                    continue
            self._loaded.pop(key, None)

    def _entries(self, *, unloading: bool = False) -> list[dict[str, Any]]:
        """Return the registered models in the order of their keys; with `unloading` also those being unloaded."""
        found = []
        for file in sorted(self.directory.iterdir()):
            if file.name.startswith(".") or file.name == "lock":
                continue
            if file.name.startswith(UNLOADING) and (not unloading or _remove_if_unused(file)):
                continue
            with suppress(FileNotFoundError):
                found.append(orjson.loads(file.read_bytes()) | {"key": file.name})
        return found

    def _path(self, url: str) -> Path:
        """Return the directory of a URL. Links may not lead outside the root."""
        try:
            path = Path(url).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            path = None
        if path is None or not path.is_dir() or not path.is_relative_to(self.root.resolve()):
            raise RequestError(f"url is {url[:200]!r}, wanted a model directory under {self.root}")
        return path

    def _key(self, name: str) -> str:
        return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()

    def _size(self, path: Path) -> int:
        found = find_model(path)
        file = found / WEIGHTS if found.is_dir() else found
        weights = file.stat().st_size if file.is_file() else 0
        cached = min(2 * weights, MAX_CACHE_BYTES)  # the head once more, and results for tokens
        schema = sum((found / name).stat().st_size for name in SCHEMA_FILES if (found / name).is_file())
        vocabularies = VOCABULARY_BYTES * schema + KNOWN_VALUES_BYTES if schema else 0
        indexes = sum(file.stat().st_size for file in found.glob(INDEX_FILES))
        filters = min(indexes, MAX_FILTER_BYTES)
        return weights + indexes + self.workers * (MODEL_OVERHEAD_BYTES + cached + vocabularies + filters)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Within, no other thread or worker changes the register."""
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _watch(models: weakref.ref[ModelRegistry]) -> None:
    """Drop models that other workers have unloaded, as long as the registry exists."""
    seen = 0
    while (register := models()) is not None:
        with suppress(FileNotFoundError):
            changed = register.directory.stat().st_mtime_ns
            if changed != seen:
                register.drop_unregistered()
                # What changes so soon after may bear the same time.
                seen = changed if time.time_ns() - changed > POLL_SECONDS * 1e9 else 0
        del register
        time.sleep(POLL_SECONDS)


def _remove_if_unused(file: Path) -> bool:
    """Remove the file of a model that is being unloaded, if no worker has the model in memory."""
    with suppress(FileNotFoundError):  # another worker has removed it
        with file.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        file.unlink()
    return True


def _public_fields(entry: dict[str, Any]) -> dict[str, str]:
    return {"modelName": entry["modelName"], "modelUrl": entry["modelUrl"]}


def _not_found(name: str) -> ModelNotFoundError:
    return ModelNotFoundError(f"Model not found: {name}")
