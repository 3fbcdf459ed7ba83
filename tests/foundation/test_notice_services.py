"""Notices reach services through apprise; secrets and quiet hours are kept, and nothing waits."""

# Private access: a service's plugin is replaced by one that raises.
from __future__ import annotations

import logging
import threading
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from foundation import notifier as module
from foundation.clock import TimeSource
from foundation.errors import InputError
from foundation.notices import (
    ALL_CLEAR,
    DAILY_SUMMARY,
    STOP_FILLED,
    TRADING_PAUSED,
    NoticeService,
    NoticeSettings,
    QuietHours,
    open_services,
)
from foundation.notifier import MonitoringSettings, Notifier
from tests.support.messages import refused
from tests.support.receiver import PATIENCE, SECRET, Receiver, receiving

pytest.importorskip("apprise")

NIGHT, MORNING = "2024-02-21T04:00", "2024-02-21T13:00"  # 23:00 and 08:00 in New York
QUIET = NoticeSettings(quiet="22:00-07:00")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.05)
    with receiving() as server:
        yield server


def clock(at: str) -> TimeSource:
    return TimeSource(now=lambda: np.datetime64(at, "ns"))


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


def test_pictures_are_attached_while_they_exist(receiver: Receiver, tmp_path: Path) -> None:
    picture = tmp_path / "summary.png"
    picture.write_bytes(b"\x89PNG")
    with Notifier(None, None, services=open_services(receiver.url())) as notices:
        notices.send_unrecorded(DAILY_SUMMARY, "first", str(picture))
        assert notices.flush(PATIENCE)
        picture.unlink()
        notices.send_unrecorded(DAILY_SUMMARY, "second", str(picture))
        assert notices.flush(PATIENCE)
    first, second = (body["attachments"] for _, body in receiver.received)
    assert b64decode(first[0]["base64"]) == b"\x89PNG"
    assert second == []
    assert receiver.texts() == ["first", "second"]


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


def test_quiet_hours_never_delay_alerts(receiver: Receiver, tmp_path: Path) -> None:
    def sent_at(at: str, *kinds: str) -> list[str]:
        services = open_services(receiver.url())
        with Notifier(None, None, tmp_path, clock(at), services=services, settings=QUIET) as told:
            for kind in kinds:
                told.send_notice(kind, kind)
            assert told.flush(PATIENCE)
        return receiver.texts()

    harmless = [ALL_CLEAR, TRADING_PAUSED, STOP_FILLED, DAILY_SUMMARY]
    urgent = ["halt drawdown", "refused reduction", "stopped", "waiting trade", "failing trade"]
    assert sent_at(NIGHT, *harmless, *urgent) == urgent
    assert sent_at(MORNING) == [*urgent, *harmless]


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("22:00-07:00", ["22:00", "23:59", "00:00", "06:59"], ["07:00", "12:00", "21:59"]),
        ("09:30-16:00", ["09:30", "15:59"], ["09:29", "16:00", "00:00"]),
    ],
)
def test_quiet_hours_follow_the_zones_clock(
    hours: str, inside: list[str], outside: list[str]
) -> None:
    settings = NoticeSettings(quiet=hours, time_zone="Europe/Berlin")
    quiet = settings.quiet_hours()
    assert isinstance(quiet, QuietHours)
    # Berlin is one hour ahead of UTC in winter and two in summer.
    for day, offset in (("2024-02-21", 1), ("2024-07-03", 2)):
        for times, expected in ((inside, True), (outside, False)):
            for each in times:
                at = np.datetime64(f"{day}T{each}", "ns") - np.timedelta64(offset, "h")
                assert quiet.contains(at) == expected, (day, each)


@pytest.mark.parametrize("hours", ["22-07", "22:00", "25:00-07:00", "07:00-07:00", "22:60-07:00"])
def test_invalid_quiet_hours_are_refused(hours: str) -> None:
    with refused(InputError, "notices.quiet", hours):
        NoticeSettings(quiet=hours)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd"])
def test_unknown_time_zone_is_refused(zone: str) -> None:
    with refused(InputError, "notices.time_zone", zone):
        NoticeSettings(time_zone=zone)
    assert ZoneInfo("America/New_York")


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
