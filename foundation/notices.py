"""Quiet hours of notices, and the services that apprise reaches: chats, mail, push messages.

The address of a service contains its secret. It comes from the environment, and no message, log
line or exception shows it, nor a part of it. Log lines of apprise show parts of addresses and are
therefore dropped.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, time
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from foundation.errors import InputError, not_installed_error
from foundation.settings import setting, settings_class

if TYPE_CHECKING:
    from apprise.plugins.base import NotifyBase

log = logging.getLogger(__name__)

URLS_KEY = "notice_urls"  # setting with the addresses of all services
ALL_CLEAR = "all clear"  # kind of a notice that an alert's cause has ended
TRADING_PAUSED = "trading paused"  # kind of a notice that a venue is paused; no action needed
STOP_FILLED = "stop filled"  # kind of a notice that a protective order has traded
DAILY_SUMMARY = "daily summary"  # kind of the summary of a session
# Kinds of notices that need no person. Only these wait for the end of quiet hours.
INFORMATIONAL_NOTICE_KINDS = (ALL_CLEAR, TRADING_PAUSED, STOP_FILLED, DAILY_SUMMARY)
_HOURS_PATTERN = re.compile(r"\d\d:\d\d-\d\d:\d\d", re.ASCII)


def alert_heading(kind: str) -> str:
    """Return the first words of a notice's log line: `ALERT kind`, or the kind in capitals."""
    return kind.upper() if kind in INFORMATIONAL_NOTICE_KINDS else f"ALERT {kind}"


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Hours of each day from `begin` up to `end`, over midnight if `end` is the earlier one."""

    begin: time
    end: time
    zone: ZoneInfo

    def contains(self, at: np.datetime64) -> bool:
        """Return whether an instant, UTC, is within the hours."""
        utc = at.astype("datetime64[us]").item().replace(tzinfo=UTC)
        local = utc.astimezone(self.zone).time()
        if self.begin < self.end:
            return bool(self.begin <= local < self.end)
        return bool(local >= self.begin or local < self.end)


@settings_class("notices")
class NoticeSettings:
    """Settings of notices: hours without those that need no person, and the daily summary."""

    quiet: str | None = setting(
        None,
        "hours in which all clears, pauses of the venue, filled stops and summaries wait, as"
        ' "22:00-07:00"; alerts that need a person are always sent; null: no hours',
    )
    time_zone: str = setting("America/New_York", "time zone of `quiet`")
    summary: bool = setting(
        False, "whether a summary is sent 15 minutes after the close of each session"
    )

    def __post_init__(self) -> None:
        self.quiet_hours()

    def quiet_hours(self) -> QuietHours | None:
        """Return the quiet hours; None without any. Raises InputError for invalid settings."""
        try:
            zone = ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise InputError(
                f"notices.time_zone: {self.time_zone!r} is not a time zone; write one such as"
                " Europe/Berlin"
            ) from error
        if self.quiet is None:
            return None
        begin = end = time(0)
        with suppress(ValueError):
            if _HOURS_PATTERN.fullmatch(self.quiet):
                begin, end = map(time.fromisoformat, self.quiet.split("-"))
        if begin == end:
            raise InputError(
                f"notices.quiet: {self.quiet!r} is not two different times of day; write"
                ' notices.quiet="22:00-07:00"'
            )
        return QuietHours(begin, end, zone)


class NoticeService:
    """A service that apprise sends notices to.

    name: name of the service in log lines, which does not show its address.
    """

    def __init__(self, name: str, plugin: NotifyBase) -> None:
        self.name = name
        self._plugin = plugin

    def send(self, notice: Mapping[str, str]) -> bool:
        """Send a notice; return whether the service accepted it.

        A long text becomes several messages. The picture of a notice is attached if its file still
        exists and the service takes files.
        """
        from apprise import AppriseAttachment, NotifyFormat, NotifyType, OverflowMode

        kind, picture = notice["kind"], notice.get("picture", "")
        harmless = kind in INFORMATIONAL_NOTICE_KINDS
        try:
            accepted = self._plugin.notify(
                body=notice["text"],
                title=alert_heading(kind),
                notify_type=NotifyType.INFO if harmless else NotifyType.FAILURE,
                body_format=NotifyFormat.TEXT,
                overflow=OverflowMode.SPLIT,
                attach=AppriseAttachment(picture) if picture and Path(picture).is_file() else None,
            )
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; its text may contain the address
            log.warning("%s: the notice was not sent (%s)", self.name, type(error).__name__)
            return False
        if not accepted:
            log.warning(
                "%s: the notice was not accepted; `apprise -vv -b test URL` shows why", self.name
            )
        return bool(accepted)


def open_services(urls: str | None) -> list[NoticeService]:
    """Return the services with these addresses; raise InputError for one that apprise rejects.

    urls: addresses, separated by white space; None: no services.
    """
    if not (addresses := (urls or "").split()):
        return []
    try:
        from apprise import Apprise, AppriseAsset
    except ModuleNotFoundError:
        raise not_installed_error("apprise", URLS_KEY, "notices") from None
    silenced = logging.getLogger("apprise")
    silenced.propagate = False
    silenced.handlers = [logging.NullHandler()]
    services = []
    asset = AppriseAsset(secure_logging=True, app_id="kelly-chronos", app_desc="kelly-chronos")
    for number, address in enumerate(addresses, start=1):
        plugin = Apprise.instantiate(address, asset=asset)
        if plugin is None:
            raise InputError(
                f"{URLS_KEY}: address {number} of {len(addresses)} is not one that apprise knows"
                " (not shown, because it may contain a secret); write it as apprise's documentation"
                " of the service does, and encode spaces as %20"
            )
        services.append(NoticeService(f"{URLS_KEY} {number} ({plugin.service_name})", plugin))
    return services
