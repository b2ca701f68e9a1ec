"""One HTML file with the page and its map, which works offline from a disk."""

from __future__ import annotations

import gzip
import hashlib
import re
from base64 import b64encode
from html import escape
from pathlib import Path
from typing import Final

from object2vec.explore.map_data import MapData

PAGE: Final = Path(__file__).with_name("page")
STYLE: Final = '<link rel="stylesheet" href="page/style.css">'
SCRIPT: Final = '<script type="module" src="page/main.js"></script>'
CHARSET: Final = '<meta charset="utf-8">'
_IMPORT: Final = re.compile(r'^import \{[^}]*\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(async )?(function|const|let|class) )", re.MULTILINE)


class MapPage:
    """The exported page of a map. A notebook shows it in a frame."""

    def __init__(self, html: str) -> None:
        self.html = html

    def _repr_html_(self) -> str:
        style = "width: 100%; height: 640px; border: 0"
        return f'<iframe srcdoc="{escape(self.html)}" style="{style}" sandbox="allow-scripts"></iframe>'

    def save(self, path: str | Path) -> None:
        """Write the page to a file."""
        Path(path).write_text(self.html, "utf-8")


def to_html(data: MapData) -> str:
    """Return the page as one file; the same bytes for the same map."""
    style, script = (PAGE / "style.css").read_text("utf-8"), join_modules("main.js")
    parts = [f'<script type="application/json" id="map.json">{data.to_json(live=False)}</script>']
    for name, array in data.exported_arrays.items():
        text = b64encode(gzip.compress(array, mtime=0)).decode()
        parts.append(f'<script type="text/plain" id="arrays/{name}">{text}</script>')
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src blob: data:"
    page = (PAGE / "index.html").read_text("utf-8")
    for old, new in (
        (CHARSET, f'{CHARSET}<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        (STYLE, f"<style>{style}</style>"),
        (SCRIPT, "\n".join([*parts, f'<script type="module">{script}</script>'])),
    ):
        if page.count(old) != 1:
            raise ValueError(f"index.html has {old} {page.count(old)} times, wanted once")
        page = page.replace(old, new)
    return page


def join_modules(name: str, seen: set[str] | None = None) -> str:
    """Return a module of the page after those that it imports, without imports and exports."""
    seen = set() if seen is None else seen
    if name in seen:
        return ""
    seen.add(name)
    text = (PAGE / name).read_text("utf-8")
    imported = "".join(join_modules(each, seen) for each in _IMPORT.findall(text))
    return imported + _EXPORT.sub("", _IMPORT.sub("", text))


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
