"""The page of a map in a browser: search, selection, colors, filters, labels, links and the file."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import Browser, browser, needs_chromium
from map_fixture import ODD_TITLES, serve_map, write_export

pytestmark = [pytest.mark.slow, needs_chromium]
COUNT = 2000
HARMLESS = ("software WebGL", "GL Driver Message", "status of 400")
HEADING = "document.querySelector('#selected h2')?.textContent"
OVERLAPS = """(() => { const boxes = [...document.querySelectorAll('#labels text')]
  .map((n) => n.getBoundingClientRect());
  return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => a.left < b.right - 1 && b.left < a.right - 1
    && a.top < b.bottom - 1 && b.top < a.bottom - 1)).length; })()"""


@pytest.fixture(scope="module")
def session() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve_map(COUNT) as found:
        yield found


@pytest.fixture
def page(session: Browser, address: str) -> Iterator[Browser]:
    """Open the page; afterwards, its console has no error and it asked no other host."""
    session.messages(), session.requests()
    show(session, address)
    yield session
    assert [text for text in session.messages() if not any(part in text for part in HARMLESS)] == []
    assert [url for url in session.requests() if not url.startswith((address, "data:", "about:", "blob:"))] == []


def show(page: Browser, address: str, width: int = 1400, height: int = 900, scheme: str = "light") -> None:
    """Open an address in a window of a size, and wait until it is ready."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    page.command("Emulation.setDeviceMetricsOverride", size)
    page.command("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    page.open("about:blank")
    page.open(address)
    page.wait("document.documentElement?.dataset.ready")
    page.wait("document.querySelectorAll('#labels text').length > 5")


def find(page: Browser, text: str) -> None:
    """Search for a title, press Enter and wait until its object is selected."""
    page.fill("#search", text)
    page.wait("!document.getElementById('matches').hidden")
    page.fill("#search", f"{text}\ue007")
    page.wait(f"{HEADING} && document.querySelectorAll('#neighbors tbody tr').length === 15")


def change(page: Browser, name: str, value: str) -> None:
    page.run(
        "(() => { const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        " e.dispatchEvent(new Event('change')); return true; }).apply(null, arguments)",
        name,
        value,
    )


def settings(page: Browser) -> dict[str, Any]:
    page.wait("location.hash.includes('z=')")
    return dict(page.run("Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"))


def test_search_selects_an_object_with_its_neighbors(page: Browser) -> None:
    find(page, "Film 23")
    assert page.run(HEADING) == "Film 23"
    page.wait("document.querySelectorAll('#labels .neighbor').length === 15")
    assert "genres" in page.run("document.getElementById('selected').innerText")


