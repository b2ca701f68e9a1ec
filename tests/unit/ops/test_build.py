"""Compiling the kernels: which compilers work, what a failure leaves, and what the library exports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from object2vec.ops import build as build_kernels
from object2vec.ops import library


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one small kernel, in place of the package's."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    shutil.copy(build_kernels.FOLDER / "build.c", folder)
    shutil.copy(build_kernels.FOLDER / "api.h", folder)
    (folder / "one.c").write_text('#include "api.h"\nint hidden_by_the_linker;\n')
    monkeypatch.setattr(build_kernels, "FOLDER", folder)
    monkeypatch.setattr(build_kernels, "LIBRARY", folder / "kernels.so")
    monkeypatch.setattr(build_kernels, "LEVELS", {"baseline": ()})
    monkeypatch.setattr(library, "signatures", dict)
    monkeypatch.setattr(library, "structs", dict)
    return folder


def compiler(path: Path, script: str) -> list[str]:
    """Write an executable in place of a compiler."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return [str(path)]


def test_cc_may_have_arguments() -> None:
    """`CC` is split as a shell does; an empty one means cc or gcc."""
    assert build_kernels.find_compiler({"CC": "ccache gcc -m64"}) == ["ccache", "gcc", "-m64"]
    assert build_kernels.find_compiler({"CC": "'/a b/cc'"}) == ["/a b/cc"]
    assert Path(build_kernels.find_compiler({"CC": ""})[0]).name in ("cc", "gcc")


def test_no_compiler_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any compiler the error says where it was looked for."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(build_kernels.BuildError, match="no C compiler"):
        build_kernels.find_compiler({})


@pytest.mark.parametrize(
    "script, message",
    [
        ("exit 1", "failed with status 1: no message"),
        ("echo warn >&2; echo 'x.c:1: error: bad' >&2; echo 'x.c:2: error: worse' >&2; exit 2", "x.c:1: error: bad"),
        ("echo >&2; echo 'cannot allocate' >&2; exit 4", "failed with status 4: cannot allocate"),
    ],
)
def test_failure_is_one_line_and_leaves_no_library(package: Path, script: str, message: str) -> None:
    """The first error line is the message. The previous library and all temporary files are gone."""
    (package / "kernels.so").write_bytes(b"old")
    before = {path.name for path in package.iterdir()}
    with pytest.raises(build_kernels.BuildError, match=message) as caught:
        build_kernels.build(compiler(package.parent / "cc", script))
    assert "\n" not in str(caught.value)
    assert {path.name for path in package.iterdir()} == before - {"kernels.so"}


def test_missing_compiler_is_an_error(package: Path) -> None:
    """A missing executable is a BuildError."""
    with pytest.raises(build_kernels.BuildError, match="nonesuch: No such file"):
        build_kernels.build(["nonesuch"])


def test_compiler_without_openmp_gives_one_thread(package: Path) -> None:
    """Kernels are compiled for one thread, and the library says so."""
    script = 'for word; do [ "$word" = -fopenmp ] && exit 1; done; exec cc "$@"'
    assert build_kernels.build(compiler(package.parent / "cc", script)) is False
    found = library.load(package / "kernels.so")
    assert (found.reason, found.has_threads) == ("", False)
    assert found.build.endswith("-1thread")


def test_compiler_with_openmp_gives_threads(package: Path) -> None:
    """Kernels use threads, and only `o2v_` names are exported."""
    assert build_kernels.build(["cc"]) is True
    assert library.load(package / "kernels.so").has_threads
    names = exported(package / "kernels.so")
    assert {"o2v_build_id", "o2v_level", "o2v_has_threads"} < names
    assert [name for name in names if not name.startswith("o2v_")] == []


def exported(library: Path) -> set[str]:
    done = subprocess.run(
        ["nm", "--dynamic", "--defined-only", library], capture_output=True, text=True, check=True, timeout=60
    )
    return {line.split()[-1] for line in done.stdout.splitlines()}


def test_all_exports_of_the_package_have_the_prefix() -> None:
    """Nothing in the library can clash with a name of another one."""
    names = exported(build_kernels.LIBRARY)
    assert len(names) > 70
    assert [name for name in names if not name.startswith("o2v_")] == []


def test_the_build_id_depends_on_sources_and_flags(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed, added or renamed source gives another id, and so does another flag."""
    ids = [build_kernels.source_id()]
    (package / "one.c").write_text("/* changed */\n")
    ids.append(build_kernels.source_id())
    (package / "one.c").rename(package / "two.c")
    ids.append(build_kernels.source_id())
    monkeypatch.setattr(build_kernels, "FLAGS", ("-O0",))
    ids.append(build_kernels.source_id())
    assert len(set(ids)) == len(ids)


@pytest.mark.slow
def test_compiles_for_arm64(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All sources compile for another processor, for which there is one level."""
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("needs aarch64-linux-gnu-gcc")
    monkeypatch.undo()
    sources = [str(path) for path in build_kernels.FOLDER.glob("*.c")]
    command = ["aarch64-linux-gnu-gcc", *build_kernels.FLAGS, "-fopenmp", "-fsyntax-only", "-Wall", "-Werror"]
    options = ["-Wno-unknown-pragmas", '-DO2V_BUILD_ID="0"', "-DO2V_LEVEL=baseline"]
    done = subprocess.run([*command, *options, *sources], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_command_says_why_it_fails() -> None:
    """`python -m object2vec.ops.build` with a broken compiler ends with one line."""
    code = (
        "import tempfile, shutil, pathlib, object2vec.ops.build as b\n"
        "b.FOLDER = pathlib.Path(tempfile.mkdtemp()); b.LIBRARY = b.FOLDER / 'kernels.so'\n"
        "status = b.main(); shutil.rmtree(b.FOLDER); raise SystemExit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"CC": "false"}, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("object2vec: error: the kernels are not compiled: false failed with status 1")
