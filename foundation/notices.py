"""Kinds of notices, and the services that apprise reaches: chats, mail, push messages.

The address of a service contains its secret. It comes from the environment, and no message, log
line or exception shows it, nor a part of it. Log lines of apprise show parts of addresses and are
therefore dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

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
# Kinds of notices that need no action by a person.
INFORMATIONAL_NOTICE_KINDS = (ALL_CLEAR, TRADING_PAUSED, STOP_FILLED, DAILY_SUMMARY)


def alert_heading(kind: str) -> str:
    """Return the first words of a notice's log line: `ALERT kind`, or the kind in capitals."""
    return kind.upper() if kind in INFORMATIONAL_NOTICE_KINDS else f"ALERT {kind}"


@settings_class("notices")
class NoticeSettings:
    """Settings of notices that need no person."""

    summary: bool = setting(
        False, "whether a summary is sent 15 minutes after the close of each session"
    )


class NoticeService:
    """A service that apprise sends notices to.

    name: name of the service in log lines, which does not show its address.
    """

    def __init__(self, name: str, plugin: NotifyBase) -> None:
        self.name = name
        self._plugin = plugin

    def send(self, notice: Mapping[str, str]) -> bool:
        """Send a notice; return whether the service accepted it.

        A long text is split into several messages.
        """
        from apprise import NotifyFormat, NotifyType, OverflowMode

        kind = notice["kind"]
        harmless = kind in INFORMATIONAL_NOTICE_KINDS
        try:
            accepted = self._plugin.notify(
                body=notice["text"],
                title=alert_heading(kind),
                notify_type=NotifyType.INFO if harmless else NotifyType.FAILURE,
                body_format=NotifyFormat.TEXT,
                overflow=OverflowMode.SPLIT,
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
