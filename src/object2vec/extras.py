"""Optional dependencies, which are imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from object2vec.errors import UserError


def import_for_tables(module: str) -> Any:
    """Import a module of the extra for tables.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        how = "pip install 'object2vec[tables]'"
        raise UserError(f"tables need {module}, which is not installed: {how}") from error
