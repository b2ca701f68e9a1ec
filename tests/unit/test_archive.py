"""Finding a model in folders and archives, and extracting it safely."""

from __future__ import annotations

import bz2
import gzip
import io
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import object2vec
from object2vec import archive, artifact
from object2vec.archive import extract, extracted, find_model
from object2vec.cli import main
from object2vec.errors import ArtifactError
from object2vec.serving.predictor import Predictor
from small import configured, network_of

FILES = ("config.json", "model.safetensors")


def fake(folder: Path) -> Path:
    """A folder with the two files of a model, which nothing here loads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).write_text("x")
    return folder


def packed(folder: Path, file: Path, top: str = ".", mode: str = "w:gz") -> Path:
    """An archive of a folder's files under the folder `top`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, mode) as tar:  # type: ignore[call-overload]
        tar.add(folder, top)
    return file


def holding(file: Path, *members: tarfile.TarInfo) -> Path:
    """An archive of these members, each with as many zeros as its size says."""
    with tarfile.open(file, "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return file


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, linkname: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.linkname = kind, size, linkname
    return made


# ----------------------------------------------------------------------------------------------------------------------
# Finding.
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [".", "model", "model/model", "a/b/c"])
def test_a_model_in_a_folder_is_found(tmp_path: Path, inside: str) -> None:
    """The folder itself, or one up to three levels below, also next to folders without a model."""
    (tmp_path / "code").mkdir()
    wanted = fake(tmp_path / inside)
    assert find_model(tmp_path) == wanted


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_model_names_its_folder(tmp_path: Path, name: str) -> None:
    """The path of config.json or of the weights stands for the model."""
    assert find_model(fake(tmp_path) / name) == tmp_path


@pytest.mark.parametrize("name", ["model.tar.gz", "foo.tgz", "model.tar", "FOO.TAR.GZ", "artifact", "model.gz"])
def test_one_archive_of_any_name_is_found(tmp_path: Path, name: str) -> None:
    """An archive in a folder, recognized by its name or its first bytes; data files next to it are not archives."""
    mode = "w" if name in ("model.tar", "artifact") else "w:gz"
    file = packed(fake(tmp_path / "m"), tmp_path / "channel" / name, mode=mode)
    (tmp_path / "channel" / "train.jsonl.gz").write_bytes(gzip.compress(b'{"in0": [1]}\n'))
    (tmp_path / "channel" / "_SUCCESS").touch()
    (tmp_path / "channel" / "._foo.tgz").touch()
    assert find_model(tmp_path / "channel") == file
    assert find_model(file) == file


def test_a_model_folder_comes_before_other_archives(tmp_path: Path) -> None:
    """Source code next to a model does not hide it; an archive named model.tar.gz at a nearer level does."""
    wanted = fake(tmp_path / "model")
    packed(wanted, tmp_path / "sourcedir.tar.gz")
    assert find_model(tmp_path) == wanted
    archive_file = packed(wanted, tmp_path / "model.tar.gz")
    assert find_model(tmp_path) == archive_file


@pytest.mark.parametrize("kind", ["folders", "archives", "folder and archive"])
def test_several_models_are_named(tmp_path: Path, kind: str) -> None:
    """Of several models at one level none is chosen."""
    for name in "ab":
        if kind == "folders" or (kind == "folder and archive" and name == "a"):
            fake(tmp_path / "c" / name)
        else:
            file = "model.tar.gz" if kind.startswith("folder") else f"{name}.tgz"
            packed(fake(tmp_path / "m.hidden" / ".x"), tmp_path / "c" / name / file)
    with pytest.raises(ArtifactError, match=r"c: several models \(.*a.*, .*b.*\), wanted one: name it$"):
        find_model(tmp_path / "c")


def test_a_missing_model_says_where_it_was_looked_for(tmp_path: Path) -> None:
    """The folders that were searched, and what was wanted; a path that is missing is not an empty folder."""
    wanted = r"wanted a directory with config\.json and model\.safetensors, or a \.tar\.gz of one"
    with pytest.raises(ArtifactError, match=rf"none: No such file or directory, {wanted}$"):
        find_model(tmp_path / "none")
    with pytest.raises(ArtifactError, match=rf": no model, {wanted}; looked in it, and it has no folders$"):
        find_model(tmp_path)
    (tmp_path / "code" / "lib").mkdir(parents=True)
    with pytest.raises(ArtifactError, match=rf": no model, {wanted}; looked in it and in code, code/lib below it$"):
        find_model(tmp_path)
    for n in range(7):
        (tmp_path / f"x{n}").mkdir()
    with pytest.raises(ArtifactError, match=r"looked in it and in code, x0, x1, x2, x3 and 4 more below it$"):
        find_model(tmp_path)


