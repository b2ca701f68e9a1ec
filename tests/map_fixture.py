"""A map with made-up objects: a server of its files, and the same map as one file."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import numpy as np

import object2vec
from object2vec.explore.export import join_modules

PAGE: Final = Path(object2vec.__file__).parent / "explore" / "page"
POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'"
)
TYPES: Final = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}
GENRES: Final = ["Drama", "Comedy", "Horror", "War", "Western", "Crime", "Musical", "Romance", "Action", "Noir"]
ODD_TITLES: Final = [
    "\"Quotes\" & 'apostrophes'",
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "فيلم عن البحر",
    "🎬 Emoji 👩‍👩‍👧",
    "long " * 2000,
    "",
]


def make_map(count: int, live: bool = True) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the metadata and the arrays of a map with `count` objects in ten clusters."""
    generator = np.random.default_rng(0)
    cluster = generator.integers(0, 10, count).astype(np.int16)
    centers = generator.uniform(-0.8, 0.8, (10, 2))
    places = np.clip(centers[cluster] + generator.normal(0, 0.08, (count, 2)), -1, 1).astype(np.float32)
    titles = (ODD_TITLES + [f"Film {number}" for number in range(count)])[:count]
    offsets = (np.arange(count + 1) * 2).astype(np.uint32)
    genres = np.stack([cluster, (cluster + 1) % 10], axis=1).astype(np.uint16)
    neighbors = (np.arange(count)[:, None] + 1 + np.arange(15)) % count
    arrays = {
        "titles": "\n".join(titles).encode(),
        "count": (count - np.arange(count)).astype(np.uint32).tobytes(),
        "cluster": cluster.tobytes(),
        "projection-pca": places.tobytes(),
        "column-0": "\n".join(titles).encode(),
        "column-1": genres.tobytes(),
        "column-1-offsets": offsets.tobytes(),
        "column-2": generator.integers(1950, 2020, count).astype(np.float32).tobytes(),
        "neighbors": neighbors.astype(np.uint32).tobytes(),
        "distances": np.tile(np.linspace(0.1, 0.9, 15, dtype=np.float32), (count, 1)).tobytes(),
    }
    metadata = {
        "version": 1,
        "model": "films",
        "side": "in1",
        "sides": ["in0", "in1"],
        "count": count,
        "live": live,
        "projections": [{"name": "pca", "label": "PCA", "neighbors_kept": 0.03, "same_cluster": 0.7, "seconds": 0.4}],
        "pending": None,
        "columns": [
            {"name": "title", "kind": "text"},
            {"name": "genres", "kind": "list", "values": GENRES},
            {"name": "year", "kind": "number", "min": 1950, "max": 2020},
        ],
        "title_column": "title",
        "clusters": [
            {"name": f"{name}, 1980-1989", "count": int((cluster == k).sum())} for k, name in enumerate(GENRES)
        ],
        "statistics": {
            "norms": {"edges": [0, 1, 2, 3], "counts": [3, 9, 2]},
            "hubs": [{"object": 20, "neighbor_of": 9}],
            "agreement": [{"column": "genres", "share": 0.6, "chance": 0.2}],
        },
        "training": {"metrics": [{"epoch": k, "train": 1 / (k + 1), "validation": 1.2 / (k + 1)} for k in range(5)]},
        "fields": [
            {"side": "in1", "column": "title", "kind": "text"},
            {"side": "in0", "column": "user", "kind": "token"},
        ],
    }
    return metadata, arrays


def answer(name: str, body: dict[str, Any], count: int) -> Any:
    """Return what a model replies; texts with `refused` are errors."""
    objects, distances = list(range(20, 35)), np.linspace(0.1, 0.9, 15).tolist()
    if name == "scores":
        return np.linspace(0, 1, count, dtype=np.float32)
    if name == "score":
        return {"score": 0.75, "kind": "cosine"}
    if name == "place":
        if "refused" in body["values"].get("title", ""):
            return {"error": "title: a value is missing"}
        return {"x": 0.1, "y": 0.2, "neighbors": {"objects": objects, "distances": distances}}
    return {"objects": objects, "distances": distances}


@contextmanager
def serve_map(count: int) -> Iterator[str]:
    """Yield the address of a page with a map."""
    metadata, arrays = make_map(count)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.split("?")[0].removeprefix("/")
            if name == "map.json":
                return self.reply(json.dumps(metadata).encode(), "application/json")
            if name.startswith("arrays/"):
                return self.reply(arrays[name.removeprefix("arrays/")], "application/octet-stream")
            path = PAGE / (name.removeprefix("page/") or "index.html")
            return self.reply(path.read_bytes(), TYPES[path.suffix])

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = answer(self.path.removeprefix("/"), body, count)
            data = found.tobytes() if isinstance(found, np.ndarray) else json.dumps(found).encode()
            self.reply(data, "application/octet-stream", 400 if isinstance(found, dict) and "error" in found else 200)

        def reply(self, data: bytes, kind: str, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Security-Policy", POLICY)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def write_export(path: Path, count: int) -> None:
    """Write a map as one file, with its modules joined and its data inside."""
    metadata, arrays = make_map(count, live=False)
    script = join_modules("main.js")
    written = json.dumps(metadata).replace("<", "\\u003c")
    data = f'<script type="application/json" id="map.json">{written}</script>'
    for name, values in arrays.items():
        data += f'<script type="text/plain" id="arrays/{name}">{b64encode(gzip.compress(values)).decode()}</script>'
    page = (PAGE / "index.html").read_text("utf-8")
    style = (PAGE / "style.css").read_text("utf-8")
    page = page.replace('<link rel="stylesheet" href="page/style.css">', f"<style>{style}</style>")
    page = re.sub('<script type="module" src="page/main.js"></script>', "", page)
    page = page.replace("</body>", f'{data}<script type="module">{script}</script></body>')
    path.write_text(page, "utf-8")
