"""Wheels of the package, built from a clean copy by different compilers, and without one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
#: A compiler, and the program that it needs if that is not the command itself.
COMPILERS = ["gcc", "gcc-11", "clang", "ccache gcc"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Copy the sources without build outputs, and add an old library that must not be packed."""
    copy = tmp_path / "source"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, copy)
    (copy / "src/object2vec/ops/csrc/kernels.so").write_bytes(b"old")
    return copy


def pip_wheel(source: Path, compiler: str) -> tuple[Path, str]:
    """Build and unpack a wheel; return the folder and the output of pip."""
    out = source.with_name("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--verbose", "--no-deps", "--wheel-dir", str(out), str(source)]
    done = subprocess.run(
        command, env=os.environ | {"CC": compiler}, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(out / "package")
    return out / "package", done.stdout + done.stderr


def python(package: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the unpacked package instead of this checkout."""
    environment = os.environ | {"PYTHONPATH": str(package)}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900
    )


@pytest.mark.parametrize("compiler", COMPILERS)
def test_kernels_of_each_compiler_pass_their_tests(compiler: str, source: Path) -> None:
    """The kernels in the wheel pass the kernel tests."""
    if shutil.which(compiler.split()[0]) is None:
        pytest.skip(f"needs {compiler.split()[0]}")
    package, _ = pip_wheel(source, compiler)
    where = python(package, "-c", "import object2vec; print(object2vec.__file__)")
    assert where.stdout.startswith(str(package)), where.stderr
    version = python(package, "-c", "import sys; from object2vec.cli import main; main(sys.argv[1:])", "--version")
    assert version.stdout, version.stderr
    assert "(kernels: none)" not in version.stdout, version.stderr
    options = ["--disable-plugin-autoload", "-p", "hypothesispytest", "-p", "no:cacheprovider"]
    tests = python(package, "-m", "pytest", *options, "tests/unit/ops/test_kernels.py")
    assert tests.returncode == 0, tests.stdout


@pytest.mark.parametrize("compiler", ["false", "nonesuch --version"])
def test_failing_compiler_gives_a_package_without_kernels(compiler: str, source: Path) -> None:
    """The build warns and continues, packs no old library, and the package reports the missing kernels."""
    package, said = pip_wheel(source, compiler)
    assert "no C kernels, so training on a CPU will be slower" in said
    assert not list(package.rglob("*.so"))
    done = python(package, "-c", "import sys; from object2vec.cli import main; main(sys.argv[1:])", "--version")
    assert done.returncode == 0
    assert "(kernels: none)" in done.stdout
    assert "kernels.so is missing" in done.stderr
