"""A browser for tests: Chromium without a window, driven by the WebDriver protocol of chromedriver."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from servers import free_port

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver: apt-get install chromium chromium-driver"
)
#: Switches for a container, whose user is root and whose shared memory is small.
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--force-color-profile=srgb"]
WAIT_SECONDS = 60
#: Keys of WebDriver: Control with A, then no key held; and Backspace.
SELECT_ALL, BACKSPACE = "\ue009a\ue000", "\ue003"


class Browser:
    """A session of a browser; every method raises AssertionError with the driver's message if it fails."""

    def __init__(self, driver: str) -> None:
        self.session = driver
        options = {"args": ARGUMENTS, "binary": CHROMIUM}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        found = self.send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"{driver}/session/{found['sessionId']}"

    def send(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.session + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def open(self, url: str) -> None:
        self.send("POST", "/url", {"url": url})

    def run(self, script: str, *values: Any) -> Any:
        """Return the value of a JavaScript expression in the page; `arguments` holds the values."""
        return self.send("POST", "/execute/sync", {"script": f"return {script};", "args": list(values)})

    def wait(self, script: str) -> Any:
        """Wait until an expression is true, and return its value."""
        until = time.monotonic() + WAIT_SECONDS
        while not (value := self.run(script)):
            assert time.monotonic() < until, f"{script} stays {value!r}"
            time.sleep(0.02)
        return value

    def fill(self, selector: str, text: str) -> None:
        """Replace the text of a field as a person does, by keys."""
        self.send("POST", f"/element/{self.find(selector)}/value", {"text": SELECT_ALL + (text or BACKSPACE)})

    def click(self, selector: str) -> None:
        self.send("POST", f"/element/{self.find(selector)}/click", {})

    def find(self, selector: str) -> str:
        found = self.send("POST", "/element", {"using": "css selector", "value": selector})
        return str(next(iter(found.values())))

    def label(self, selector: str) -> str:
        """Return the name that a screen reader gives an element."""
        return str(self.send("GET", f"/element/{self.find(selector)}/computedlabel"))

    def to_phone(self, width: int) -> None:
        """Show the page as a phone with a narrow screen does."""
        size = {"width": width, "height": 640, "deviceScaleFactor": 1, "mobile": True}
        self.command("Emulation.setDeviceMetricsOverride", size)

    def command(self, name: str, parameters: dict[str, Any]) -> Any:
        return self.send("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def messages(self) -> list[str]:
        """Return the messages of the console, such as errors of scripts and violations of the security policy."""
        return [entry["message"] for entry in self.send("POST", "/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Return the addresses that were requested since the last call."""
        events = [
            json.loads(entry["message"])["message"] for entry in self.send("POST", "/se/log", {"type": "performance"})
        ]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@contextmanager
def browser() -> Iterator[Browser]:
    """Yield a browser, and end it afterwards."""
    port = free_port()
    process = subprocess.Popen([str(DRIVER), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                found = Browser(f"http://127.0.0.1:{port}")
                break
            except OSError:  # it does not listen yet
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
        try:
            yield found
        finally:
            found.send("DELETE", "")
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)