def test_click_on_a_point_selects_it(page: Browser) -> None:
    find(page, "Film 23")
    page.wait("location.hash.includes('s=30')")
    page.run("document.querySelector('#selected').replaceChildren()")
    element = page.find("#map")
    origin = {"element-6066-11e4-a52e-4f735466cecf": element}
    move = {"type": "pointerMove", "duration": 0, "origin": origin, "x": 0, "y": 0}
    steps = [move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
    pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
    page.send("POST", "/actions", {"actions": [pointer]})
    assert page.wait(HEADING) == "Film 23"


def test_legend_filters_and_link_restores_the_view(page: Browser) -> None:
    change(page, "color", "column-1")
    find(page, "Film 23")
    page.click("#legend button")
    page.wait("location.hash.includes('f=0')")
    link = page.run("location.href")
    show(page, str(link))
    assert page.run("document.querySelector('#legend button').ariaPressed") == "true"
    assert page.run(HEADING) == "Film 23"
    assert page.run("document.getElementById('color').value") == "column-1"


def test_number_has_ranges_in_the_legend(page: Browser) -> None:
    change(page, "color", "column-2")
    page.wait("document.querySelectorAll('#legend button').length === 7")
    assert str(page.run("document.querySelector('#legend span').textContent")).startswith("1950 ")


def test_scores_color_the_map_and_a_pair_has_a_score(page: Browser) -> None:
    find(page, "Film 23")
    page.click("#compare")
    page.click("#neighbors td button")
    page.wait("document.getElementById('pair').textContent.endsWith('cosine 0.75')")
    page.click("#taste")
    page.wait("document.querySelector('#legend span').textContent.startsWith('0 ')")


def test_typed_values_of_the_other_side_color_the_map_by_score(page: Browser) -> None:
    page.click("#partner summary")
    page.fill("#partner-0", "user 7")
    page.click("#partner-form button")
    page.wait("document.querySelector('#legend span').textContent.startsWith('0 ')")
    find(page, "Film 23")
    assert "score" in page.run("document.getElementById('selected').innerText")
    show(page, str(page.wait("location.hash.includes('s=30') && location.href")))
    assert page.run("document.getElementById('color').value") == "scores"


def test_raw_values_are_placed_and_an_error_is_shown(page: Browser) -> None:
    page.click("#raw summary")
    page.fill("#raw-0", "a new film")
    page.click("#raw-form button")
    assert page.wait(HEADING) == "Your values"
    page.fill("#raw-0", "refused")
    page.click("#raw-form button")
    assert page.wait("document.getElementById('message').textContent") == "title: a value is missing"


def test_keys_move_zoom_and_select(page: Browser) -> None:
    before = settings(page)
    page.run("document.getElementById('map').focus()")
    page.send("POST", f"/element/{page.find('#map')}/value", {"text": "+\ue012"})
    page.wait(f"!location.hash.includes('z={before['z']}&')")
    assert float(settings(page)["z"]) > float(before["z"])
    page.send("POST", f"/element/{page.find('#map')}/value", {"text": "\ue007"})
    page.wait(HEADING)


@pytest.mark.parametrize("size", [(360, 740), (1400, 900), (2560, 1440)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_label_overlaps_another(page: Browser, address: str, size: tuple[int, int], scheme: str) -> None:
    show(page, address, *size, scheme)
    assert page.run(OVERLAPS) == 0
    assert page.run("document.documentElement.scrollWidth <= innerWidth")


def test_odd_titles_are_shown_and_not_executed(page: Browser) -> None:
    for number in range(len(ODD_TITLES)):
        show(page, settings_link(page, number))
        assert page.wait(HEADING) == (ODD_TITLES[number][:299] + "…" * (len(ODD_TITLES[number]) > 300) or "object 6")
    assert page.run("window.hacked") is None


def settings_link(page: Browser, number: int) -> str:
    return f"{page.run('location.origin')}/#s={number}"


def test_picture_is_a_png(page: Browser) -> None:
    page.run(
        "(() => { HTMLAnchorElement.prototype.click = function () { window.saved = this.download; };"
        " URL.createObjectURL = (blob) => { window.kind = [blob.type, blob.size > 5000]; return ''; }; return 1; })()"
    )
    page.click("#picture")
    assert page.wait("window.saved") == "films.png"
    assert page.run("window.kind") == ["image/png", True]


def test_judgement_compares_neighbors_with_chance(page: Browser) -> None:
    page.click("aside > details:last-of-type summary")
    text = str(page.run("document.getElementById('judgement').innerText"))
    assert "PCA keeps 3 % of the nearest neighbors" in text
    assert "Nearest neighbors share genres: 60 %; by chance 20 % (3 " in text
    assert page.run("document.querySelectorAll('#judgement svg').length") == 2


def test_file_works_from_disk(session: Browser, tmp_path: Path) -> None:
    write_export(tmp_path / "map.html", COUNT)
    session.messages(), session.requests()
    show(session, f"file://{tmp_path}/map.html")
    find(session, "Film 23")
    assert session.run("document.getElementById('actions').hidden")
    assert [url for url in session.requests() if not url.startswith(("file:", "data:", "about:"))] == []
    assert [text for text in session.messages() if not any(part in text for part in HARMLESS)] == []


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the script of axe-core, which finds violations of accessibility."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    if not npm:
        pytest.skip("needs npm, to install axe-core")
    command = [npm, "install", "--prefix", str(folder), "--no-save", "--ignore-scripts", "axe-core@4"]
    if subprocess.run(command, capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("needs axe-core, which npm could not install")
    return (folder / "node_modules/axe-core/axe.min.js").read_text("utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_axe_finds_no_serious_violation(page: Browser, address: str, axe: str, scheme: str, width: int) -> None:
    show(page, f"{address}#s=30", width, 800, scheme)
    page.wait(HEADING)
    page.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    page.run("(0, eval)(arguments[0])", axe)
    page.run("axe.run().then((found) => { window.found = found; }) && true")
    found = page.wait("window.found")["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in serious] == []
