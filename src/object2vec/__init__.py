"""Learn low-dimensional embeddings of objects from pairs of them.

`object2vec.fit(table, in0=..., in1=...)` trains a model, and `object2vec.load(path)` opens one. The command does the
same. What takes long to import is imported when it is used first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from object2vec.api import Model, fit, load
    from object2vec.schema.columns import List, Text, Token

__all__ = ["List", "Model", "Text", "Token", "__version__", "fit", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from object2vec.threads import bounded_spinning

    with bounded_spinning():  # the API imports torch
        columns = name in ("List", "Text", "Token")
        return getattr(import_module("object2vec.schema.columns" if columns else "object2vec.api"), name)
