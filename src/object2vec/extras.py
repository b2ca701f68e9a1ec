"""Optional dependencies, which are imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from object2vec.errors import UserError


def import_extra(module: str, extra: str = "tables") -> Any:
    """Import a module of an extra.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        how = f"pip install 'object2vec[{extra}]'"
        need = "need" if extra.endswith("s") else "needs"
        raise UserError(f"{extra} {need} {module.partition('.')[0]}, which is not installed: {how}") from error
