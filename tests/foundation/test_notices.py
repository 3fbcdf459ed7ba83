"""Alerts reach the operator however long it takes, and hold nothing up meanwhile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from foundation import notices as module
from foundation.notices import FILE, Notices, _Alert, _Outbox


class Ear(BaseHTTPRequestHandler):
    """Refuses `refused`; answers with the statuses that are left, then with 200."""

    heard: list[Any] = []  # noqa: RUF012
    statuses: list[int] = []  # noqa: RUF012
    refused = ""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.heard.append(body)
        if body["text"] == self.refused:
            self.send_response(413)
        else:
            self.send_response(self.statuses.pop(0) if self.statuses else 200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Ear.heard = []
    Ear.statuses = []
    Ear.refused = ""
    monkeypatch.setattr(module, "FIRST_REPEAT", 0.05)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_an_alert_is_sent_until_it_is_taken(ear: str, tmp_path: Path) -> None:
    Ear.statuses = [500, 404, 429]
    with Notices(None, ear, tmp_path) as notices:
        notices.alert("halt", "x" * 3000)
        assert notices.flush(20)
    assert notices._thread is not None
    notices._thread.join(10)
    assert not notices._thread.is_alive(), "it ends with its context"
    assert len(Ear.heard) == 4
    assert Ear.heard[-1] == {"text": "x" * 3000, "content": "x" * 2000, "kind": "halt"}
    assert not (tmp_path / FILE).exists()


def heard_texts() -> list[str]:
    return [body["text"] for body in Ear.heard]


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_alert_that_is_refused_holds_up_no_other(
    ear: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_REPEAT", 0.5)
    Ear.refused = "poison"
    notices = Notices(None, ear, tmp_path)
    for text in ("poison", "second", "third"):
        notices.alert(text, text)
    wait_until(lambda: len(Ear.heard) >= 3)
    assert heard_texts()[:3] == ["poison", "second", "third"], "no pause between them"
    notices.alert("late", "late")
    wait_until(lambda: "late" in heard_texts())
    assert heard_texts().count("poison") == 1, "what is new does not wait for what was refused"
    wait_until(lambda: heard_texts().count("poison") == 3)
    assert [each["text"] for each in json.loads((tmp_path / FILE).read_text())] == ["poison"]
    Ear.refused = ""
    assert notices.flush(20)
    assert heard_texts().count("third") == 1
    assert not (tmp_path / FILE).exists()


def test_alerts_are_repeated_in_their_order(ear: str) -> None:
    Ear.statuses = [500, 500, 500]
    with Notices(None, ear) as notices:
        for text in ("first", "second", "third"):
            notices.alert(text, text)
        assert notices.flush(20)
    assert heard_texts() == 2 * ["first", "second", "third"]


def test_a_quiet_time_lengthens_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_REPEAT", 0.05)
    outbox = _Outbox([])
    for quiet in (0.06, 0.11, 0.21):
        assert outbox.due() is None
        time.sleep(quiet)
    alert = _Alert.of("halt", "text")
    outbox.alerts.append(alert)
    assert outbox.due() is alert
    alert.in_vain = True
    assert outbox.due() is None
    wait = outbox.seconds_to_wait()
    assert wait is not None
    assert wait <= 0.05


def test_no_alert_is_longer_than_4000_characters(ear: str, tmp_path: Path) -> None:
    silent = Notices(None, "http://127.0.0.1:9/", tmp_path)
    silent.alert("halt", "x" * 100_000)
    assert json.loads((tmp_path / FILE).read_text())[0]["text"] == "x" * 4000
    old = {"text": "y" * 100_000, "content": "y" * 2000, "kind": "halt"}
    (tmp_path / FILE).write_text(json.dumps([old]))
    with Notices(None, ear, tmp_path) as notices:
        assert notices.flush(20)
    assert heard_texts() == ["y" * 4000]


def test_an_alert_that_nobody_took_is_sent_by_the_next_process(ear: str, tmp_path: Path) -> None:
    silent = Notices(None, "http://127.0.0.1:9/", tmp_path)
    silent.alert("halt", "first")
    assert not silent.flush(0.3)
    assert json.loads((tmp_path / FILE).read_text())[0]["text"] == "first"
    with Notices(None, ear, tmp_path) as notices:
        assert notices.flush(20)
    assert heard_texts() == ["first"]


@pytest.mark.parametrize("content", ["[", "{}", '[{"text": 1}]', "[" * 100_000, "\x00"])
def test_kept_alerts_that_cannot_be_read_stop_nothing(
    ear: str, tmp_path: Path, content: str
) -> None:
    (tmp_path / FILE).write_text(content)
    with Notices(None, ear, tmp_path) as notices:
        notices.alert("halt", "now")
        assert notices.flush(20)
    assert heard_texts() == ["now"]


@pytest.mark.parametrize(
    "url", ["https://hooks..example.com/x", f"http://{'a' * 64}.test/", "http://ü:x@127.0.0.1:9/"]
)
def test_an_address_that_is_none_ends_no_thread(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foundation.notices.PARTING", 0.1)
    with Notices(None, url, tmp_path) as notices:
        notices.alert("halt", "text")
        assert not notices.flush(0.5)
        assert notices._thread is not None
        assert notices._thread.is_alive()


def test_a_folder_that_cannot_be_written_keeps_no_alert_from_going_out(
    ear: str, tmp_path: Path
) -> None:
    with Notices(None, ear, tmp_path / "nowhere") as notices:
        notices.alert("halt", "now")
        assert notices.flush(20)
    assert len(Ear.heard) == 1


def test_what_else_is_said_of_a_standing_alert_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notices = Notices(None, None)
    for text in ("a", "a", "b", "a", "b"):
        notices.alert("step", text)
    assert caplog.messages == ["ALERT step: a", "still step: b"]
    notices.end_alert("step")
    notices.alert("step", "b")
    assert caplog.messages[2:] == ["ALERT step: b"]
