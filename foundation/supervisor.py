"""Messages of a process to its supervisor: ready, alive, what it does.

systemd listens on a datagram socket that the environment names, and restarts a process that has
been silent for too long (sd_notify(3), sd_watchdog_enabled(3)).
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from foundation.errors import InputError

log = logging.getLogger(__name__)

SOCKET = "NOTIFY_SOCKET"
SEND_SECONDS = 1.0  # that a message may take where nobody reads


@dataclass(frozen=True, slots=True)
class Supervisor:
    """The supervisor of this process.

    address: of its socket, a path or an abstract name that begins with `@`; empty without one.
    watchdog: seconds between two signs of life, half of those after which a silent process is
        ended; none where they are not expected of this process.
    """

    address: str = ""
    watchdog: float | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Supervisor:
        """Return the supervisor that an environment names."""
        address = environment.get(SOCKET, "")
        if address and address[0] not in "/@":
            raise InputError(f"{SOCKET}: {address!r} is no path and no name after an @")
        process = _whole(environment, "WATCHDOG_PID")
        microseconds = _whole(environment, "WATCHDOG_USEC")
        if microseconds is None or process not in (None, os.getpid()):
            return cls(address)
        return cls(address, microseconds / 2e6)

    def notify(self, **fields: object) -> None:
        """Send fields, as `notify(READY=1, STATUS="waits for 15:30")`.

        A message that is lost is logged: a supervisor that hears nothing restarts the process.
        """
        if not self.address:
            return
        # A field ends with its line: a value of several lines would be several fields.
        lines = [f"{name}={' '.join(str(value).split())}" for name, value in fields.items()]
        address = os.fsencode(self.address)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(SEND_SECONDS)
                message = "\n".join(lines).encode(errors="replace")
                channel.sendto(message, b"\0" + address[1:] if address[:1] == b"@" else address)
        except OSError as error:
            log.warning("%s does not hear: %s", SOCKET, error.strerror or error)


def _whole(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    if text and (not (text.isascii() and text.isdigit()) or int(text) < 1):
        raise InputError(f"{name}: {text!r} is no whole number above 0")
    return int(text) if text else None
