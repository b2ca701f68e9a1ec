"""Find a model in folders and archives, and extract it, without slow imports.

A model is a directory with `config.json` and `model.safetensors`. An archive of one is a .tar.gz or .tar file in which
both are at the top or together in a folder.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, BinaryIO, Final

from object2vec.data.files import HEAD_BYTES, READ_ERRORS, TAR, decompressed, recognize
from object2vec.errors import ArtifactError, shortened
from object2vec.hyperparameters import INDEX_FILES, MODEL_FILES, SCHEMA_FILES

CONFIG, WEIGHTS = MODEL_FILES
#: The archive of a model directory that the platform writes.
MODEL_ARCHIVE: Final = "model.tar.gz"
EXPECTED_MODEL: Final = f"wanted a directory with {CONFIG} and {WEIGHTS}, or a .tar.gz of one"
ARCHIVE_SUFFIXES: Final = (".tar.gz", ".tgz", ".tar", ".zip")
#: The depth of the search for a model below a folder, and how many entries it reads.
MAX_DEPTH: Final = 3
MAX_ENTRIES: Final = 10_000
#: More bytes than the largest weights that the ranges of the hyperparameters allow.
MAX_WEIGHTS_BYTES: Final = 2**35
#: Bytes that an archive may have in addition to the weights: headers, config.json, vocabularies.
EXTRA_BYTES: Final = 2**30


def find_model(path: Path) -> Path:
    """Return the model directory or the archive that `path` is, or the only one in the folders below it.

    The first level with a model counts. Archives with names other than `model.tar.gz` come last.

    Raises:
        ArtifactError: there is none, or there are several. The message says where was searched.
    """
    if path.is_file():
        return path.parent if path.name in MODEL_FILES else path
    if not path.is_dir():
        raise ArtifactError(f"{path}: No such file or directory, {EXPECTED_MODEL}")
    if _is_model(path):
        return path
    levels = list(_levels(path))
    for level, files in levels:
        found = [folder for folder in level if _is_model(folder)]
        found += [file for file in files if file.name == MODEL_ARCHIVE]
        if found:
            return _only(path, found)
    for _, files in levels:
        if archives := [file for file in files if _is_archive(file)]:
            return _only(path, archives)
    folders = [folder for level, _ in levels for folder in level]
    for folder in folders:  # an incomplete model: loading it says what is missing
        if any((folder / name).is_file() for name in MODEL_FILES):
            return folder
    below = _listed([str(folder.relative_to(path)) for folder in folders[1:]])
    looked = f"it and in {below} below it" if below else "it, and it has no folders"
    raise ArtifactError(f"{path}: no model, {EXPECTED_MODEL}; looked in {looked}")


@contextmanager
def extracted(path: Path, max_bytes: int | None = None) -> Iterator[Path]:
    """Yield the model at `path` as a directory. An archive is extracted to a temporary directory.

    The weights in an archive may have at most `max_bytes`.

    Raises:
        ArtifactError: see `find_model` and `extract`.
    """
    path = find_model(path)
    if path.is_dir():
        yield path
    else:
        with tempfile.TemporaryDirectory(prefix="object2vec-") as directory:
            yield extract(path, Path(directory), max_bytes)


def extract(archive: Path, directory: Path, max_bytes: int | None = None) -> Path:
    """Extract the files of a model into a new folder of `directory`, and return that folder.

    Names in the archive do not decide where files are written. The weights may have at most `max_bytes`, by default
    the free space of the disk.

    Raises:
        ArtifactError: the archive is missing or damaged, or does not have exactly one model; or it has links, devices,
            absolute paths, `..`, or more bytes than allowed.
    """
    if max_bytes is None:
        max_bytes = min(MAX_WEIGHTS_BYTES, shutil.disk_usage(directory).free)
    too_large = ArtifactError(f"{archive}: unpacks to more than is allowed here ({max_bytes} bytes)")
    folders: dict[PurePosixPath, Path] = {}
    names: list[str] = []
    try:
        with _open(archive) as stream, _members(stream, max_bytes + EXTRA_BYTES, too_large) as members:
            for member in members:
                members.members.clear()  # or memory grows with each member
                name = PurePosixPath(member.name)
                if not (member.isfile() or member.isdir()) or member.issparse() or {"/", ".."} & set(name.parts):
                    raise ArtifactError(f"{archive}: {member.name!r} is no file of a model, wanted {CONFIG}, {WEIGHTS}")
                names += [str(name)] if member.isfile() and len(names) < MAX_ENTRIES else []
                is_read = member.isfile() and any(map(name.match, (*MODEL_FILES, *SCHEMA_FILES, INDEX_FILES)))
                if not is_read or len(name.parts) > MAX_DEPTH + 1:
                    continue
                if member.size > max_bytes + EXTRA_BYTES:
                    raise too_large
                folder = folders.setdefault(name.parent, directory / str(len(folders)))
                folder.mkdir(exist_ok=True)
                with members.extractfile(member) as source, (folder / name.name).open("wb") as target:
                    shutil.copyfileobj(source, target, 2**20)
    except (*READ_ERRORS, tarfile.TarError) as error:
        wanted = "" if isinstance(error, OSError) and error.errno else ", wanted the .tar.gz of a model"
        raise ArtifactError(f"{archive}: cannot be unpacked ({error}){wanted}") from error
    models = {archive / inside: folder for inside, folder in folders.items() if _is_model(folder)}
    if not models:
        what = f"no model in it, wanted {CONFIG} and {WEIGHTS} at its top or in one folder"
        raise ArtifactError(f"{archive}: {what}; it holds {_listed(names) if names else 'no file'}")
    depth = min(len(inside.parts) for inside in models)
    return models[_only(archive, [inside for inside in models if len(inside.parts) == depth])]


def _is_model(folder: Path) -> bool:
    return all((folder / name).is_file() for name in MODEL_FILES)


def _is_archive(file: Path) -> bool:
    """Return whether a file is a tar, compressed or not, or has the name of an archive."""
    if file.name.lower().endswith(ARCHIVE_SUFFIXES):
        return True
    try:
        with _open(file) as stream:
            tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except (*READ_ERRORS, tarfile.TarError, ArtifactError):
        return False
    return True


def _levels(path: Path) -> Iterator[tuple[list[Path], list[Path]]]:
    """Yield the folder and its files, then its subfolders and their files, then those of their subfolders."""
    level, left = [path], MAX_ENTRIES
    for _ in range(MAX_DEPTH + 1):
        entries = [entry for folder in level for entry in _entries(folder)][:left]
        left -= len(entries)
        yield level, [entry for entry in entries if entry.is_file()]
        level = [entry for entry in entries if entry.is_dir()]


def _entries(folder: Path) -> list[Path]:
    """Return the sorted entries of a folder, without hidden files and markers such as `_SUCCESS` and `__MACOSX`."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for _, entry in zip(range(MAX_ENTRIES), entries, strict=False)]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if not name.startswith((".", "_"))]


