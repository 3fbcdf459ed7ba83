"""Notices to the operator, and liveness messages to the supervisor of a process.

A heartbeat is sent every five minutes, and an alert when the operator has to act. Each recipient
has a thread of its own, so that one that does not respond delays neither the process nor another
recipient. An alert is sent repeatedly until its recipient accepts it, also after a restart;
meanwhile other alerts are sent. Addresses may contain secrets, so that only their host is printed.

systemd listens on a datagram socket that an environment variable names. It restarts a process that
sends no liveness message for too long (sd_notify(3), sd_watchdog_enabled(3)).
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from foundation.clock import SYSTEM_TIME, TimeSource
from foundation.errors import InputError
from foundation.files import write_atomically
from foundation.notices import (
    INFORMATIONAL_NOTICE_KINDS,
    NoticeService,
    NoticeSettings,
    alert_heading,
    open_services,
)
from foundation.settings import setting, settings_class

if TYPE_CHECKING:
    from requests import Session

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 300.0  # seconds between heartbeats
REQUEST_TIMEOUT_SECONDS = (3.0, 5.0)  # seconds to connect, and to wait for the next bytes
NOTICE_DEADLINE_SECONDS = 10.0  # seconds that a notice may take
FIRST_RETRY_SECONDS = 5.0  # seconds before a failed notice is sent again, doubled every time
MAX_RETRY_SECONDS = 300.0
EXIT_WAIT_SECONDS = 10.0  # seconds that a process waits for its alerts when it ends
UNDELIVERED_FILE = "undelivered_alerts.json"  # notices for `alert_url`
UNDELIVERED_SERVICE_FILE = "undelivered_alerts_{number}.json"  # notices for a service
MAX_ALERT_CHARACTERS = 4000  # characters of an alert
MAX_DISCORD_CHARACTERS = 2000  # characters that Discord accepts
MAX_LOGGED_TEXTS = 100  # different texts of one alert that are logged
MAX_QUEUED_ALERTS = 1000  # maximum of pending alerts; the oldest are dropped beyond it
THREAD_NAME = "notices"
SOCKET_ENV_VARIABLE = "NOTIFY_SOCKET"
SEND_TIMEOUT_SECONDS = 1.0  # seconds that a message may take if the supervisor does not read


Notice = Mapping[str, str]  # `text`, `content` and `kind`; empty for a heartbeat


def _build_notice(kind: str, text: str) -> Notice:
    return {
        "text": text[:MAX_ALERT_CHARACTERS],
        "content": text[:MAX_DISCORD_CHARACTERS],
        "kind": kind,
    }


class AlertRecorder(Protocol):
    """A store that records alerts in addition to their delivery."""

    def record_alert(self, kind: str, text: str) -> None: ...


class DeliveryQueue:
    """Pending notices of one recipient, which a thread sends until the recipient accepts them.

    send: function that sends a notice and returns whether the recipient accepted it.
    path: file that stores pending notices over a restart; None stores none.
    limit: maximum of pending notices; the oldest are dropped beyond it.
    """

    def __init__(
        self,
        send: Callable[[Notice], bool],
        path: Path | None = None,
        limit: int = MAX_QUEUED_ALERTS,
    ) -> None:
        self._send = send
        self._path = path
        self._changed = threading.Condition()
        self._woken = False
        self._ended = False
        self._waiting = deque(self._load(), maxlen=limit)
        self._thread: threading.Thread | None = None
        if self._waiting:
            self._wake()

    def put(self, notice: Notice, *, skip_if_pending: bool = False) -> None:
        """Add a notice.

        skip_if_pending: true to skip a notice that is already pending, such as a notice left by a
            killed process.
        """
        with self._changed:
            if not (skip_if_pending and notice in self._waiting):
                self._waiting.append(notice)
            self._save()
        self._wake()

    def flush(self, seconds: float) -> bool:
        """Wait at most `seconds` until all notices are delivered; return whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout=seconds)

    def end(self) -> None:
        """Let the thread end after its present request."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        if self._thread is not None:
            self._thread.join(seconds)

    def _wake(self) -> None:
        with self._changed:
            self._woken = True
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._deliver, name=THREAD_NAME, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _deliver(self) -> None:
        """Send pending notices until the queue or the process ends."""
        pause = FIRST_RETRY_SECONDS
        while not self._ended:
            with self._changed:
                pending = list(self._waiting)
                self._woken = False
            for notice in pending:
                if self._ended:
                    break
                if self._send(notice):
                    self._remove(notice)
            with self._changed:
                pause = pause if self._waiting else FIRST_RETRY_SECONDS
                self._changed.wait_for(
                    lambda: self._woken or self._ended, pause if self._waiting else None
                )
                pause = min(2 * pause, MAX_RETRY_SECONDS)

    def _remove(self, notice: Notice) -> None:
        with self._changed:
            # Newer notices may have displaced it.
            if notice in self._waiting:
                self._waiting.remove(notice)
            self._save()
            self._changed.notify_all()

    def _load(self) -> list[Notice]:
        """Return the undelivered notices of an earlier process."""
        if self._path is None:
            return []
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            return [_build_notice(str(each["kind"]), str(each["text"])) for each in kept]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            log.warning("%s: undelivered alerts cannot be read: %s", self._path, error)
            return []

    def _save(self) -> None:
        if self._path is None:
            return
        try:
            if self._waiting:
                write_atomically(self._path, json.dumps(list(self._waiting)).encode())
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s: undelivered alerts cannot be saved: %s", self._path, error)


class Notifier:
    """Sender of heartbeats and notices; an address of None disables them.

    On exit from its context it waits up to ten seconds for pending notices and for its threads.

    healthcheck: address that is requested at every heartbeat.
    alerts: address to which a JSON object {text, content, kind} is posted; text and content are the
        first 4000 and 2000 characters of the alert.
    folder: folder that stores undelivered alerts over a restart; None stores none.
    time: clock of the heartbeats.
    subject: subject of all notices, such as an account, with which their delivered texts begin.
    services: services that receive the same notices.
    settings: whether a daily summary is sent.
    """

    def __init__(
        self,
        healthcheck: str | None,
        alerts: str | None,
        folder: Path | None = None,
        time: TimeSource = SYSTEM_TIME,
        *,
        subject: str = "",
        services: Sequence[NoticeService] = (),
        settings: NoticeSettings | None = None,
    ) -> None:
        self.settings = settings or NoticeSettings()
        self._subject = subject
        self._time = time
        self._beat_at: float | None = None
        self._raised: dict[str, set[str]] = {}
        self._record: AlertRecorder | None = None
        self._heartbeats: DeliveryQueue | None = None
        if healthcheck is not None:
            self._heartbeats = DeliveryQueue(
                HttpAddress("HEALTHCHECK_URL", healthcheck).request_once, limit=1
            )
        senders: dict[str, Callable[[Notice], bool]] = {}
        if alerts is not None:
            senders[UNDELIVERED_FILE] = HttpAddress("ALERT_URL", alerts).post_notice
        for number, service in enumerate(services, start=1):
            senders[UNDELIVERED_SERVICE_FILE.format(number=number)] = service.send
        self._recipients = [
            DeliveryQueue(send, None if folder is None else folder / name)
            for name, send in senders.items()
        ]

    def __enter__(self) -> Notifier:
        return self

    def __exit__(self, *_: object) -> None:
        end = self._time.monotonic() + EXIT_WAIT_SECONDS
        self.flush(EXIT_WAIT_SECONDS)
        for queue in self._queues:
            queue.end()
        for queue in self._queues:
            queue.join(max(end - self._time.monotonic(), 0.0))

    @property
    def _queues(self) -> list[DeliveryQueue]:
        return [*self._recipients, *([self._heartbeats] if self._heartbeats else [])]

    def add_recorder(self, record: AlertRecorder) -> None:
        """Register a record that stores every later alert in addition to its delivery."""
        self._record = record

    def send_heartbeat(self) -> None:
        """Send a heartbeat if five minutes have passed since the last one."""
        now = self._time.monotonic()
        if self._heartbeats is None or (
            self._beat_at is not None and now - self._beat_at < HEARTBEAT_SECONDS
        ):
            return
        self._beat_at = now
        self._heartbeats.put({})

    def alert(self, kind: str, text: str) -> None:
        """Send and log an alert of a kind once, until `reset_alert` resets the kind.

        Further texts of the same kind are only logged.
        """
        if (logged := self._raised.get(kind)) is not None:
            if text not in logged and len(logged) < MAX_LOGGED_TEXTS:
                logged.add(text)
                log.warning("still %s: %s", kind, text)
            return
        self._raised[kind] = {text}
        self.send_notice(kind, text)

    def send_notice(self, kind: str, text: str, *, skip_if_pending: bool = False) -> None:
        """Send and log a notice at every call, even if one of the same kind has been sent.

        skip_if_pending: true to skip recipients for which an identical notice is pending.
        """
        self.send_unrecorded(kind, text, skip_if_pending=skip_if_pending)
        level = logging.WARNING if kind in INFORMATIONAL_NOTICE_KINDS else logging.ERROR
        log.log(level, "%s: %s", alert_heading(kind), text)
        if self._record is not None:
            self._record.record_alert(kind, text)

    def send_unrecorded(self, kind: str, text: str, *, skip_if_pending: bool = False) -> None:
        """Send a notice that is neither logged nor recorded as an alert.

        skip_if_pending: see `send_notice`.
        """
        sent = f"{self._subject}: {text}" if self._subject else text
        for recipient in self._recipients:
            recipient.put(_build_notice(kind, sent), skip_if_pending=skip_if_pending)

    def reset_alert(self, kind: str) -> None:
        """Reset a kind of alert, so that its next alert is sent."""
        self._raised.pop(kind, None)

    def update_alert(self, kind: str, text: str) -> None:
        """Send an alert of a kind; an empty text resets the kind instead."""
        if text:
            self.alert(kind, text)
        else:
            self.reset_alert(kind)

    def flush(self, seconds: float) -> bool:
        """Wait at most `seconds` for delivery of all notices; return whether all are."""
        end = self._time.monotonic() + seconds
        results = [queue.flush(max(end - self._time.monotonic(), 0.0)) for queue in self._queues]
        return all(results)


class HttpAddress:
    """An address that is requested over HTTP; it may contain a secret.

    name: name of the setting with the address, for log lines.
    """

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._url = url
        # The debug lines of requests show addresses.
        logging.getLogger("urllib3.connectionpool").addFilter(_is_not_about_a_notice)

    @cached_property
    def _session(self) -> Session:
        from requests import Session

        from foundation.transport import RateLimiter, Transport

        session = Session()
        for scheme in ("http://", "https://"):
            session.mount(
                scheme,
                Transport(REQUEST_TIMEOUT_SECONDS, NOTICE_DEADLINE_SECONDS, 1, RateLimiter(None)),
            )
        return session

    def post_notice(self, notice: Notice) -> bool:
        """Post a notice; return whether the address accepted it."""
        return _sent(self._session, self._name, self._url, notice)

    def request_once(self, _: Notice) -> bool:
        """Request the address; return true, because a failed heartbeat is not repeated."""
        _sent(self._session, self._name, self._url)
        return True


def deliver_test_alert(url: str | None, services: Sequence[NoticeService] = ()) -> bool:
    """Send a test alert to an address and to services; return whether all accepted it."""
    with Notifier(None, url, services=services) as notices:
        notices.send_notice("test", "test alert: no action is required")
        return notices.flush(EXIT_WAIT_SECONDS)


def _is_not_about_a_notice(record: logging.LogRecord) -> bool:
    return record.threadName != THREAD_NAME


def _sent(session: Session, name: str, url: str, body: Notice | None = None) -> bool:
    """Send a notice; return whether the address accepted it.

    name: name of the setting with the address, for log lines.
    body: JSON object to post; None: a GET request without a body.
    """
    from requests import RequestException

    host = urlsplit(url).hostname
    try:
        answer = session.request("GET" if body is None else "POST", url, json=body)
    except (RequestException, ValueError, OSError) as error:
        log.warning("%s: no response from %s (%s)", name, host, type(error).__name__)
        return False
    if not answer.ok:
        log.warning("%s: %s responded with status %d", name, host, answer.status_code)
    return bool(answer.ok)


@settings_class()
class MonitoringSettings:
    """Settings of monitoring: recipients of a loop's notices, and the limit on failed cycles."""

    max_failed_cycles: int = setting(
        3, "consecutive failed cycles or ticks after which the process ends", ge=1, le=1000
    )
    healthcheck_url: str | None = setting(
        None, "URL requested every five minutes while the loop makes progress", hidden=True
    )
    alert_url: str | None = setting(
        None, "URL that receives alerts that need a person", hidden=True
    )
    notice_urls: str | None = setting(
        None,
        "addresses of services that receive the same alerts, in apprise's form, separated by"
        " spaces",
        hidden=True,
    )
    notices: NoticeSettings = setting(NoticeSettings(), "the daily summary")

    def __post_init__(self) -> None:
        check_url("healthcheck_url", self.healthcheck_url)
        check_url("alert_url", self.alert_url)
        open_services(self.notice_urls)


