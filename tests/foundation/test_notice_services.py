"""Notices reach services through apprise; secrets are kept, and nothing waits."""

# Private access: a service's plugin is replaced by one that raises.
from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundation import notifier as module
from foundation.errors import InputError
from foundation.notices import ALL_CLEAR, NoticeService, open_services
from foundation.notifier import MonitoringSettings, Notifier
from tests.support.messages import refused
from tests.support.receiver import PATIENCE, SECRET, Receiver, receiving

pytest.importorskip("apprise")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.05)
    with receiving() as server:
        yield server


def test_services_receive_alerts_with_kind_and_text(receiver: Receiver) -> None:
    with Notifier(None, None, services=open_services(receiver.url())) as notices:
        notices.alert("halt drawdown", "lost 21 %")
        notices.alert("halt drawdown", "lost 22 %")
        notices.send_notice(ALL_CLEAR, "orders are accepted")
        assert notices.flush(PATIENCE)
    shown = [(body["title"], body["message"], body["type"]) for _, body in receiver.received]
    assert shown == [
        ("ALERT halt drawdown", "lost 21 %", "failure"),
        ("ALL CLEAR", "orders are accepted", "info"),
    ]


def test_one_refusing_service_delays_no_other(receiver: Receiver, tmp_path: Path) -> None:
    receiver.held["slow"] = threading.Event()
    urls = f"{receiver.url('slow')} {receiver.url()}"
    with Notifier(None, None, tmp_path, services=open_services(urls)) as notices:
        for text in ("one", "two"):
            notices.alert(text, text)
        slow, fast = notices._recipients
        assert fast.flush(PATIENCE)
        assert receiver.texts() == ["one", "two"]
        assert not slow.flush(0.0)
        receiver.held["slow"].set()
        assert notices.flush(PATIENCE)
    assert receiver.texts("slow") == ["one", "two"]
    assert list(tmp_path.iterdir()) == []


def test_undelivered_notices_reach_services_after_a_restart(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXIT_WAIT_SECONDS", 0.2)
    receiver.refused.add("a")
    with Notifier(None, None, tmp_path, services=open_services(receiver.url())) as notices:
        notices.alert("halt", "kept")
    [file] = tmp_path.iterdir()
    assert SECRET not in file.read_text()
    receiver.refused.clear()
    with Notifier(None, None, tmp_path, services=open_services(receiver.url())) as notices:
        assert notices.flush(PATIENCE)
    assert receiver.texts()[-1] == "kept"
    assert not file.exists()


def test_invalid_address_is_refused_without_showing_it(receiver: Receiver) -> None:
    with refused(InputError, "notice_urls") as caught:
        MonitoringSettings(notice_urls=f"{receiver.url()} nonsense://{SECRET}")
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


def test_missing_apprise_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    with refused(InputError, "apprise", "notices"):
        open_services("json://127.0.0.1/")


class Raising:
    service_name = "Raising"

    def notify(self, **_: object) -> bool:
        raise RuntimeError(f"https://example.test/{SECRET}")


def test_no_log_line_shows_a_services_address(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXIT_WAIT_SECONDS", 0.2)
    receiver.refused.add("a")
    webhook = f"http://127.0.0.1:{receiver.server_port}/{SECRET}"
    raising = NoticeService("notice_urls 3", Raising())  # type: ignore[arg-type]
    services = [*open_services(f"{receiver.url()} json://127.0.0.1:9/{SECRET}"), raising]
    caplog.set_level(logging.DEBUG)
    settings = MonitoringSettings(notice_urls=receiver.url(), alert_url=webhook)
    with Notifier(webhook, webhook, services=services) as notices:
        notices.send_heartbeat()
        notices.alert("halt", "text")
        assert not notices.flush(1.0)
    for name in ("notice_urls 1 (JSON)", "notice_urls 2 (JSON)", "notice_urls 3", "RuntimeError"):
        assert name in caplog.text
    assert SECRET not in caplog.text
    assert SECRET not in repr(settings)
