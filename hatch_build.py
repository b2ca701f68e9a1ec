"""Compile the kernels into a wheel or an editable install; without a C compiler the package works, but slower."""

from __future__ import annotations

import os
import sys
import sysconfig
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Kernels(BuildHookInterface):
    """Build kernels.so next to its sources, and pack it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 -- the interface's
        """Compile the kernels. A failure is a warning, and the package has no kernels."""
        builder = _builder(Path(self.root))
        builder.LIBRARY.unlink(missing_ok=True)
        if sys.platform != "linux":
            self._warn(f"they need Linux, not {sys.platform}")
            return
        try:
            threads = builder.build(builder.find_compiler(os.environ))
        except (builder.BuildError, OSError) as error:
            self._warn(str(error))
            return
        if not threads:
            self.app.display_warning("object2vec: the C compiler has no OpenMP, so the kernels use one thread")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"].append(str(builder.LIBRARY.relative_to(self.root)))

    def _warn(self, reason: str) -> None:
        self.app.display_warning(f"object2vec: no C kernels, so training on a CPU will be slower: {reason}")


def _builder(root: Path) -> ModuleType:
    """Load ops/build.py by its path: the package cannot be imported before its dependencies are installed."""
    spec = spec_from_file_location("build_kernels", root / "src/object2vec/ops/build.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{root}: no src/object2vec/ops/build.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