def _only(path: Path, found: Sequence[Path]) -> Path:
    if len(found) > 1:
        names = _listed([str(each.relative_to(path)) for each in found])
        raise ArtifactError(f"{path}: several models ({names}), wanted one: name it")
    return found[0]


def _listed(names: Sequence[str], max_count: int = 5) -> str:
    shown = ", ".join(shortened(name) for name in names[:max_count])
    return f"{shown} and {len(names) - max_count} more" if len(names) > max_count else shown


def _open(archive: Path) -> BinaryIO:
    """Open a tar, and decompress it if its first bytes are those of gzip."""
    stream = archive.open("rb")
    if (found := recognize(stream.peek(HEAD_BYTES))) and found[0] != TAR:
        stream.close()
        raise ArtifactError(f"{archive}: {found[0]}, wanted a .tar.gz or a .tar")
    return decompressed(stream)


def _members(stream: BinaryIO, max_bytes: int, too_large: ArtifactError) -> Any:
    """Open a tar whose stream raises an error after `max_bytes`, so that an archive cannot fill the disk."""
    left = max_bytes

    def read(size: int) -> bytes:
        nonlocal left
        block = stream.read(size)
        left -= len(block)
        if left < 0:
            raise too_large
        return block

    bounded: Any = SimpleNamespace(read=read)
    return tarfile.open(fileobj=bounded, mode="r|")
