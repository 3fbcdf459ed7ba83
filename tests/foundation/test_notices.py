"""Alerts reach the operator however long it takes, and hold nothing up meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from foundation import notices as module
from foundation.notices import FILE, Notices


class Ear(BaseHTTPRequestHandler):
    """Answers with the statuses that are left, then with 200."""

    heard: list[Any] = []  # noqa: RUF012
    statuses: list[int] = []  # noqa: RUF012

    def do_POST(self) -> None:
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.statuses.pop(0) if self.statuses else 200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Ear.heard = []
    Ear.statuses = []
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


def test_an_alert_that_nobody_took_is_sent_by_the_next_process(ear: str, tmp_path: Path) -> None:
    silent = Notices(None, "http://127.0.0.1:9/", tmp_path)
    silent.alert("halt", "first")
    assert not silent.flush(0.3)
    assert json.loads((tmp_path / FILE).read_text())[0]["text"] == "first"
    with Notices(None, ear, tmp_path) as notices:
        assert notices.flush(20)
    assert [body["text"] for body in Ear.heard] == ["first"]


@pytest.mark.parametrize("content", ["[", "{}", '[{"text": 1}]', "[" * 100_000, "\x00"])
def test_kept_alerts_that_cannot_be_read_stop_nothing(
    ear: str, tmp_path: Path, content: str
) -> None:
    (tmp_path / FILE).write_text(content)
    with Notices(None, ear, tmp_path) as notices:
        notices.alert("halt", "now")
        assert notices.flush(20)
    assert [body["text"] for body in Ear.heard] == ["now"]


@pytest.mark.parametrize(
    "url", ["https://hooks..example.com/x", f"http://{'a' * 64}.test/", "http://ü:x@127.0.0.1:9/"]
)
def test_an_address_that_is_none_ends_no_thread(url: str, tmp_path: Path) -> None:
    notices = Notices(None, url, tmp_path)
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
