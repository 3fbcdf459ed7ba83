"""Notices to the operator: a heartbeat every five minutes, an alert when something needs a person.

They go to addresses of the operator's. A notice that cannot be sent is logged and stops nothing.
Addresses may hold secrets: only their host is ever printed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from foundation.errors import InputError

log = logging.getLogger(__name__)

BEAT = 300.0  # seconds between heartbeats
PATIENCE = (3.0, 5.0)  # seconds to connect, and to answer


class Notices:
    """Sends heartbeats and alerts; None for an address sends none.

    healthcheck: address that is read at every heartbeat.
    alerts: address that a JSON object {text, kind} is posted to.
    clock: seconds that only increase.
    """

    def __init__(
        self,
        healthcheck: str | None,
        alerts: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._healthcheck = healthcheck
        self._alerts = alerts
        self._clock = clock
        self._beat_at: float | None = None
        self._raised: set[str] = set()

    def beat(self) -> None:
        """Send a heartbeat, if five minutes have passed since the last one."""
        now = self._clock()
        if self._healthcheck is None or (self._beat_at is not None and now - self._beat_at < BEAT):
            return
        self._beat_at = now
        self._send("HEALTHCHECK_URL", self._healthcheck)

    def alert(self, kind: str, text: str) -> None:
        """Send and log an alert of a kind, once until `end_alert` says that its cause has ended."""
        if kind in self._raised:
            return
        self._raised.add(kind)
        log.error("ALERT %s: %s", kind, text)
        if self._alerts is not None:
            self._send("ALERT_URL", self._alerts, {"text": text, "kind": kind})

    def end_alert(self, kind: str) -> None:
        """Note that the cause of an alert has ended: the next one of its kind is sent."""
        self._raised.discard(kind)

    @staticmethod
    def _send(name: str, url: str, body: dict[str, Any] | None = None) -> None:
        import requests

        host = urlsplit(url).hostname
        method = "GET" if body is None else "POST"
        try:
            answer = requests.request(method, url, json=body, timeout=PATIENCE)
        except requests.RequestException as error:
            log.warning("%s: %s did not answer (%s)", name, host, type(error).__name__)
            return
        if not answer.ok:
            log.warning("%s: %s answered %d", name, host, answer.status_code)


def check_url(name: str, url: str | None) -> None:
    """Refuse what is no http or https address with a host, without printing it.

    name: of the setting.

    Raises
    ------
    InputError
        naming the setting.
    """
    try:
        parts = urlsplit(url or "http://none")
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise InputError(
            f"{name}: it is no http or https address with a host (not printed here, it may hold a"
            " secret)"
        )
