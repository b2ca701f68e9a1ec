"""The page of a real model in a browser, served and from a file."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest
from werkzeug.serving import make_server

from browser import Browser, browser, needs_chromium
from object2vec.explore.application import create_app
from object2vec.explore.live_map import LiveMap
from object2vec.explore.map_data import build_map
from object2vec.trained_model import Model
from raw_models import film_schema, save_model, write_index

pytestmark = [pytest.mark.slow, needs_chromium]
HARMLESS = ("software WebGL", "GL Driver Message")
TITLES = ["Heat", "</script><script>document.title='bad'</script>", '"quoted"', "\U0001f600", "x" * 10_000, None]


def check(page: Browser, address: str) -> None:
    """Find a film by name: the page shows it, and its console has no error."""
    page.open(address)
    page.wait("document.documentElement?.dataset.ready")
    page.fill("#search", "Heat")
    page.wait("!document.getElementById('matches').hidden")
    page.fill("#search", "Heat\ue007")
    page.wait("document.querySelector('#selected h2')?.textContent.includes('Heat')")
    page.wait("document.querySelectorAll('tbody tr').length >= 5")
    assert page.run("document.title") != "bad"
    assert [text for text in page.messages() if not any(part in text for part in HARMLESS)] == []


def test_page_of_a_model_is_the_same_when_served_and_from_a_file(tmp_path: Path) -> None:
    path = save_model(tmp_path / "model", film_schema())
    genres = ["fun", "war", "fun|war", "war", "fun", "fun"]
    write_index(path, "in1", {"film": list("abcabc"), "genres": genres, "title": TITLES})
    model = Model.load(path)
    model.explore().save(tmp_path / "map.html")
    app = create_app(LiveMap(build_map(model), path), model)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        with browser() as page:
            check(page, f"http://127.0.0.1:{server.server_port}/")
            check(page, (tmp_path / "map.html").as_uri())
    finally:
        server.shutdown()
        server.server_close()
