"""Telling someone outside: a heartbeat every five minutes, an alert where something needs a person.

Both are addresses of the operator's own; what cannot be told is logged, and stops nothing.
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
    """healthcheck: address that is asked; alerts: address that a JSON object {text, kind} is
    posted to. None: nobody.
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
        """Say that all is well, if five minutes have passed since it was said last."""
        now = self._clock()
        if self._healthcheck is None or (self._beat_at is not None and now - self._beat_at < BEAT):
            return
        self._beat_at = now
        self._told("HEALTHCHECK_URL", self._healthcheck)

    def alert(self, kind: str, text: str) -> None:
        """Tell of something, once until it is `over`; it is logged as an error either way."""
        if kind in self._raised:
            return
        self._raised.add(kind)
        log.error("ALERT %s: %s", kind, text)
        if self._alerts is not None:
            self._told("ALERT_URL", self._alerts, {"text": text, "kind": kind})

    def over(self, kind: str) -> None:
        """What was told of has ended: next time it is told again."""
        self._raised.discard(kind)

    @staticmethod
    def _told(name: str, url: str, body: dict[str, Any] | None = None) -> None:
        import requests

        host = urlsplit(url).hostname
        try:
            answer = requests.request(
                "GET" if body is None else "POST", url, json=body, timeout=PATIENCE
            )
        except requests.RequestException as error:
            log.warning("%s: %s did not answer (%s)", name, host, type(error).__name__)
            return
        if not answer.ok:
            log.warning("%s: %s answered %d", name, host, answer.status_code)


def check_url(name: str, url: str | None) -> None:
    """Refuse what is no address; it is not printed.

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
