"""Alerts reach the operator however long it takes, and hold nothing up meanwhile."""

# Private access: the sender is replaced and its lock held, so that the order is certain.
from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from foundation import notifier as module
from foundation.notices import ALL_CLEAR
from foundation.notifier import UNDELIVERED_FILE, Notifier
from tests.support.alerts import Alerts

PATIENCE = 60.0  # seconds until a test that waits for a thread gives up
NOBODY = "http://127.0.0.1:9/"  # the discard port: nothing listens


class Ear(BaseHTTPRequestHandler):
    """Answers with the statuses that are left, then with 200."""

    heard: list[Any] = []  # noqa: RUF012
    arrived = threading.Condition()
    statuses: list[int] = []  # noqa: RUF012
    refused: set[str] = set()  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.arrived:
            self.heard.append(body)
            self.arrived.notify_all()
        status = self.statuses.pop(0) if self.statuses else 200
        self.send_response(500 if body["text"] in self.refused else status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Ear.heard = []
    Ear.statuses = []
    Ear.refused = set()
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.05)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join(10)


def senders() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "notices"}


@pytest.fixture
def unended(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Notifier]]:
    """Notices of a process that is killed: nobody leaves their context. Their threads end here."""
    made: list[Notifier] = []
    earlier = senders()

    def make(*arguments: Any) -> Notifier:
        made.append(Notifier(*arguments))
        return made[-1]

    yield make
    monkeypatch.setattr(module, "EXIT_WAIT_SECONDS", 0.0)
    for each in made:
        each.__exit__()
    for thread in senders() - earlier:
        thread.join(PATIENCE)
    assert senders() <= earlier


def test_every_all_clear_notice_is_sent(ear: str, tmp_path: Path) -> None:
    alerts = Alerts()
    with Notifier(None, ear, tmp_path) as notices:
        notices.add_recorder(alerts)
        for kind in ("refused", ALL_CLEAR, "refused"):
            notices.send_notice(kind, f"{kind}!")
    assert [body["kind"] for body in Ear.heard] == ["refused", "all clear", "refused"]
    assert alerts.told == [(body["kind"], body["text"]) for body in Ear.heard]


def test_alert_is_retried_until_delivered(ear: str, tmp_path: Path) -> None:
    Ear.statuses = [500, 404, 429]
    earlier = senders()
    with Notifier(None, ear, tmp_path) as notices:
        notices.alert("halt", "x" * 3000)
        assert senders() - earlier
        assert notices.flush(PATIENCE)
    assert senders() <= earlier, "it ends with its context"
    assert len(Ear.heard) == 4
    assert Ear.heard[-1] == {"text": "x" * 3000, "content": "x" * 2000, "kind": "halt"}
    assert not (tmp_path / UNDELIVERED_FILE).exists()


def heard_texts() -> list[str]:
    return [body["text"] for body in Ear.heard]


def all_taken(ear: str, folder: Path, *texts: str) -> list[str]:
    """What is heard of the alerts of a folder and of these, once all have been taken."""
    with Notifier(None, ear, folder) as notices:
        for text in texts:
            notices.alert(text, text)
        assert notices.flush(PATIENCE)
    return heard_texts()


def test_refused_alert_does_not_block_others(ear: str, tmp_path: Path) -> None:
    Ear.refused = {"poison"}
    with Notifier(None, ear, tmp_path) as notices:
        for text in ("poison", "late"):
            notices.alert(text, text)
        with Ear.arrived:
            assert Ear.arrived.wait_for(lambda: "late" in heard_texts(), PATIENCE)
        Ear.refused = set()
        assert notices.flush(PATIENCE)
    assert heard_texts().count("late") == 1
    assert heard_texts()[-1] == "poison"


def test_heartbeat_does_not_wait_for_undelivered_alerts(
    monkeypatch: pytest.MonkeyPatch, unended: Callable[..., Notifier]
) -> None:
    alerting, beaten = threading.Event(), threading.Event()

    def send(_: Any, name: str, *rest: Any) -> bool:
        if name == "HEALTHCHECK_URL":
            beaten.set()
            return True
        alerting.set()
        return beaten.wait(PATIENCE)

    monkeypatch.setattr(module, "_sent", send)
    notices = unended(NOBODY, NOBODY)
    notices.alert("halt", "text")
    assert alerting.wait(PATIENCE)
    notices.send_heartbeat()
    assert beaten.wait(PATIENCE)
    assert notices.flush(PATIENCE)


def test_no_alert_is_longer_than_4000_characters(
    ear: str, tmp_path: Path, unended: Callable[..., Notifier]
) -> None:
    unended(None, NOBODY, tmp_path).alert("halt", "x" * 100_000)
    assert json.loads((tmp_path / UNDELIVERED_FILE).read_text())[0]["text"] == "x" * 4000
    old = {"text": "y" * 100_000, "content": "y" * 2000, "kind": "halt"}
    (tmp_path / UNDELIVERED_FILE).write_text(json.dumps([old]))
    assert all_taken(ear, tmp_path) == ["y" * 4000]


def test_undelivered_alert_is_sent_by_the_next_process(
    ear: str, tmp_path: Path, unended: Callable[..., Notifier]
) -> None:
    unended(None, NOBODY, tmp_path).alert("halt", "first")
    assert json.loads((tmp_path / UNDELIVERED_FILE).read_text())[0]["text"] == "first"
    assert all_taken(ear, tmp_path) == ["first"]


def test_notice_of_a_killed_process_is_sent_once(
    ear: str, tmp_path: Path, unended: Callable[..., Notifier]
) -> None:
    for _ in range(2):
        unended(None, NOBODY, tmp_path).send_notice(
            "stop filled", "sold 3 SYA", skip_if_pending=True
        )
    assert all_taken(ear, tmp_path) == ["sold 3 SYA"]


@pytest.mark.first_example
@pytest.mark.parametrize("content", ["[", "{}", '[{"text": 1}]', "[" * 100_000, "\x00"])
def test_unreadable_stored_alerts_are_ignored(ear: str, tmp_path: Path, content: str) -> None:
    (tmp_path / UNDELIVERED_FILE).write_text(content)
    assert all_taken(ear, tmp_path, "now") == ["now"]


@pytest.mark.parametrize(
    "url", ["https://hooks..example.com/x", f"http://{'a' * 64}.test/", "http://ü:x@127.0.0.1:9/"]
)
def test_invalid_alert_url_does_not_end_the_thread(
    url: str, unended: Callable[..., Notifier]
) -> None:
    earlier = senders()
    notices = unended(url, None)
    notices.send_heartbeat()
    assert notices.flush(PATIENCE)
    assert senders() - earlier


def test_new_text_of_active_alert_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notifier(None, None)
    for text in ("a", "a", "b", "a", "b"):
        notices.alert("step", text)
    assert caplog.messages == ["ALERT step: a", "still step: b"]
    notices.reset_alert("step")
    notices.alert("step", "b")
    assert caplog.messages[2:] == ["ALERT step: b"]


def test_delivered_alerts_begin_with_their_subject(ear: str) -> None:
    with Notifier(None, ear, subject="account paper-1") as notices:
        notices.alert("bars", "SYC: no bar")
        assert notices.flush(PATIENCE)
    assert [each["text"] for each in Ear.heard] == ["account paper-1: SYC: no bar"]