def check_url(name: str, url: str | None) -> None:
    """Raise `InputError` unless a URL is an http or https address with a host.

    The message does not show the URL, which may contain a secret.

    name: name of the setting.
    url: the URL; None is valid.
    """
    try:
        parts = urlsplit(url or "http://none")
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise InputError(
            f"{name}: not an http or https address with a host (value not shown, because it may"
            " contain a secret); correct it"
        )


@dataclass(frozen=True, slots=True)
class Supervisor:
    """The process supervisor, such as systemd, to which liveness messages are sent.

    socket_address: socket of the supervisor, a path or an abstract name that begins with `@`; empty
        without a supervisor.
    watchdog_seconds: seconds between two liveness messages, half of the supervisor's timeout; None
        if the supervisor expects none from this process.
    """

    socket_address: str = ""
    watchdog_seconds: float | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Supervisor:
        """Return the supervisor that environment variables describe.

        Raises InputError for an invalid address or number.
        """
        address = environment.get(SOCKET_ENV_VARIABLE, "")
        if address and address[0] not in "/@":
            raise InputError(
                f"{SOCKET_ENV_VARIABLE}: {address!r} is not a socket address; it must start with /"
                " or @"
            )
        process = _whole(environment, "WATCHDOG_PID")
        microseconds = _whole(environment, "WATCHDOG_USEC")
        if microseconds is None or process not in (None, os.getpid()):
            return cls(address)
        return cls(address, microseconds / 2e6)

    def notify(self, **fields: object) -> None:
        """Send fields to the supervisor, as in `notify(READY=1, STATUS="waits for 15:30")`.

        A message that cannot be sent is only logged, because a supervisor that receives none
        restarts the process anyway.
        """
        if not self.socket_address:
            return
        # A field ends with its line: a multi-line value would become several fields.
        lines = [f"{name}={' '.join(str(value).split())}" for name, value in fields.items()]
        address = os.fsencode(self.socket_address)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(SEND_TIMEOUT_SECONDS)
                message = "\n".join(lines).encode(errors="replace")
                channel.sendto(message, b"\0" + address[1:] if address[:1] == b"@" else address)
        except OSError as error:
            log.warning(
                "%s: message not delivered to the supervisor: %s",
                SOCKET_ENV_VARIABLE,
                error.strerror or error,
            )


def _whole(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    if text and (not (text.isascii() and text.isdigit()) or int(text) < 1):
        raise InputError(f"{name}: {text!r} is not a whole number above 0")
    return int(text) if text else None
