"""Compile the C kernels; `python -m object2vec.ops.build` compiles them again.

The build of the package runs this file too, before its dependencies are installed. So it imports nothing but the
standard library.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).with_name("csrc")
LIBRARY: Final = FOLDER / "kernels.so"
FLAGS: Final = (
    *("-std=c11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"),
    *("-fPIC", "-fvisibility=hidden", "-Wno-psabi"),
)
THREADS: Final = "-fopenmp"
NO_THREADS: Final = "-fopenmp-simd"
#: Sources are compiled once for each level of x86-64 processors. build.c chooses a level at load, and must check each
#: of these features. GCC 9 and clang accept these flags. GCC's target_clones does not work: before GCC 12 it takes
#: `arch=haswell` for that model alone, and later models get the slowest code.
AVX2: Final = ("-mavx2", "-mfma", "-mbmi", "-mbmi2")
AVX512: Final = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl")
LEVELS: Final[Mapping[str, tuple[str, ...]]] = {"baseline": (), "avx2": AVX2, "avx512": AVX512}
#: Compiled once for all levels.
COMMON: Final = "build.c"


class BuildError(Exception):
    """The kernels cannot be compiled; the message is one line."""


def find_compiler(environment: Mapping[str, str]) -> list[str]:
    """Return the C compiler and its arguments: `CC` if it is set, else cc or gcc.

    Raises:
        BuildError: no compiler is found.
    """
    if command := shlex.split(environment.get("CC", "")):
        return command
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        raise BuildError("there is no C compiler (neither cc nor gcc is on PATH, and CC is not set)")
    return [found]


def source_id() -> str:
    """Return the build id of a library compiled from these sources: a hash of sources and flags."""
    digest = hashlib.sha256(repr((FLAGS, sorted(LEVELS.items()))).encode())
    for path in sorted(FOLDER.glob("*.[ch]")):
        digest.update(f"\0{path.name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build(compiler: Sequence[str]) -> bool:
    """Compile the library; return whether its kernels use threads.

    If this fails there is no library, so that a library is never older than its sources.

    Raises:
        BuildError: the compiler cannot be run, or fails with and without OpenMP.
    """
    LIBRARY.unlink(missing_ok=True)
    levels = LEVELS if platform.machine() == "x86_64" else {"baseline": ()}
    try:
        _compile(compiler, levels, THREADS)
    except BuildError as error:
        try:
            _compile(compiler, levels, NO_THREADS)
        except BuildError:
            raise error from None
        return False
    return True


def _compile(compiler: Sequence[str], levels: Mapping[str, Sequence[str]], openmp: str) -> None:
    command = [*compiler, *FLAGS, openmp, f'-DO2V_BUILD_ID="{source_id()}"']
    sources = sorted(path for path in FOLDER.glob("*.c") if path.name != COMMON)
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix=".build-") as scratch:
        folder = Path(scratch)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            runs = [pool.submit(_run, [*command, "-c", str(FOLDER / COMMON)], folder)]
            for level, flags in levels.items():
                (folder / level).mkdir()
                options = [*flags, f"-DO2V_LEVEL={level}", "-c", *map(str, sources)]
                runs.append(pool.submit(_run, [*command, *options], folder / level))
            for run in runs:
                run.result()
        (folder / "exports").write_text("{global: o2v_*; local: *;};")  # clang exports more despite -fvisibility
        objects = sorted(str(path) for path in folder.rglob("*.o"))
        options = [openmp, "-shared", "-Wl,--version-script=exports", "-o", LIBRARY.name]
        _run([*compiler, *options, *objects, "-lm"], folder)
        (folder / LIBRARY.name).replace(LIBRARY)


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise BuildError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        first = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "no message")
        raise BuildError(f"{shlex.join(command[:1])} failed with status {done.returncode}: {first}")


def main() -> int:
    """Compile, and return the exit status."""
    try:
        threads = build(find_compiler(os.environ))
    except (BuildError, OSError) as error:
        sys.stderr.write(f"object2vec: error: the kernels are not compiled: {error}\n")
        return 1
    sys.stdout.write(f"{LIBRARY}: compiled{'' if threads else ' without OpenMP: its kernels use one thread'}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
