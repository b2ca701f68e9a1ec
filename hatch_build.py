"""Compiles the kernels into the package where there is a compiler; without one the package works, slower."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/object2vec/kernels")
LIBRARY = FOLDER / "kernels.so"
FLAGS = ["-std=c11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-shared"]


class Kernels(BuildHookInterface):
    """Builds kernels.so beside its sources, for a wheel and for an editable install alike."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 -- the interface's
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
        if sys.platform != "linux" or compiler is None:
            self.app.display_warning("object2vec: no C compiler (Linux only), so no kernels: training will be slower")
            return
        root = Path(self.root)
        sources = sorted(str(path) for path in (root / FOLDER).glob("*.c"))
        subprocess.run([compiler, *FLAGS, "-o", str(root / LIBRARY), *sources, "-lm"], check=True)  # noqa: S603
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"].append(str(LIBRARY))