def test_an_incomplete_model_is_returned_for_loading_to_explain(tmp_path: Path) -> None:
    """With one of the two files there, the sentence is about the other one."""
    (fake(tmp_path / "model") / "model.safetensors").unlink()
    assert find_model(tmp_path) == tmp_path / "model"


def test_the_search_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither deep trees, loops of links nor many entries are searched to the end."""
    (tmp_path / "loop").symlink_to(tmp_path)
    fake(tmp_path / "a/b/c/d")
    with pytest.raises(ArtifactError, match="no model"):
        find_model(tmp_path)
    monkeypatch.setattr(archive, "MAX_ENTRIES", 0)
    fake(tmp_path / "z")
    with pytest.raises(ArtifactError, match="no model"):
        find_model(tmp_path)


# ----------------------------------------------------------------------------------------------------------------------
# Extracting.
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [".", "", "model", "./model", "my-job/output"])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_is_extracted_wherever_its_model_is(tmp_path: Path, top: str, mode: str) -> None:
    """At the top, under `./`, or in a folder; the temporary folder is gone at the end."""
    (tmp_path / "m").mkdir()
    file = packed(fake(tmp_path / "m"), tmp_path / "any name", top or "/", mode)
    with extracted(file) as directory:
        assert sorted(path.name for path in directory.iterdir()) == sorted(FILES)
    assert not directory.exists()
    assert not directory.parent.exists()


def test_a_temporary_folder_is_removed_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No fault of an archive leaves files behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    file = holding(tmp_path / "model.tar.gz", member("config.json", size=3))
    with pytest.raises(ArtifactError), extracted(file):
        pass
    assert list((tmp_path / "tmp").iterdir()) == []


def test_only_a_models_files_are_extracted(tmp_path: Path) -> None:
    """Programs, folders and vocabularies stay in the archive; the model nearest the top counts."""
    names = ("./config.json", "code/inference.py", "./model.safetensors", "v.json")
    nested = ("old/config.json", "old/model.safetensors")
    file = holding(tmp_path / "m.tgz", member("sub", tarfile.DIRTYPE), *(member(n, size=3) for n in (*nested, *names)))
    (tmp_path / "target").mkdir()
    directory = extract(file, tmp_path / "target", 1000)
    assert sorted(path.name for path in directory.iterdir()) == sorted(FILES)
    extracted_names = {path.name for path in (tmp_path / "target").rglob("*") if path.is_file()}
    assert extracted_names == set(FILES)


def test_several_models_in_an_archive_are_named(tmp_path: Path) -> None:
    """None of them is chosen."""
    file = holding(tmp_path / "m.tgz", *(member(f"{top}/{name}", size=1) for top in "ab" for name in FILES))
    with pytest.raises(ArtifactError, match=r"m\.tgz: several models \(a, b\), wanted one"), extracted(file):
        pass


def cut_off(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def zip_it(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as packed_file:
        packed_file.writestr("config.json", "{}")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (cut_off, r"cannot be unpacked \(.*, wanted the \.tar\.gz of a model"),
        (zip_it, r"a zip archive, wanted a \.tar\.gz or a \.tar"),
        (lambda file: file.write_bytes(bz2.compress(b"x")), r"bzip2 data, wanted a \.tar\.gz or a \.tar"),
        (lambda file: file.write_bytes(gzip.compress(b"no tar at all" * 100)), r"cannot be unpacked \("),
        (lambda file: file.write_bytes(b""), r"cannot be unpacked \(.*wanted the \.tar\.gz"),
        (lambda file: holding(file, member("model.safetensors", size=10)), r"no model in it.*it holds model\.saf"),
        (lambda file: holding(file), r"no model in it, wanted .*; it holds no file$"),
        (
            lambda file: holding(file, *(member(f"f{n}") for n in range(9))),
            r"no model.*holds f0, f1, f2, f3, f4 and 4 more$",
        ),
    ],
)
def test_an_archive_without_a_model_is_refused(tmp_path: Path, spoil: Callable[[Path], object], sentence: str) -> None:
    """Truncated, of another form, empty or without a model: one sentence names the file and what is in it."""
    file = packed(fake(tmp_path / "m"), tmp_path / "model.tar.gz")
    spoil(file)
    with pytest.raises(ArtifactError, match=rf"model\.tar\.gz: {sentence}"), extracted(file):
        pass


@pytest.mark.parametrize(
    "bad",
    [
        member("../model.safetensors", size=1),
        member("/etc/passwd", size=1),
        member("a/../../b", size=1),
        member("config.json", tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("config.json", tarfile.LNKTYPE, linkname="model.safetensors"),
        member("config.json", tarfile.CHRTYPE),
        member("config.json", tarfile.BLKTYPE),
        member("config.json", tarfile.FIFOTYPE),
        member("config.json", tarfile.GNUTYPE_SPARSE),
    ],
    ids=lambda bad: f"{bad.name} {bad.type.decode()}",
)
def test_an_archive_with_what_no_model_has_is_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    """Names that lead out of it, links, devices: named, and nothing is written anywhere."""
    target = tmp_path / "in" / "target"
    target.mkdir(parents=True)
    file = holding(tmp_path / "in" / "model.tar.gz", bad)
    with pytest.raises(ArtifactError, match=r"is no file of a model|cannot be unpacked"):
        extract(file, target, 1000)
    assert list(target.iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["model.tar.gz", "target"]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("name", ["model.safetensors", "anything", "config.json"])
@pytest.mark.parametrize("allowed", [1000, None])
def test_a_bomb_is_not_extracted(
    tmp_path: Path, name: str, allowed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More bytes than a model of this size, or than the disk has, are not unpacked; little of it is written."""
    monkeypatch.setattr(archive, "EXTRA_BYTES", 10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9999, 0, 1000))  # type: ignore[attr-defined]
    file = holding(tmp_path / "model.tar.gz", member(name, size=5_000_000))
    assert file.stat().st_size < 10_000
    (tmp_path / "target").mkdir()
    with pytest.raises(ArtifactError, match=r"unpacks to more than is allowed here \(1000 bytes\)"):
        extract(file, tmp_path / "target", allowed)
    assert sum(path.stat().st_size for path in (tmp_path / "target").rglob("*") if path.is_file()) < 20_000


