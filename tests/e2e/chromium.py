"""A real browser for tests: Chromium without a window, asked over its own protocol."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 30.0  # seconds for an answer
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--remote-debugging-port=0", "--remote-allow-origins=*"),
)
ROOT = "document.documentElement"
# What sticks out of the page, though it lies in no box that scrolls by itself.
CUT = """Array.from(document.querySelectorAll('body *')).filter(e => !e.closest('.box, pre')
  && e.getClientRects().length && e.getBoundingClientRect().right
  > document.documentElement.clientWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
SMALL = """Array.from(document.querySelectorAll('figure canvas')).filter(e =>
  e.getClientRects().length && e.getBoundingClientRect().width < 150).map(e => e.width)"""
# Of a canvas, how many of its pixels are drawn upon.
INKED = """canvas => {
  const copy = document.createElement('canvas');
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const context = copy.getContext('2d', {willReadFrequently: true});
  context.drawImage(canvas, 0, 0);
  return context.getImageData(0, 0, copy.width, copy.height).data
    .filter((value, place) => place % 4 === 3 && value > 0).length }"""
PLACE = """(({left, top, width, height}) => [left, top, width, height])(
  document.querySelector('.u-over').getBoundingClientRect())"""
# Boxes whose table goes on beyond an edge at which nothing shows that it does: the shades stay,
# and what covers them moves with the table.
UNSHADED = """Array.from(document.querySelectorAll('.box')).filter(e =>
  e.scrollWidth > e.clientWidth + 1 && !(
    getComputedStyle(e).backgroundImage.split('linear-gradient').length === 5 &&
    getComputedStyle(e).backgroundAttachment === 'local, local, scroll, scroll'
  )).map(e => e.getAttribute('aria-label'))"""


def installed() -> str | None:
    """The path of a Chromium on this machine."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Page:
    """A page that is open. complaints: what the browser refused or could not do."""

    connection: ClientConnection
    session: str
    numbers: Iterator[int]
    complaints: list[str] = field(default_factory=list)

    def ask(self, method: str, **values: Any) -> dict[str, Any]:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": values}
        if self.session:
            message["sessionId"] = self.session
        self.connection.send(json.dumps(message))
        while (answer := self._read()).get("id") != number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def wait(self, event: str) -> None:
        while self._read().get("method") != event:
            pass

    def _read(self) -> dict[str, Any]:
        """What comes next of this page; what its browser says of another one is passed over."""
        while True:
            answer: dict[str, Any] = json.loads(self.connection.recv(PATIENCE))
            if answer.get("sessionId", "") == self.session:
                break
        if answer.get("method") == "Log.entryAdded":
            self.complaints.append(answer["params"]["entry"]["text"])
        if answer.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(answer["params"]["exceptionDetails"]))
        return answer

    def open(self, address: str, width: int, *, dark: bool = False) -> None:
        """Open an address in a window so many pixels wide."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.scheme(dark=dark)
        self.ask("Page.navigate", url=address)
        self.wait("Page.loadEventFired")

    def scheme(self, *, dark: bool) -> None:
        """The reader's choice of colours."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def value(self, expression: str) -> Any:
        """What an expression is on the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def mouse(self, what: str, x: float, y: float, clicks: int = 0) -> None:
        """The pointer moves, or its first button is pressed or let go, at a place of the window."""
        self.ask(
            "Input.dispatchMouseEvent",
            type=f"mouse{what}",
            x=x,
            y=y,
            button="left" if clicks else "none",
            clickCount=clicks,
        )

    def settle(self) -> None:
        """Wait until what has changed is drawn."""
        frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.ask("Runtime.evaluate", expression=frames, awaitPromise=True)


@contextmanager
def opened(browser: Page) -> Iterator[Page]:
    """An empty page of a browser, with nothing of what another one has kept."""
    context = browser.ask("Target.createBrowserContext")["browserContextId"]
    made = browser.ask("Target.createTarget", url="about:blank", browserContextId=context)
    attached = browser.ask("Target.attachToTarget", targetId=made["targetId"], flatten=True)
    page = Page(browser.connection, attached["sessionId"], browser.numbers)
    for domain in ("Page", "Runtime", "Log"):
        page.ask(f"{domain}.enable")
    yield page
    browser.ask("Target.disposeBrowserContext", browserContextId=context)


@contextmanager
def browsing(program: str) -> Iterator[Page]:
    """A browser, asked as a whole, which ends with what is within."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        try:
            with connect(_address(process), max_size=None) as connection:
                whole = Page(connection, "", itertools.count(1))
                yield whole
                whole.ask("Browser.close")
            process.wait(PATIENCE)
        finally:
            _end(process)


def look_at_all_widths(page: Page, file: Path, titles: tuple[str, ...]) -> None:
    """On a phone, a tablet and a desk, and there in the dark, nothing of a page is cut off, these
    words are on it, and the browser has nothing to complain about.
    """
    for width, dark in ((390, False), (768, False), (1280, False), (1280, True)):
        page.open(file.as_uri(), width, dark=dark)
        ground = page.value("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(14, 19, 27)" if dark else "rgb(255, 255, 255)")
        # Everything that can be opened is.
        page.value("document.querySelectorAll('details').forEach(e => e.open = true)")
        assert page.value(f"{ROOT}.scrollWidth <= {ROOT}.clientWidth")
        for unseen in (CUT, SMALL, UNSHADED):
            assert page.value(unseen) == []
        shown = page.value("document.body.innerText")
        for title in titles:
            assert title in shown
    assert page.complaints == []


def look_at_charts(page: Page, count: int) -> None:
    """So many charts are drawn, no wider than the page; the first one tells the values below the
    pointer, shows a stretch that is dragged over, and all of it after a double click.
    """
    page.value("document.querySelectorAll('details').forEach(e => e.open = true)")
    page.settle()
    figures = "document.querySelectorAll('figure:not([hidden]) canvas')"
    drawn = page.value(f"Array.from({figures}, {INKED})")
    assert len(drawn) == count
    assert min(drawn) > 200
    assert page.value(f"{ROOT}.scrollWidth <= {ROOT}.clientWidth")
    page.value("document.querySelector('.u-over').scrollIntoView({block: 'center'})")
    page.settle()
    left, top, width, height = page.value(PLACE)
    middle = top + height / 2

    def told(share: float) -> str:
        page.mouse("Moved", left + width * share, middle)
        page.settle()
        text: str = page.value("document.querySelector('.u-legend').innerText")
        assert len(re.findall(r"\d", text)) > 3
        return text

    places = {share: told(share) for share in (0.1, 0.5, 0.9)}
    assert len(set(places.values())) == 3
    page.mouse("Pressed", left + width * 0.5, middle, 1)
    page.mouse("Moved", left + width * 0.9, middle, 1)
    page.mouse("Released", left + width * 0.9, middle, 1)
    page.settle()
    assert told(0.1) != places[0.1]
    for number in (1, 2):
        page.mouse("Pressed", left + width * 0.1, middle, number)
        page.mouse("Released", left + width * 0.1, middle, number)
    page.settle()
    told(0.5)
    assert told(0.1) == places[0.1]
    assert page.complaints == []


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"listening on (ws://\S+)", line):
            return found[1]
    raise AssertionError("the browser ended before it listened")


def _end(process: subprocess.Popen[str]) -> None:
    """The browser and what it has started, which are a group of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    process.stderr.close()
