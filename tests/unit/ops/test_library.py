"""Loading the kernels: a library that does not fit counts as missing, and the warning names the reason."""

from __future__ import annotations

import ctypes
import logging
import subprocess
from pathlib import Path
from unittest.mock import Mock

import pytest

from object2vec import cli
from object2vec.ops import build as build_kernels
from object2vec.ops import library
from object2vec.serving.telemetry import Telemetry
from object2vec.training import job

GONE = library.Library(None, reason="it is missing")


def compile_library(path: Path, **texts: str) -> Path:
    """Compile a library whose `o2v_` functions return texts; a thread count stands for one without OpenMP."""
    lines = [f'const char *o2v_{name}(void) {{ return "{text}"; }}' for name, text in texts.items()]
    path.with_suffix(".c").write_text("\n".join([*lines, "long o2v_has_threads(void) { return 1; }"]))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, path.with_suffix(".c")], check=True, timeout=60)
    return path


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF\x02\x01\x01"])
def test_broken_file_counts_as_missing(tmp_path: Path, content: bytes) -> None:
    """An empty, foreign or cut file cannot be loaded, and counts as missing."""
    path = tmp_path / "kernels.so"
    path.write_bytes(content)
    found = library.load(path)
    assert found.handle is None
    assert f"{path} cannot be loaded" in found.reason


def test_missing_file_warns_with_reason_cost_and_command(tmp_path: Path) -> None:
    """The warning has the reason, the cost and the command."""
    found = library.load(tmp_path / "kernels.so")
    assert (found.handle, found.build) == (None, "none")
    assert "kernels.so is missing" in found.warning
    assert "40 times" in found.warning
    assert found.warning.endswith("-m object2vec.ops.build")


def test_library_of_other_sources_counts_as_missing(tmp_path: Path) -> None:
    """Another build id counts as missing; so does a library without one."""
    other = library.load(compile_library(tmp_path / "other.so", build_id="0123", level="avx2"))
    assert "has the build id 0123, wanted " in other.reason
    old = library.load(compile_library(tmp_path / "old.so"))
    assert "has the build id of an older version" in old.reason


def test_library_without_a_kernel_counts_as_missing(tmp_path: Path) -> None:
    """The right id without the kernels counts as missing, and the reason names the first missing one."""
    made = compile_library(tmp_path / "few.so", build_id=build_kernels.source_id(), level="avx2")
    found = library.load(made)
    assert found.handle is None
    assert "has no o2v_avx2_" in found.reason


def test_struct_of_another_size_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library whose struct has another size than in Python counts as missing."""

    class StepConfig(ctypes.Structure):
        _fields_ = [("kind", ctypes.c_int64)]

    assert library.load().handle is not None
    monkeypatch.setattr(library, "structs", lambda: {"StepConfig": StepConfig})
    found = library.load.__wrapped__()
    assert found.handle is None
    assert "sizeof_StepConfig, wanted 8" in found.reason


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without kernels."""
    monkeypatch.setattr(library, "load", lambda: GONE)


@pytest.mark.usefixtures("missing")
def test_version_without_kernels_warns(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` succeeds, and a warning goes to standard error."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    out, err = capsys.readouterr()
    assert ended.value.code == 0
    assert out.endswith(" (kernels: none)\n")
    assert "it is missing" in err


def test_version_names_the_build(capsys: pytest.CaptureFixture[str]) -> None:
    """The build is named as in the log and in the metrics."""
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    out, err = capsys.readouterr()
    assert out.endswith(f" (kernels: {library.load().build})\n")
    assert err == ""


def test_metrics_name_the_build() -> None:
    """The gauge is 1, with the build as its label."""
    assert f'object2vec_kernels{{build="{library.load().build}"}} 1.0' in Telemetry().metrics().decode()


@pytest.mark.usefixtures("missing")
def test_metrics_and_log_without_kernels(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gauge is 0, and the training log begins with one warning."""
    assert 'object2vec_kernels{build="none"} 0.0' in Telemetry().metrics().decode()
    for name in ("_run", "_log_configuration", "has_one_side"):
        monkeypatch.setattr(job, name, lambda *_: False)
    with caplog.at_level(logging.INFO):
        job.run(Mock(channels={}))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "it is missing" in caplog.text