# ----------------------------------------------------------------------------------------------------------------------
# Where models are taken.
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A real model directory."""
    hyperparameters = configured()
    path = tmp_path / "real"
    artifact.save(path, network_of(hyperparameters), hyperparameters, training={}, vocabularies={})
    return path


@pytest.mark.parametrize("form", ["model/model", "top folder.tgz", "folder/model.tar", "channel/foo"])
def test_load_and_predict_take_each_form(
    model: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`object2vec.load` and `predict --model` give the same from a nested folder and from archives."""
    wanted = object2vec.load(model).score([([1, 2], [3])])
    path = tmp_path / "in" / form
    if form == "model/model":
        shutil.copytree(model, path)
        path = tmp_path / "in"
    else:
        packed(model, path, "some folder", "w" if form.endswith("tar") else "w:gz")
        path = path if form.endswith("tgz") else path.parent
    np.testing.assert_array_equal(object2vec.load(path).score([([1, 2], [3])]), wanted)
    (tmp_path / "input").write_text('{"in0": [1, 2], "in1": [3]}\n')
    assert main(["predict", "--model", str(path), "--input", str(tmp_path / "input")]) == 0
    assert capsys.readouterr().out.startswith('{"scores":')


def test_an_archived_model_in_embedding_mode_fetches_its_head(model: Path, tmp_path: Path) -> None:
    """Scores are right although the temporary folder was removed after loading."""
    file = packed(model, tmp_path / "m.tgz")
    scores = Predictor.load(file, mode="embedding").score([([1], [2])])
    np.testing.assert_array_equal(scores, Predictor.load(model).score([([1], [2])]))


def test_finding_a_model_imports_nothing_slow() -> None:
    """`serve` and early checks find a model without torch."""
    import subprocess

    code = "import sys, object2vec.archive; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
