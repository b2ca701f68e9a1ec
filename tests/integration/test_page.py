"""The page of a model in a browser: fill the form, and read the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from browser import Browser, browser, needs_chromium
from object2vec.schema.label import Label
from raw_models import FILMS, USERS, save_model, schema_of, write_index
from servers import Server

pytestmark = [pytest.mark.slow, needs_chromium]
HOSTILE = "<script>document.title = 'bad'</script><img src=http://127.0.0.1:9/x onerror=alert(1)>"
OUTPUT = "document.querySelector('output').innerText"


@pytest.fixture(scope="module")
def session() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module", params=["raw", "ids"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    users, films = [{"15": 3, "22": 2}], [{"Heat": 3, HOSTILE: 2}, {"crime": 2, "war": 1}]
    label = Label("opinion", "class", ("<b>bad</b>", "good"))
    model = save_model(folder / "model", schema_of((USERS, users), (FILMS, films), label=label))
    write_index(model, "in1", {"film": ["Heat", HOSTILE], "genres": ["crime", "war"], "year": [1995, None]})
    if request.param == "ids":
        (model / "schema.json").unlink()
        write_index(model, "in1", {"tokens": [[4, 6], [5, 7]]})
    found = Server(model, folder / "log", SAGEMAKER_MODEL_SERVER_WORKERS="1")
    yield found
    found.stop()


@pytest.fixture
def page(session: Browser, server: Server) -> Browser:
    """Open the page with an empty log."""
    session.messages(), session.requests()
    session.open(f"http://127.0.0.1:{server.port}/")
    return session


raw = pytest.mark.parametrize("server", ["raw"], indirect=True)
ids = pytest.mark.parametrize("server", ["ids"], indirect=True)


def send(page: Browser, button: str = "button") -> str:
    """Click a button, and return what is shown then."""
    page.run("document.querySelector('output').replaceChildren()")
    page.click(button)
    return str(page.wait(OUTPUT))


@raw
def test_raw_values_are_answered(page: Browser) -> None:
    page.fill("#in0-0", "22")
    page.fill("#in1-1", "crime| war")
    answer = send(page)
    assert answer.count(" %") == 2
    assert "<b>bad</b>" in answer
    assert '"predictions":[{"scores":[' in answer
    assert '"genres":["crime","war"]' in page.run("document.querySelector('textarea').value").replace(" ", "").replace(
        "\n", ""
    )
    assert "not in training" not in page.run("document.body.innerText")


@raw
def test_an_unknown_value_is_marked_until_it_is_replaced(page: Browser) -> None:
    page.fill("#in1-0", "Alien")
    send(page)
    notes = "[...document.querySelectorAll('.note')].filter((note) => note.innerText).map((note) => note.id)"
    assert page.run(notes) == ["in1-0-note"]
    page.fill("#in1-0", "Heat")
    send(page)
    assert page.run(notes) == []


@raw
def test_a_hostile_value_is_shown_as_text(page: Browser) -> None:
    assert page.run("document.querySelectorAll('#in1-0-values option')[1].value") == HOSTILE
    page.fill("#in1-0", HOSTILE + "?")
    assert '"unknown":["film"]' in send(page)
    page.fill("#in0-0", "")
    request = json.dumps({"instances": [{"in0": {HOSTILE: 1}}]})
    page.run("document.querySelector('textarea').value = arguments[0]", request)
    assert 'has the column "<script>' in send(page)
    assert page.run("[document.title, document.images.length, document.scripts.length]") == ["object2vec", 0, 1]


@raw
def test_one_side_alone_gives_its_embedding(page: Browser) -> None:
    page.fill("#in0-0", "")
    assert send(page).startswith("An embedding of 4 numbers.")


@raw
def test_similar_objects_and_recommendations_are_shown(page: Browser) -> None:
    page.fill("#in1-0", "Heat")
    page.fill("#in1-1", "crime")
    assert HOSTILE in send(page, "button[name=neighbors]")
    assert page.run("[...document.querySelectorAll('tr:first-child th')].map((cell) => cell.innerText)")[:4] == [
        "film",
        "genres",
        "year",
        "score",
    ]
    assert "1995" in send(page, "button[name=recommendations]")
    assert page.run("document.querySelectorAll('output tr').length") == 3


@ids
def test_recommendations_are_shown_as_token_ids(page: Browser) -> None:
    assert "4, 6" in send(page, "button[name=recommendations]")


@ids
def test_token_ids_are_answered(page: Browser) -> None:
    page.fill("#in0-0", "1, 2")
    assert send(page).count(" %") == 2


@ids
@pytest.mark.parametrize(("value", "message"), [("1,99", "99"), ("x", 'string "x"')])
def test_an_error_is_shown(page: Browser, value: str, message: str) -> None:
    page.fill("#in0-0", value)
    assert "instances[0]" in send(page)
    alert = page.run("document.querySelector('[role=alert]').innerText")
    assert message in alert


@ids
def test_a_server_that_has_ended_is_named(page: Browser) -> None:
    page.command("Network.enable", {})
    page.command(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    try:
        assert send(page).startswith("No answer: ")
    finally:
        page.command(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
        )


def test_the_page_asks_only_its_own_server_and_breaks_no_policy(page: Browser, server: Server) -> None:
    send(page)
    own = f"http://127.0.0.1:{server.port}/"
    assert set(page.requests()) <= {own, f"{own}invocations", "data:,"}
    assert page.messages() == []
    page.run(
        "document.head.append(Object.assign(document.createElement('script'), {textContent: 'document.title = 1'}))"
    )
    assert page.run("document.title") == "object2vec"


def test_every_field_has_a_name_and_a_narrow_page_does_not_scroll_sideways(page: Browser) -> None:
    page.click("details summary")
    for field in page.run("[...document.querySelectorAll('input, textarea')].map((field) => field.id || 'textarea')"):
        assert page.label(f"#{field}" if field != "textarea" else field)
    assert page.run("document.documentElement.lang") == "en"
    page.to_phone(320)
    try:
        send(page)
        assert page.run("document.documentElement.scrollWidth") <= 320
    finally:
        page.command("Emulation.clearDeviceMetricsOverride", {})
